"""The demo's story as data: what the platform sends, what must come of it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.protocol.codec import CHINA_OFFSET_S
from agent.protocol.commands import (
    Configure,
    ConfigureSite,
    Empty,
    Period,
    QrCode,
    QueryRecords,
    QueryReservation,
    Reboot,
    Reserve,
    SetHeartbeat,
    SetTariff,
    StartStop,
    Upgrade,
    UpgradePackage,
)
from agent.protocol.results import Result
from agent.protocol.rules import DAY_S
from agent.version import VERSION
from sim.maker import Maker
from sim.site import FTP_LOGIN, PILE, Site

Do = dict[str, Any]
Check = Callable[["Site"], str]  # what is wrong; empty when all is as expected
OK, ACCEPTED = Result.OK, Result.ACCEPTED
CAP_FEN = 5
DEARER_IN_S = 8
NEXT = f"{VERSION}+demo"
FORGED, BOARD_IMAGE, RELEASE = "/forged.bundle", "/pb-2.0.0.bundle", "/pile-agent.bundle"


@dataclass(frozen=True)
class Step:
    """One command and all that must come of it, in order: ``replies`` to it, then ``reports`` (command, result) that
    answer an earlier command or nobody."""

    says: str
    number: int
    data: Sequence[Any] | Callable[[], Sequence[Any]]  # a call where it depends on the hour
    replies: tuple[Result, ...]
    first: tuple[Do, ...] = ()  # what happens at the board before
    reports: tuple[tuple[int, Result], ...] = ()
    records: bool = False  # the reply says how many records follow, each with OK
    check: Check | None = None
    cut: bool = False  # the pile's network, from the last reply until the charge is over
    age_s: int = 0  # the command was sent so long ago
    again: bool = False  # the very same line as the step before
    line: str = ""  # a literal line instead of ``data``; {now} is the time in ms
    timeout_s: float = 20.0
    settle_s: float = 0.6  # watched on after the last message

    @property
    def values(self) -> Sequence[Any]:
        return self.data() if callable(self.data) else self.data


def start(gun: int, order: str, prepaid_fen: int = 500) -> StartStop:
    return StartStop(1, PILE, gun, "U1001", 10_000, prepaid_fen, 0, order)


def stop(gun: int, order: str) -> StartStop:
    return StartStop(2, PILE, gun, "U1001", 0, 0, 0, order)


def gun_has(number: int, **expected: object) -> Check:
    """The board says so of the gun's ``state``, ``order``, …"""

    def check(site: Site) -> str:
        gun = _gun_state(site, number)
        wrong = {key: gun[key] for key, value in expected.items() if gun[key] != value}
        return f"gun {number} has {wrong}, expected {expected}" if wrong else ""

    return check


def _gun_state(site: Site, number: int) -> Any:
    return site.board({"do": "state"})["state"]["guns"][number - 1]


def dearer_soon(in_s: int = DEARER_IN_S) -> SetTariff:
    """1.50 yuan per kWh, and 3.00 from a few seconds on: the next charge begins before and ends after."""
    boundary_s = (int(time.time()) + CHINA_OFFSET_S + in_s) % DAY_S
    boundary_s += boundary_s % 60 == 59  # as an end, :59 would mean the next second
    return SetTariff("T7", 0, (
        Period((boundary_s + 12 * 3600) % DAY_S, boundary_s or DAY_S, 100_000, 50_000),
        Period(boundary_s, (boundary_s + 12 * 3600) % DAY_S or DAY_S, 200_000, 100_000),
    ))  # fmt: skip


def bill_is_right(site: Site) -> str:
    """``pile-agent bill`` recomputes it: two prices, no more than was paid, and it adds up."""
    bill = site.bill("20261122000002")
    if not bill or bill["faults"] or len(bill["segments"]) != 2 or not 0 < bill["total_fen"] <= CAP_FEN:
        return f"the bill is {bill}, expected two segments and at most {CAP_FEN} fen"
    return ""


def linux_board_rebooted(site: Site) -> str:
    return "" if site.reboot_mark.exists() else "the Linux board's reboot command did not run"


def announced(site: Site, record_id: str) -> Upgrade:
    return Upgrade(f"127.0.0.1:{site.ftp.port}", *FTP_LOGIN, "1", VERSION, record_id)


def put_firmware(folder: Path, maker: Maker) -> None:
    """What the FTP server has: the maker's image and release, and an image by somebody else."""
    maker.board(folder / BOARD_IMAGE[1:], "2.0.0")
    maker.release(folder / RELEASE[1:], NEXT)
    Maker().board(folder / FORGED[1:], "2.0.0")


def board_runs(version: str) -> Check:
    def check(site: Site) -> str:
        found = site.board({"do": "state"})["state"]["firmware"]["version"]
        return "" if found == version else f"the power board runs {found}, expected {version}"

    return check


def agent_runs(version: str) -> Check:
    def check(site: Site) -> str:
        found = site.status()["version"]
        return "" if found == version else f"the agent is {found}, expected {version}"

    return check


def story(site: Site) -> list[Step]:
    """The whole demo, in order."""
    now_s = int(time.time())
    return [
        Step("How is the pile?", 100, Empty(), (OK,)),
        Step("Which versions run on it?", 112, Empty(), (OK,)),
        Step("Report every 20 s.", 107, SetHeartbeat(20, 60), (OK,)),
        Step("Start gun 1; but no car is there.", 101, start(1, "20261122000001"), (Result.NOT_PLUGGED,)),
        Step("A driver plugs in. Start gun 1.", 101, start(1, "20261122000001"), (ACCEPTED, OK),
             first=({"do": "plug", "gun": 1},),
             check=gun_has(1, state="charging", order="20261122000001")),
        Step("The network repeats that very message.", 101, (), (Result.DUPLICATE,), again=True,
             check=gun_has(1, state="charging")),
        Step("A start that was under way for ten minutes.", 101, start(2, "20261122000009"), (Result.EXPIRED,),
             age_s=600),
        Step("Reboot gun 1, which is charging.", 108, Reboot(1), (Result.DEFERRED,),
             check=gun_has(1, state="charging")),
        Step("Stop gun 1; the reboot that waited follows.", 101, stop(1, "20261122000001"), (ACCEPTED, OK),
             reports=((108, OK),)),
        Step("Energy becomes dearer in some seconds.", 110, dearer_soon, (OK,)),
        Step("Start gun 2 with 5 fen. The link is cut, the cap reached.", 101, start(2, "20261122000002", CAP_FEN),
             (ACCEPTED, OK), first=({"do": "plug", "gun": 2},), cut=True, reports=((101, OK),), check=bill_is_right,
             timeout_s=60),
        Step("A line with a fault in it.", 101, (), (Result.MALFORMED,),
             line=f"127.0.0.1,API:2.0.2,101,{{now}},{PILE},1,{PILE},one,U1001,0,500,0,20261122000003"),
        Step("Reboot the whole pile.", 108, Reboot(0), (OK,), check=linux_board_rebooted, settle_s=4.0),
        Step("Reserve gun 1 for U2002, for an hour.", 102, Reserve(1, "U2002", 1, now_s, now_s + 3600), (OK,)),
        Step("Who has reserved gun 1?", 103, QueryReservation(1), (OK,)),
        Step("U1001 wants to charge there.", 101, start(1, "20261122000004"), (Result.RESERVED,)),
        Step("U2002 does not come: cancel.", 102, Reserve(2, "U2002", 1, 0, 0), (OK,)),
        Step("What has happened here? Send the events.", 104, QueryRecords(3), (ACCEPTED,), records=True),
        Step("Did they all arrive?", 105, Empty(), (OK,)),
        Step("Set the local parameters.", 106,
             Configure(3, 32, 1, 1, 100, 2, 1000, 1, "admin", "secret", 30, "127.0.0.1", site.broker.port,
                       (QrCode("https://pay.example/?pile=1,gun=1", 1),)), (ACCEPTED, OK),
             check=gun_has(1, current_limit_da=320, mode="cv", phases="three")),
        Step("You stand here.", 109, ConfigureSite(1, 121.4737, 31.2304, 12, 3, "ST01", "310000", 4), (OK,)),
        Step("A driver charged by card meanwhile. Send the bills.", 104, QueryRecords(1), (ACCEPTED,), records=True,
             first=({"do": "card", "gun": 1}, {"do": "state"}, {"do": "card", "gun": 1}, {"do": "state"}),
             reports=((101, OK), (101, OK))),
        Step("Is there an upgrade?", 111, Empty(), (OK,)),
        Step("New firmware for the power board is on the FTP server.", 113, announced(site, "R7"), (OK,)),
        Step("Take this file; but somebody else signed it.", 114, UpgradePackage("2.0.0", "R7", FORGED, 512),
             (ACCEPTED, Result.NOT_AUTHENTIC), check=board_runs("1.4.2")),
        Step("Once more, from the start.", 113, announced(site, "R8"), (OK,)),
        Step("Take the maker's.", 114, UpgradePackage("2.0.0", "R8", BOARD_IMAGE, 512), (ACCEPTED, OK),
             check=board_runs("2.0.0"), timeout_s=60),
        Step("And there is a new release of the agent itself.", 113, announced(site, "R9"), (OK,)),
        Step("Install it: it has to prove itself.", 114, UpgradePackage(NEXT, "R9", RELEASE, 4096), (ACCEPTED, OK),
             check=agent_runs(NEXT), timeout_s=60),
        Step("How far is the upgrade?", 111, Empty(), (OK,)),
        Step("Which versions run now?", 112, Empty(), (OK,)),
        Step("And how is the pile now?", 100, Empty(), (OK,)),
    ]  # fmt: skip

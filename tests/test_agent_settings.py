"""106, 109, 102 and 103 by the real agent, and a simulated board that says what it was set to."""

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from site_helpers import FAST, working

from agent.protocol.commands import Configure, ConfigureSite, Empty, QrCode, QueryReservation, Reserve
from agent.protocol.results import GunStatus, Result
from agent.secret import is_password
from sim.site import Site
from sim.watch import Watch, timestamp_of

ACCEPTED, DEFERRED, OK = Result.ACCEPTED, Result.DEFERRED, Result.OK
PASSWORD = "sesame-4711"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site"), baud=115_200, speedup=2, settings={"line": FAST}) as site:
        yield site


@pytest.fixture
def watch(site: Site) -> Iterator[Watch]:
    with working(site) as watch:
        yield watch


def parameters(site: Site, **changes: Any) -> Configure:
    """One phase, 40 A, constant voltage (a new board has three, 250 A, constant current); the broker stays."""
    fields: dict[str, Any] = {
        "phase": 1, "max_current_a": 40, "mode": 1, "offline": 1, "offline_records": 100, "guns": 2, "gun_uses": 1000,
        "reservation": 1, "screen_account": "admin", "screen_password": PASSWORD, "heartbeat_s": 20,
        "server_ip": site.broker.host, "server_port": site.broker.port, "qr_codes": (QrCode("pay?a=1,b=2", 1),),
    }  # fmt: skip
    return Configure(**(fields | changes))


def board_has(watch: Watch, **expected: Any) -> bool:
    """Both guns of the board."""
    guns = [{key: watch.gun(number)[key] for key in expected} for number in (1, 2)]
    return guns == [expected, expected]


def in_journal(site: Site, key: str) -> Any:
    with sqlite3.connect(f"file:{site.folder / 'data' / 'journal.db'}?mode=ro", uri=True) as journal:
        rows = journal.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchall()
    return json.loads(rows[0][0]) if rows else None


def on_disk(site: Site) -> bytes:
    return b"".join(file.read_bytes() for file in Path(site.folder / "data").iterdir())


def test_a_106_reaches_the_boards_and_outlives_a_restart(site: Site, watch: Watch) -> None:
    line = watch.send(106, parameters(site))
    watch.until_answered(line, ACCEPTED, OK)
    assert board_has(watch, current_limit_da=400, mode="cv", phases="single")
    watch.restart_killed()
    watch.until_working()
    kept = watch.status()["parameters"]
    assert (kept["board"], kept["offline_records"]) == (
        {"current_limit_da": 400, "mode": "cv", "phases": "single"},
        100,
    )


def test_the_password_is_nowhere(site: Site, watch: Watch) -> None:
    watch.charge(1, "A1")
    line = watch.send(106, parameters(site))
    watch.until_answered(line, DEFERRED)
    assert PASSWORD.encode() not in on_disk(site)  # while the command is unfinished
    watch.until_answered(watch.stop(1, "A1"), ACCEPTED, OK)
    watch.until_answered(line, DEFERRED, OK)
    site.publish(line)  # and once more
    watch.until(lambda: len(watch.results(line)) == 3)
    assert watch.results(line)[2] is Result.DUPLICATE
    assert PASSWORD.encode() not in on_disk(site)
    assert PASSWORD not in json.dumps(watch.status())
    assert not [one for one in watch.seen if one.kind in ("log", "reply") and PASSWORD in str(one.what)]
    login = in_journal(site, "parameters")["screen_login"]
    assert is_password(PASSWORD, login)
    assert not is_password(PASSWORD + " ", login)
    assert login not in json.dumps(watch.status())


def test_a_malformed_106_leaves_no_password_either(site: Site, watch: Watch) -> None:
    line = watch.send(106, parameters(site))[:-6]  # the last QR code is cut off
    watch.until_answered(line, ACCEPTED, OK)
    stamp = int(timestamp_of(line)) + 1
    cut = b",".join([*line.split(b",")[:3], str(stamp).encode(), *line.split(b",")[4:]])[:-6]
    site.publish(cut)
    watch.until_answered(cut, Result.MALFORMED)
    assert PASSWORD.encode() not in on_disk(site)


def test_another_piles_password_is_not_logged(site: Site, watch: Watch) -> None:
    site.publish(site.command(106, parameters(site, screen_account="a"), pile="1"))
    watch.until(lambda: watch.status()["messages"].get("foreign"))
    watch.until(lambda: watch.logged("dropped as foreign"))
    assert not watch.logged(PASSWORD)


def test_a_board_that_refuses_keeps_what_it_had(site: Site, watch: Watch) -> None:
    watch.until_answered(watch.send(106, parameters(site)), ACCEPTED, OK)
    site.board({"do": "refuse"})
    line = watch.send(106, parameters(site, max_current_a=16, mode=2, heartbeat_s=99))
    watch.until_answered(line, ACCEPTED, Result.DEVICE_REFUSED)
    site.board({"do": "refuse", "on": False})  # the other gun may be on its way still: it is set back
    watch.until(lambda: board_has(watch, current_limit_da=400, mode="cv", phases="single"))
    assert watch.status()["parameters"]["board"]["current_limit_da"] == 400
    assert in_journal(site, "settings")["report_period_s"] == 20


def test_a_board_that_is_silent_refuses_the_whole(site: Site, watch: Watch) -> None:
    site.board({"do": "silent"})
    watch.until_answered(watch.send(106, parameters(site)), ACCEPTED, Result.DEVICE_SILENT)
    site.board({"do": "silent", "on": False})
    assert watch.status()["parameters"] is None


def test_mode_and_phases_wait_for_the_charge(site: Site, watch: Watch) -> None:
    watch.until_answered(watch.send(106, parameters(site)), ACCEPTED, OK)
    watch.charge(1, "A1")
    line = watch.send(106, parameters(site, mode=2, phase=3))
    watch.until_answered(line, DEFERRED)
    watch.until(lambda: watch.gun(2)["phases"] == "three")
    assert watch.gun(1)["state"] == "charging"
    watch.until_answered(watch.stop(1, "A1"), ACCEPTED, OK)
    watch.until_answered(line, DEFERRED, OK)
    assert board_has(watch, mode="cc", phases="three")


def test_the_limit_takes_effect_under_current(site: Site, watch: Watch) -> None:
    watch.until_answered(watch.send(106, parameters(site, max_current_a=40)), ACCEPTED, OK)
    watch.charge(1, "A1")
    watch.until_answered(watch.send(106, parameters(site, max_current_a=10)), ACCEPTED, OK)
    watch.until(lambda: 0 < watch.gun(1)["current_da"] <= 100)
    assert watch.gun(1)["state"] == "charging"


def test_a_limit_that_no_board_can_keep_is_refused(site: Site, watch: Watch) -> None:
    line = watch.send(106, parameters(site, max_current_a=251))
    watch.until_answered(line, Result.OUT_OF_RANGE)
    assert watch.replies(line)[0].body == "max_current_a: expected 6..250; what the power boards can keep"


def test_a_reservation_holds_across_a_restart(site: Site, watch: Watch) -> None:
    now_s = int(time.time())
    watch.until_answered(watch.send(102, Reserve(1, "U2002", 1, now_s, now_s + 3600)), OK)
    watch.restart_killed()
    watch.until_working()
    assert [gun["status"] for gun in watch.status()["guns"]] == ["reserved", "idle"]
    site.board({"do": "plug", "gun": 1})
    watch.until(lambda: watch.status()["guns"][0]["reading"]["plugged"])
    watch.until_answered(watch.start(1, "A1"), Result.RESERVED)
    line = watch.send(103, QueryReservation(1))
    watch.until_answered(line, OK)
    held = watch.replies(line)[0].body
    assert (held.held, held.account, held.start_s, held.end_s) == (1, "U2002", now_s, now_s + 3600)
    assert 3500 < held.left_s <= 3600
    heartbeat = watch.send(100, Empty())
    watch.until_answered(heartbeat, OK)
    assert watch.replies(heartbeat)[0].body.guns[0].status == GunStatus.RESERVED


def test_a_public_and_free_pile_charges_without_money(site: Site, watch: Watch) -> None:
    watch.until_answered(watch.send(109, ConfigureSite(1, 121.4737, 31.2304, 12, 3, "ST01", "310000", 3)), OK)
    assert watch.status()["site"]["operation"] == 3
    site.board({"do": "plug", "gun": 1})
    watch.until(lambda: watch.status()["guns"][0]["reading"]["plugged"])
    line = watch.start(1, "A1")
    watch.until_answered(line, ACCEPTED, OK)
    assert watch.status()["guns"][0]["session"]["cap_fen"] is None

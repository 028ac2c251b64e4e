"""Upgrades of a real site, as the platform orders them and sees them."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from site_helpers import FAST

from agent.protocol.commands import Empty, UpgradePackage
from agent.protocol.commands import Upgrade as Announcement
from agent.protocol.results import Result
from agent.version import VERSION
from sim.maker import Maker
from sim.site import FTP_LOGIN, Site
from sim.upgrades import files_with
from sim.watch import Watch

ACCEPTED, DEFERRED, OK = Result.ACCEPTED, Result.DEFERRED, Result.OK


class Upgrades:
    """A site with a maker. Versions and record ids are the caller's."""

    def __init__(self, watch: Watch, maker: Maker) -> None:
        self.watch = watch
        self.site = watch.site
        self.maker = maker
        assert self.site.installation is not None
        self.installation = self.site.installation
        self.firmware = self.installation.firmware

    # ---- the platform's part

    def announce(
        self,
        record_id: str,
        need: str = "1",
        *,
        login: tuple[str, str] = FTP_LOGIN,
        address: str = "",
        current: str = VERSION,
    ) -> bytes:
        """113; its line."""
        address = address or f"{self.site.ftp.host}:{self.site.ftp.port}"
        return self.watch.send(113, Announcement(address, *login, need, current, record_id))

    def package(self, record_id: str, version: str, path: str, packet_bytes: int = 1024) -> bytes:
        """114; its line."""
        return self.watch.send(114, UpgradePackage(version, record_id, path, packet_bytes))

    def order(self, record_id: str, version: str, path: str = "", **announced: Any) -> bytes:
        """113 and 114 for what ``release`` or ``board`` has put on the FTP server; the line of the 114."""
        self.announce(record_id, **announced)
        return self.package(record_id, version, path or f"/{version}.bundle")

    def release(self, version: str, fault: str = "") -> None:
        self.maker.release(self.site.ftp_folder / f"{version}.bundle", version, fault)

    def board(self, version: str, size: int = 2048) -> None:
        self.maker.board(self.site.ftp_folder / f"{version}.bundle", version, size)

    # ---- what is seen of it

    @property
    def now(self) -> dict[str, Any]:
        """The upgrade in the agent's own view; empty while it does not answer, or knows none."""
        return self.watch.status().get("upgrade") or {}

    def until(self, stage: str, timeout_s: float = 30.0) -> None:
        self.watch.until(lambda: self.now.get("stage") == stage, timeout_s)

    def until_over(self, line: bytes, *results: Result, timeout_s: float = 60.0) -> str:
        """Until the 114 of that line has these replies, and all is told; the text of the last, if it is an error."""
        self.watch.until_answered(line, *results, timeout_s=timeout_s)
        self.watch.until(lambda: self.watch.status().get("outbox") == 0)
        body = self.watch.replies(line)[-1].body
        return body if isinstance(body, str) else ""

    def until_dropped(self, version: str) -> None:
        """Until the installer has removed a release that came to nothing."""
        self.watch.until(lambda: not any(version in name for name in self.releases()))

    def told(self, record_id: str) -> list[int]:
        """The states that 111 reported of it unasked, one after the other."""
        states = [one.body.state for one in self.watch.reports(111) if one.body.record_id == record_id]
        return [state for state, _ in groupby(states)]

    def versions(self) -> tuple[str, str]:
        """Of agent and power board, by 112."""
        line = self.watch.send(112, Empty())
        self.watch.until_answered(line, OK)
        body = self.watch.replies(line)[0].body
        return body.agent, body.devices[0].version

    def boot(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.installation.root / "boot.json").read_bytes())
        return found

    def releases(self) -> list[str]:
        return sorted(path.name for path in (self.installation.root / "releases").iterdir())

    def starts(self) -> int:
        """How often the agent has been started again so far."""
        return sum(one.kind == "restarted" for one in self.watch.seen)

    def password_stands_in(self) -> list[str]:
        """Files below the agent's data folder, and log lines."""
        return files_with(self.firmware.parent, FTP_LOGIN[1].encode()) + self.watch.logged(FTP_LOGIN[1])

    def check_nothing_is_left(self) -> None:
        """No login, no download; nothing armed; guns free."""
        assert self.password_stands_in() == []
        left = {path.name for path in self.firmware.iterdir()}
        assert left <= {"worker.lock", "images", "request.json", "request.taken"}
        assert self.boot()["trial"] is None
        self.watch.until(lambda: all(gun["status"] != "updating" for gun in self.watch.status()["guns"]))


def make_impatient(release: Path) -> None:
    """An agent as it is installed gives up a download at the second try instead of after a quarter of an hour."""
    patience = release / "firmware_bridge" / "patience.py"
    text = patience.read_text(encoding="utf-8")
    for name, value in (("attempts: int", "2"), ("first_wait_s: float", "0.05")):
        text, count = re.subn(rf"(?m)^    {name} = \d+ ", f"    {name} = {value} ", text)
        assert count == 1
    patience.write_text(text, encoding="utf-8")
    for compiled in (release / "firmware_bridge" / "__pycache__").glob("patience.*"):
        compiled.unlink()


@contextmanager
def upgradable(folder: Path, *, is_impatient: bool = False, **more: Any) -> Iterator[Upgrades]:
    """A site whose agent runs, and whose firmware somebody makes."""
    maker = Maker()
    with Site(folder, maker=maker, baud=115_200, speedup=2, settings={"line": FAST}, **more) as site:
        watch = Watch(site)
        if is_impatient:
            make_impatient(folder / "install" / "releases" / VERSION)
        site.start_agent()
        watch.until_working()
        yield Upgrades(watch, maker)

"""The bridge between the core and ``firmware_bridge``: real worker, real installer, real FTP server; time is an
argument."""

import errno
import json
import os
import select
import signal
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from core_helpers import CONFIG, MONO_MS, WALL_MS
from office_helpers import Office
from slots_helpers import Board
from trust_helpers import House

from agent.bridge import INSTALLER_MS, MOST_DEATHS, Bridge, FirmwareConfig
from agent.pile.actions import AskInstaller, DropFirmware, FetchFirmware, KeepLogin, RestartAgent
from agent.pile.events import FirmwareFailed, FirmwareFetched, FirmwareProgress, FromBridge, InstallerAnswered
from agent.pile.firmware import NO_BOOT, Boot, ImageFile, Kind, Stage, Step, Ticket, Upgrade
from agent.pile.request import Request
from agent.pile.state import Now
from agent.poller import Poller
from agent.protocol.results import Result
from agent.version import VERSION
from sim.ftp_server import FtpServer

PASSWORD = "pa55-of-R9"
REQUEST = Request(114, "1", "k")
IMAGE = bytes(range(256)) * 1000
DEADLINE_S = 20.0


class Clock:
    """In the place of ``agent.clock.Clock``."""

    def __init__(self) -> None:
        self.mono_ms = MONO_MS

    def now(self) -> Now:
        return Now(WALL_MS, self.mono_ms)


class Bench:
    """A bridge on a pile's folders, and what it says. ``fault``: what the agent was to end with."""

    def __init__(self, folder: Path) -> None:
        self.shelf = folder / "shelf"
        self.shelf.mkdir()
        self.now = datetime.now(UTC)
        self.house = House(now=self.now)
        self.board = Board.made(folder / "pile", self.house)
        self.firmware = self.board.firmware
        self.ftp = FtpServer(self.shelf, password=PASSWORD)
        self.config = FirmwareConfig(self.firmware, self.board.root, ("KLC-120", "PB-1"), "utf-8", "", 0, 60)
        self.clock = Clock()
        self.poller = Poller()
        self.said: list[FromBridge] = []
        self.fault: str | None = None
        self._others = _children()
        self.bridge = self.bridge_with(self.config)

    def bridge_with(self, config: FirmwareConfig | None) -> Bridge:
        return Bridge(config, self.clock, self.poller, self.said.append, self._ended)  # type: ignore[arg-type]

    def _ended(self, fault: str) -> None:
        self.fault = fault

    def upgrade(self, version: str = "7.1", path: str = "/fw.bundle", kind: Kind = Kind.POWER_BOARD) -> Upgrade:
        ticket = Ticket("R9", f"127.0.0.1:{self.ftp.port}", "firmware")
        image = ImageFile(kind, version, ("KLC-120",), 1, 1, "")
        return Upgrade(REQUEST, ticket, version, path, 1024, WALL_MS, Stage.DOWNLOADING, image)

    def keep_login(self) -> None:
        self.bridge.keep_login(KeepLogin(REQUEST, "R9", "firmware"), PASSWORD)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            self.poller.wait(0.02)
            assert time.monotonic() < deadline, self.said

    @property
    def news(self) -> list[FromBridge]:
        return [one for one in self.said if not isinstance(one, FirmwareProgress)]

    @property
    def worker(self) -> int:
        """Its process id."""
        (found,) = _children() - self._others
        return found


def _children() -> set[int]:
    """Processes of ours; a broker that many tests share may be one."""
    return set(map(int, Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    with bench.ftp:
        yield bench
        bench.bridge.stop()
    bench.poller.close()


# ---- the login ----


def test_a_login_is_nobody_elses_and_goes_with_the_upgrade(bench: Bench) -> None:
    bench.keep_login()
    login = bench.firmware / "login.json"
    assert stat.S_IMODE(login.stat().st_mode) == 0o600
    assert json.loads(login.read_text()) == {"record_id": "R9", "account": "firmware", "password": PASSWORD}
    bench.bridge.do(DropFirmware(()))
    assert list(bench.firmware.iterdir()) == []


def test_the_folder_is_made_for_the_agent_alone(bench: Bench) -> None:
    bench.firmware.rmdir()
    bench.keep_login()
    assert stat.S_IMODE(bench.firmware.stat().st_mode) == 0o700


@pytest.mark.parametrize("login", [None, b'{"record_id": "R8", "account": "a", "password": "p"}', b"{", b"{}"])
def test_a_login_that_is_not_there_is_said(bench: Bench, login: bytes | None) -> None:
    if login is not None:
        (bench.firmware / "login.json").write_bytes(login)
    bench.bridge.do(FetchFirmware(bench.upgrade()))
    assert bench.said == [], "not within the turn that wants it"
    bench.until(lambda: bench.said)
    assert bench.said == [
        FirmwareFailed("R9", Result.NO_CREDENTIALS, "the login of record id R9 is not there any more")
    ]


@pytest.fixture
def office(bench: Bench, tmp_path: Path) -> Iterator[Office]:
    """A desk with that bridge."""
    office = Office(tmp_path, bridge=bench.bridge, pile=replace(CONFIG, can_update=True))
    yield office
    office.close()


def test_a_113_whose_login_can_not_be_kept_is_refused_and_not_sent_for_ever(bench: Bench, office: Office) -> None:
    bench.firmware.rmdir()
    bench.firmware.write_bytes(b"a file in the way")
    assert office.command(113, f"127.0.0.1,pile,{PASSWORD},1,,R9"), "it may be acknowledged"
    assert office.replies == [f"113,{WALL_MS},99,the login can't be kept: File exists"]
    assert office.desk.state.ticket is None


def test_a_full_disk_refuses_a_113_in_its_own_words(
    bench: Bench, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_file(path: Path, data: bytes, mode: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("firmware_bridge.durable.write_file", write_file)
    assert office.command(113, f"127.0.0.1,pile,{PASSWORD},1,,R9")
    assert office.replies == [f"113,{WALL_MS},58,the login can't be kept: No space left on device"]
    assert office.command(111), "others are served"


# ---- the file ----


def test_a_file_is_fetched_and_proved(bench: Bench) -> None:
    bench.house.image(bench.shelf / "fw.bundle", IMAGE, now=bench.now)
    bench.keep_login()
    bench.bridge.do(FetchFirmware(bench.upgrade()))
    bench.until(lambda: bench.news)
    (fetched,) = bench.news
    assert isinstance(fetched, FirmwareFetched)
    assert (fetched.record_id, fetched.image.kind, fetched.image.version) == ("R9", Kind.POWER_BOARD, "7.1")
    assert Path(fetched.image.path).read_bytes() == IMAGE
    assert FirmwareProgress("R9", 0, True) in bench.said


def test_a_file_that_can_not_be_had_is_an_error(bench: Bench) -> None:
    bench.keep_login()
    bench.bridge.do(FetchFirmware(bench.upgrade(path="/no.bundle")))
    bench.until(lambda: bench.news)
    (failed,) = bench.news
    assert isinstance(failed, FirmwareFailed)
    assert failed.result is Result.FTP_NO_FILE


def fetching_slowly(bench: Bench) -> None:
    bundle = bench.house.image(bench.shelf / "fw.bundle", IMAGE, now=bench.now)
    bench.ftp.faults.bytes_per_s = bundle.stat().st_size // 4
    bench.keep_login()
    bench.bridge.do(FetchFirmware(bench.upgrade()))
    bench.until(lambda: bench.said)


def test_a_worker_that_dies_is_started_again(bench: Bench) -> None:
    fetching_slowly(bench)
    os.kill(bench.worker, signal.SIGKILL)
    bench.ftp.faults.bytes_per_s = 0
    bench.until(lambda: bench.news)
    assert isinstance(bench.news[0], FirmwareFetched)


def test_a_worker_that_always_dies_is_the_end(bench: Bench) -> None:
    fetching_slowly(bench)
    for _ in range(MOST_DEATHS):
        dead = bench.worker
        os.kill(dead, signal.SIGKILL)
        bench.until(lambda dead=dead: bench.news or bench.worker != dead)  # type: ignore[misc]
    text = "the download process was ended by signal 9"
    assert bench.news == [FirmwareFailed("R9", Result.INTERNAL, text)]


def test_a_worker_that_can_not_be_started_is_the_end_and_not_the_agents(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(bench.firmware / "no-python"))
    bench.keep_login()
    bench.bridge.do(FetchFirmware(bench.upgrade()))
    bench.until(lambda: bench.said)
    text = "the download process can't be started: No such file or directory"
    assert bench.said == [FirmwareFailed("R9", Result.INTERNAL, text)]


def test_stopping_ends_the_worker(bench: Bench) -> None:
    fetching_slowly(bench)
    pidfd = os.pidfd_open(bench.worker)
    bench.bridge.stop()
    assert select.select([pidfd], [], [], 0)[0]
    os.close(pidfd)


# ---- the installer ----


def ask(bench: Bench, step: Step = Step.STAGE, version: str = "2.0") -> dict[str, Any]:
    """What the installer is asked."""
    bench.bridge.do(AskInstaller(step, bench.upgrade(version, kind=Kind.AGENT)))
    asked: dict[str, Any] = json.loads((bench.firmware / "request.json").read_bytes())
    return asked


def test_the_installer_stages_what_was_fetched(bench: Bench) -> None:
    (bench.firmware / "job").mkdir()
    bench.board.fetched(bench.house, "2.0")
    (bench.firmware / "download").rename(bench.firmware / "job" / "download")
    asked = ask(bench)
    assert (asked["do"], asked["version"], asked["carrier"], asked["metadata"]) == ("stage", "2.0", "job/download", "")
    bench.bridge.tick()
    assert bench.said == [], "it has not answered yet"
    assert bench.board.installer().run() is not None
    bench.bridge.tick()
    assert bench.said == [InstallerAnswered(Step.STAGE, Result.OK, "done")]
    assert bench.board.slots.is_staged("2.0")
    bench.bridge.tick()
    assert len(bench.said) == 1


def test_what_the_installer_refuses_has_its_result(bench: Bench) -> None:
    ask(bench, Step.ARM)
    bench.board.installer().run()
    bench.bridge.tick()
    assert bench.said == [InstallerAnswered(Step.ARM, Result.INSTALL_FAILED, "release 2.0 is not staged")]


def test_the_installer_has_ten_minutes(bench: Bench) -> None:
    """Also right after a start, when no tick has said yet what time it is."""
    ask(bench)
    bench.bridge.tick()
    bench.clock.mono_ms += INSTALLER_MS - 1
    bench.bridge.tick()
    assert bench.said == []
    bench.clock.mono_ms += 1
    bench.bridge.tick()
    text = "the installer has not answered to stage within 600 s"
    assert bench.said == [InstallerAnswered(Step.STAGE, Result.INSTALL_FAILED, text)]


def test_an_installer_that_can_not_be_asked_is_said(bench: Bench) -> None:
    bench.firmware.rmdir()
    bench.bridge.do(AskInstaller(Step.STAGE, bench.upgrade()))
    bench.until(lambda: bench.said)
    text = "the installer can't be asked: No such file or directory"
    assert bench.said == [InstallerAnswered(Step.STAGE, Result.INSTALL_FAILED, text)]


def test_the_request_of_a_killed_agent_gives_way_to_that_of_the_next(bench: Bench) -> None:
    first = ask(bench, Step.DROP)["id"]
    bench.bridge = bench.bridge_with(bench.config)
    assert ask(bench, Step.ARM)["id"] != first
    bench.board.installer().run()
    bench.bridge.tick()
    assert [one.do for one in bench.said if isinstance(one, InstallerAnswered)] == [Step.ARM]


# ---- the end ----


def test_images_in_force_stay_and_all_else_goes(bench: Bench) -> None:
    for name in ("images/good", "images/bad", "job/download", "job/scratch/tuf/x", "why.json", "request.json"):
        (bench.firmware / name).parent.mkdir(parents=True, exist_ok=True)
        (bench.firmware / name).write_bytes(b"")
    bench.bridge.do(DropFirmware(("/where/data/lay/before/images/good",)))
    left = {str(path.relative_to(bench.firmware)) for path in bench.firmware.rglob("*") if path.is_file()}
    assert left == {"images/good", "request.json"}, "what the installer was asked is still to be done"


def test_a_release_that_gives_up_says_why(bench: Bench) -> None:
    bench.bridge.do(RestartAgent("the broker is not reached within 120 s"))
    assert bench.fault == "the broker is not reached within 120 s"
    why = json.loads((bench.firmware / "why.json").read_bytes())
    assert why == {"version": VERSION, "text": "the broker is not reached within 120 s"}


def test_a_restart_for_a_trial_is_no_failure(bench: Bench) -> None:
    bench.bridge.do(RestartAgent())
    assert (bench.fault, (bench.firmware / "why.json").exists()) == ("", False)


@pytest.mark.parametrize("found", [None, b"", b"\0" * 64, b"[]", b'{"failed": 3}'])
def test_a_boot_file_that_is_absent_or_damaged_says_nothing(bench: Bench, found: bytes | None) -> None:
    if found is None:
        bench.config.boot.unlink()
    else:
        bench.config.boot.write_bytes(found)
    assert bench.bridge.boot() == NO_BOOT


def test_the_boot_file_says_what_is_in_force_on_trial_and_why_not(bench: Bench) -> None:
    bench.config.boot.write_text('{"current": "1.0", "trial": null, "failed": {"2.0": "it hangs"}, "other": 1}')
    assert bench.bridge.boot() == Boot("1.0", "", (("2.0", "it hangs"),))
    bench.config.boot.write_text('{"current": "1.0", "trial": "2.0"}')
    assert bench.bridge.boot() == Boot("1.0", "2.0", ())


def test_without_a_place_there_is_nothing_to_do(bench: Bench) -> None:
    bridge = bench.bridge_with(None)
    assert bridge.boot() == NO_BOOT
    for action in (DropFirmware(()), FetchFirmware(bench.upgrade()), AskInstaller(Step.DROP, bench.upgrade())):
        bridge.do(action)
    bridge.tick()
    assert bench.said == []

"""The way to ``firmware_bridge``: a child process that fetches and proves a file, and the installer, which alone may
write releases.

In ``<data_dir>/firmware``, which is the agent's::

    login.json       the password of a 113, as long as its upgrade lasts
    job/             what is being fetched
    images/          the power boards' last good images
    request.json     what the installer is asked (firmware_bridge/requests.py)
    why.json         why the release on trial does not work
"""

import contextlib
import errno
import json
import logging
import os
import select
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.pile.actions import AskInstaller, DropFirmware, FetchFirmware, Firmware, KeepLogin, RestartAgent
from agent.pile.events import FirmwareFailed, FirmwareFetched, FirmwareProgress, FromBridge, InstallerAnswered
from agent.pile.firmware import NO_BOOT, Boot, ImageFile, Kind, Step, Upgrade
from agent.poller import Poller
from agent.protocol.results import Result
from agent.version import VERSION
from firmware_bridge import durable
from firmware_bridge.requests import WHY, Request, answer_to, ask, say_why

log = logging.getLogger(__name__)

INSTALLER_MS = 600_000  # how long it may take: on a slow board byte code and self-test take minutes
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
LINE_MOST = 65536
CARRIER, METADATA = "job/download", "job/metadata"  # as firmware_bridge/worker.py leaves them
MOST_DEATHS = 3  # of the child, before the upgrade has failed
HOME = Path(__file__).parents[1]  # where the packages of this release lie


@dataclass(frozen=True)
class FirmwareConfig:
    """What an upgrade needs to know of this pile."""

    folder: Path
    install_dir: Path
    hardware: tuple[str, ...]
    encoding: str
    ca_file: str
    reserve_bytes: int
    deadline_s: int

    @property
    def boot(self) -> Path:
        return self.install_dir / "boot.json"


class Bridge:
    """Carries out the core's ``Firmware`` actions. Everything runs in the main thread. ``restart`` ends the agent: with
    a text that says what is wrong, as a failure."""

    def __init__(
        self,
        config: FirmwareConfig | None,
        clock: Clock,
        poller: Poller,
        post: Callable[[FromBridge], None],
        restart: Callable[[str], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._poller = poller
        self._post = post
        self._restart = restart
        self._worker: _Worker | None = None
        self._asked: tuple[str, Step, int] | None = None  # id, step, until when in monotonic ms

    @property
    def _sure(self) -> FirmwareConfig:
        assert self._config is not None  # the core takes no 113 without it
        return self._config

    def boot(self) -> Boot:
        """What the launcher and the installer left for this start; nothing where neither is used."""
        if self._config is None:
            return NO_BOOT
        try:
            found = json.loads(self._config.boot.read_bytes())
            failed = tuple((str(version), str(why)) for version, why in found.get("failed", {}).items())
            return Boot(str(found.get("current") or ""), str(found.get("trial") or ""), failed)
        except (OSError, ValueError, AttributeError):
            return NO_BOOT

    def keep_login(self, action: KeepLogin, password: str) -> None:
        """Durable when this returns. Raises OSError."""
        config = self._sure
        config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        login = {"record_id": action.record_id, "account": action.account, "password": password}
        durable.write_file(config.folder / "login.json", json.dumps(login).encode(), 0o600)

    def do(self, action: Firmware) -> None:
        if self._config is None:
            return  # the configuration has lost its place, and the core has given up what was under way
        match action:
            case KeepLogin():
                pass  # done before the turn was committed
            case FetchFirmware(upgrade):
                self._fetch(upgrade)
            case AskInstaller(step, upgrade):
                self._ask(step, upgrade)
            case DropFirmware(keep):
                self._drop(keep)
            case RestartAgent(fault):
                self._end(fault)

    def tick(self) -> None:
        """Once a second: the installer's answer."""
        if self._asked is not None:
            self._look_for_answer(*self._asked)

    def stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    # ---- the file ----

    def _fetch(self, upgrade: Upgrade, deaths: int = 0) -> None:
        self.stop()
        record_id = upgrade.ticket.record_id
        password = self._password(record_id)
        if password is None:
            text = f"the login of record id {record_id} is not there any more"
            self._post_later(FirmwareFailed(record_id, Result.NO_CREDENTIALS, text))
            return
        job = _job(self._sure, upgrade, password, self._clock.now().wall_ms)
        try:
            self._worker = _Worker(
                job, self._poller, lambda said: self._said(upgrade, said), lambda how: self._died(upgrade, deaths, how)
            )
        except OSError as error:  # no memory, or too many processes
            text = f"the download process can't be started: {error.strerror}"
            self._post_later(FirmwareFailed(record_id, Result.INTERNAL, text))

    def _password(self, record_id: str) -> str | None:
        try:
            login = json.loads((self._sure.folder / "login.json").read_bytes())
        except (OSError, ValueError):
            return None
        return str(login["password"]) if login.get("record_id") == record_id else None

    def _said(self, upgrade: Upgrade, said: dict[str, Any]) -> None:
        record_id = upgrade.ticket.record_id
        if "fetched" in said:
            self.stop()
            self._post(FirmwareFetched(record_id, _image(said["fetched"])))
        elif "error" in said:
            self.stop()
            self._post(FirmwareFailed(record_id, Result(said["error"]), said["text"]))
        else:
            self._post(FirmwareProgress(record_id, said["percent"], said["verifying"]))

    def _died(self, upgrade: Upgrade, deaths: int, how: str) -> None:
        """It ended without a result: killed, out of memory, or a bug."""
        self._worker = None
        log.warning("the process that fetches firmware %s", how)
        if deaths + 1 < MOST_DEATHS:
            self._fetch(upgrade, deaths + 1)
        else:
            self._post(FirmwareFailed(upgrade.ticket.record_id, Result.INTERNAL, f"the download process {how}"))

    # ---- the installer ----

    def _ask(self, step: Step, upgrade: Upgrade) -> None:
        image = upgrade.image
        assert image is not None
        has_metadata = (self._sure.folder / METADATA).exists()
        asked = Request(
            os.urandom(8).hex(),
            step.value,
            upgrade.version,
            image.kind.value,
            CARRIER,
            METADATA if has_metadata else "",
            self._sure.hardware,
        )
        try:
            ask(self._sure.folder, asked)
        except OSError as error:
            result = Result.NO_SPACE if error.errno in NO_ROOM else Result.INSTALL_FAILED
            self._post_later(InstallerAnswered(step, result, f"the installer can't be asked: {error.strerror}"))
        else:
            self._asked = (asked.id, step, self._clock.now().mono_ms + INSTALLER_MS)

    def _look_for_answer(self, request_id: str, step: Step, until_ms: int) -> None:
        answer = answer_to(self._sure.install_dir, self._sure.folder, request_id)
        if answer is not None:
            self._asked = None
            self._post(InstallerAnswered(step, Result(answer.result), answer.text))
        elif self._clock.now().mono_ms >= until_ms:
            self._asked = None
            text = f"the installer has not answered to {step.value} within {INSTALLER_MS // 1000} s"
            self._post(InstallerAnswered(step, Result.INSTALL_FAILED, text))

    # ---- the end ----

    def _drop(self, keep: tuple[str, ...]) -> None:
        import shutil  # here, as only upgrades need it

        self.stop()
        folder = self._sure.folder
        shutil.rmtree(folder / "job", ignore_errors=True)
        kept = {Path(image).name for image in keep}
        images = [image for image in (folder / "images").glob("*") if image.name not in kept]
        for file in (folder / "login.json", folder / WHY, *images):
            with contextlib.suppress(OSError):  # a disk that can't even forget; the next start tries again
                if file.exists():
                    durable.remove_file(file)

    def _end(self, fault: str) -> None:
        if fault:
            log.error("this release does not pass its trial: %s", fault)
            with contextlib.suppress(OSError):
                say_why(self._sure.folder, VERSION, fault)
        else:
            log.info("ends, so that the release on trial is started")
        self._restart(fault)

    def _post_later(self, event: FromBridge) -> None:
        """After the turn that is being carried out."""
        self._poller.post(lambda: self._post(event))


class _Worker:
    """The child: its job goes in as one JSON line, what it says comes out as JSON lines, read as they come. A child
    whose agent was killed dies of its next line."""

    def __init__(
        self,
        job: dict[str, Any],
        poller: Poller,
        on_said: Callable[[dict[str, Any]], None],
        on_death: Callable[[str], None],
    ) -> None:
        import subprocess  # here, as only upgrades need it

        self._poller = poller
        self._on_said = on_said
        self._on_death = on_death
        self._left = b""
        command = [sys.executable, "-m", "firmware_bridge.worker"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HOME)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has died already; its end will be read
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.close()
        self._fd = self._process.stdout.fileno()
        poller.register(self._fd, select.EPOLLIN, self._readable)

    def stop(self) -> None:
        self._poller.unregister(self._fd)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()

    def _readable(self, _events: int) -> None:
        data = os.read(self._fd, LINE_MOST)
        if not data:
            self._ended()
            return
        *lines, self._left = (self._left + data).split(b"\n")
        for line in lines:
            self._on_said(json.loads(line))

    def _ended(self) -> None:
        self.stop()
        code = self._process.returncode
        self._on_death(f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}")


def address_fault(address: str) -> str:
    """What is wrong with the address of a 113; empty: nothing."""
    from firmware_bridge.ftp import parse_address  # brings ftplib, which only an upgrade needs

    try:
        parse_address(address)
    except ValueError as error:
        return str(error)
    return ""


def _job(config: FirmwareConfig, upgrade: Upgrade, password: str, wall_ms: int) -> dict[str, Any]:
    return {
        "address": upgrade.ticket.address,
        "account": upgrade.ticket.account,
        "password": password,
        "path": upgrade.path,
        "version": upgrade.version,
        "packet_bytes": upgrade.packet_bytes,
        "folder": str(config.folder),
        "trust": str(config.install_dir / "trust"),
        "hardware": config.hardware,
        "encoding": config.encoding,
        "ca_file": config.ca_file,
        "reserve_bytes": config.reserve_bytes,
        "deadline_s": config.deadline_s,
        "now_ms": wall_ms,
    }


def _image(found: dict[str, Any]) -> ImageFile:
    return ImageFile(
        Kind(found["kind"]), found["version"], tuple(found["hardware"]), found["size"], found["crc32"], found["path"]
    )

"""Root's part of an update: verify once more, write the release, test it, arm it, commit it. One request, then it ends.

    python3 -m firmware_bridge.installer --root R --requests FIRMWARE [--user U] [--config FILE]
    python3 -m firmware_bridge.installer --root R --adopt VERSION       the package's, after unpacking a release itself

It stands apart so that the agent, which talks to the network, cannot write its own code. It believes the agent nothing:
files are opened with the agent's rights, without following links, copied to where the agent can't reach, and
verified there; no program runs but a signed release's self-test, and that as the agent.
"""

import argparse
import compileall
import contextlib
import errno
import fcntl
import json
import os
import pwd
import py_compile
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from firmware_bridge import requests, trust
from firmware_bridge.bundle import Release
from firmware_bridge.errors import FirmwareError, InstallFailed, NoSpace, VersionRefused, WrongHardware
from firmware_bridge.requests import OK, Answer, Request
from firmware_bridge.slots import RECORD, Slots, sync_tree

CARRIER_BYTES = 64 * 1024 * 1024
SELFTEST_S = 120.0
SELFTEST_BYTES = 4096
BYTE_CODE = 2  # a release with its byte code takes at most so many times the room of its sources


@dataclass(frozen=True, slots=True)
class User:
    """Whose rights the agent has."""

    uid: int
    gid: int

    @classmethod
    def named(cls, name: str | None) -> "User":
        """Without a name: whoever runs this. Raises KeyError."""
        found = pwd.getpwnam(name) if name else None
        return cls(found.pw_uid, found.pw_gid) if found else cls(os.getuid(), os.getgid())

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """What is opened inside is opened with the agent's rights."""
        if os.geteuid() == self.uid:
            yield
            return
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(os.getuid())
            os.setegid(os.getgid())


class Installer:
    """Handles requests, one at a time; ``reserve_bytes`` of the disk stay free for bills."""

    def __init__(
        self, root: Path, firmware: Path, user: User, config: Path | None = None, reserve_bytes: int = 64 * 1024 * 1024
    ) -> None:
        self._slots = Slots(root)
        self._root = root
        self._firmware = firmware
        self._user = user
        self._config = config
        self._reserve_bytes = reserve_bytes
        self._scratch = root / "releases" / ".scratch"

    def run(self) -> Answer | None:
        """Handle the request that waits, if there is one. Raises OSError if it can't be answered."""
        with _alone(self._root):
            try:
                with self._user.acting():
                    data = requests.claim(self._firmware)
                if data is None:
                    return None
                request = Request.parse(data)
            except FirmwareError as error:
                answer = Answer("", "", "", error.result, str(error))
            else:
                answer = self._answer(request)
            try:
                answer.write(self._root)
            finally:
                with self._user.acting():
                    requests.finish(self._firmware)
            return answer

    def _answer(self, request: Request) -> Answer:
        result, text = OK, "done"
        try:
            self._slots.clean()
            self._handle(request)
        except FirmwareError as error:
            result, text = error.result, str(error)
        except OSError as error:
            result = NoSpace.result if error.errno in (errno.ENOSPC, errno.EDQUOT) else InstallFailed.result
            text = str(error)
        except Exception as error:  # or the same request would be handled for ever
            result, text = InstallFailed.result, f"{type(error).__name__}: {error}"
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
        return Answer(request.id, request.do, request.version, result, text[: requests.TEXT_CHARACTERS])

    def _handle(self, request: Request) -> None:
        if request.kind == "power-board":
            self._verify(request)
            trust.promote(self._slots.trust, self._scratch / "trust")
        elif request.do == "stage":
            self._stage(request)
        elif request.do == "arm":
            self._slots.arm(request.version, request.id)
        elif request.do == "commit":
            self._commit(request.version)
        else:
            self._slots.drop(request.version)

    def _stage(self, request: Request) -> None:
        update = self._verify(request)
        release = update.release(request.version)
        if release.kind != "agent":
            raise WrongHardware(f"{release.target} is signed for {release.kind}, asked was to install it as the agent")
        folder = self._slots.folder(release.version)
        if self._slots.record(release.version).get("sha256") != release.sha256:
            if release.version in self._slots.boot().needed:
                raise VersionRefused(f"another build of {release.version} is in use: a new build needs a new version")
            folder = self._unpack(update, release)
        self_test(folder, release.version, self._user, self._config)
        sync_tree(self._scratch / "trust")
        self._slots.put_pending(self._scratch / "trust", release.version)
        if folder != self._slots.folder(release.version):
            self._slots.put(folder, release.version)
        self._slots.forgive(release.version)

    def _verify(self, request: Request) -> trust.Update:
        """Verify copies that nobody else can write."""
        self._scratch.mkdir(mode=0o700)
        carrier, metadata = self._scratch / "carrier", self._scratch / "metadata"
        self._copy(request.carrier, carrier)
        if request.metadata:
            self._copy(request.metadata, metadata)
        device = trust.Device(request.hardware, trust.this_abi())
        beside = metadata if request.metadata else None
        return trust.open_update(
            self._slots.trust, self._scratch / "trust", carrier, device, datetime.now(UTC), metadata=beside
        )

    def _copy(self, path: str, copy: Path) -> None:
        with self._user.acting():
            source = requests.open_inside(self._firmware, path)
        with open(source, "rb") as reading, open(copy, "xb") as writing:
            self._reserve(os.fstat(source).st_size)
            while piece := reading.read(1024 * 1024):
                writing.write(piece)
                if writing.tell() > CARRIER_BYTES:
                    raise InstallFailed(f"{path!r:.200} is larger than {CARRIER_BYTES} bytes")

    def _unpack(self, update: trust.Update, release: Release) -> Path:
        self._reserve(BYTE_CODE * release.unpacked)
        folder = self._slots.releases / f".incoming-{release.version}"
        update.unpack_to(folder)
        record = {"version": release.version, "sha256": release.sha256, "size": release.size, "abi": release.abi}
        (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
        complete(folder)
        return folder

    def _commit(self, version: str) -> None:
        """boot.json decides; what follows is done again if a power cut hinders it."""
        self._slots.commit(version)
        pending = self._slots.pending / version
        if pending.is_dir():
            trust.promote(self._slots.trust, pending)
        self._slots.prune()

    def _reserve(self, need_bytes: int) -> None:
        found = os.statvfs(self._root)
        free_bytes = found.f_bavail * found.f_frsize
        if free_bytes - need_bytes < self._reserve_bytes:
            raise NoSpace(
                f"{self._root}: {free_bytes} bytes free, needs {need_bytes} and {self._reserve_bytes} stay for bills"
            )


def complete(folder: Path) -> None:
    """Give an unpacked release its byte code (who runs it may not write any) and make all of it durable."""
    os.chmod(folder, 0o755)
    compileall.compile_dir(folder, quiet=2, force=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    sync_tree(folder)


def self_test(folder: Path, version: str, user: User, config: Path | None) -> None:
    """Let a release show, as the agent, that it could start here. Raises InstallFailed with its last words."""
    options = ["--config", str(config)] if config else []
    command = [sys.executable, "-I", "-B", str(folder), "selftest", "--release", version, *options]
    groups: list[int] | None
    uid, gid, groups = (None, None, None) if os.geteuid() == user.uid else (user.uid, user.gid, [])
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
        env={"PATH": os.defpath, "LANG": "C.UTF-8"}, start_new_session=True, user=uid, group=gid, extra_groups=groups,
    ) as process:  # fmt: skip
        try:
            said, is_late = _listen(process)
        finally:
            with user.acting(), contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    words = said.decode(errors="replace").strip()[-300:]
    if is_late:
        raise InstallFailed(f"the self-test took longer than {SELFTEST_S:.0f} s: {words}")
    if process.returncode != 0:
        raise InstallFailed(f"the self-test ended with {process.returncode}: {words}")


def _listen(process: subprocess.Popen[bytes]) -> tuple[bytes, bool]:
    """The end of what it says, until it ends; True if it does not in time."""
    assert process.stdout is not None
    said, end = b"", time.monotonic() + SELFTEST_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, end - time.monotonic())):
            piece = os.read(process.stdout.fileno(), SELFTEST_BYTES)
            if not piece:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, end - time.monotonic()))
                break
            said = (said + piece)[-SELFTEST_BYTES:]
    return said, process.poll() is None


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """A second installer waits, and finds nothing left to do."""
    fd = os.open(root / ".installer.lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="installer", description="Root's part of an update.")
    parser.add_argument("--root", type=Path, required=True, help="where the releases are")
    parser.add_argument("--requests", type=Path, help="the agent's firmware folder")
    parser.add_argument("--user", help="the agent's user; without it, whoever runs this")
    parser.add_argument("--config", type=Path, help="the configuration that a new release must be able to use")
    parser.add_argument("--adopt", metavar="VERSION", help="commit a release that the package has unpacked")
    options = parser.parse_args(arguments)
    os.umask(0o022)  # the agent reads and runs what is written here
    if options.adopt:
        slots = Slots(options.root)
        complete(slots.folder(options.adopt))
        slots.adopt(options.adopt)
        return 0
    installer = Installer(options.root, options.requests, User.named(options.user), options.config)
    answer = installer.run()
    if answer:
        print(f"{answer.do} {answer.version}: {answer.text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

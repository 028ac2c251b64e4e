"""A board with release slots, a maker who signs for it, and an agent's releases of one file."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trust_helpers import House

from firmware_bridge import launcher, trust
from firmware_bridge.installer import Installer, User, complete
from firmware_bridge.requests import Answer
from firmware_bridge.slots import Slots

LAUNCHER = Path(launcher.__file__)
CHANGES = ("fsync", "replace", "unlink", "mkdir", "rmdir")  # of os: what a power cut may come before or after


def program(version: str, selftest: str = "") -> bytes:
    """A release that says who it is and what it was asked; ``selftest`` is what it does when it is to test itself."""
    return f"""\
import os, sys, time
if sys.argv[1] == "selftest":
    {selftest or "print('good')"}
    sys.exit()
print("{version}", *sys.argv[1:], os.environ.get("PILE_AGENT_TRIAL", "-"), flush=True)
""".encode()


class Board:
    """Root's folder and the agent's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root, self.firmware = folder / "root", folder / "firmware"
        self.slots = Slots(self.root)

    @classmethod
    def made(cls, folder: Path, house: House, version: str = "1.0") -> "Board":
        """From the factory: one release, the maker's root, nothing else."""
        board = cls(folder)
        board.firmware.mkdir(parents=True)
        board.root.mkdir()
        trust.install_root(board.slots.trust, house.root())
        board.slots.clean()
        board.unpack(version)
        board.slots.adopt(version)
        return board

    def unpack(self, version: str, main: bytes | None = None) -> None:
        (self.slots.folder(version) / "agent").mkdir(parents=True)
        (self.slots.folder(version) / "__main__.py").write_bytes(main or program(version))
        (self.slots.folder(version) / "agent" / "core.py").write_bytes(b"# core of " + version.encode())
        complete(self.slots.folder(version))

    def copy(self, folder: Path) -> "Board":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Board(folder)

    def fetched(self, house: House, version: str, main: bytes | None = None) -> None:
        """What the agent has downloaded."""
        files = {"__main__.py": main or program(version), "agent/core.py": b"# core of " + version.encode()}
        house.agent(self.firmware / "download", files, version, datetime.now(UTC))

    def write_request(self, do: str, version: str, number: str = "7", **more: Any) -> None:
        request = {"id": number, "do": do, "version": version, "carrier": "download", "hardware": ["KLC-120"]}
        (self.firmware / "request.json").write_text(json.dumps(request | more))

    def installer(self) -> Installer:
        return Installer(self.root, self.firmware, User.named(None), reserve_bytes=0)

    def ask(self, do: str, version: str, number: str = "7", **more: Any) -> Answer:
        self.write_request(do, version, number, **more)
        answer = self.installer().run()
        assert answer is not None
        return answer

    def on_trial(self, house: House, version: str) -> None:
        """Staged, armed and started once."""
        self.fetched(house, version)
        for do in ("stage", "arm"):
            assert self.ask(do, version, f"{do} {version}").result == 0
        assert launcher.take(self.root) == version

    def boot(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "boot.json").read_text())
        return found

    def launch(self, *arguments: str, do: str = "run", **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", str(LAUNCHER), "--root", str(self.root)]
        command += ["--why", str(self.firmware / "why.json"), do, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, env=os.environ | environment)

    def releases(self) -> dict[str, dict[str, bytes]]:
        """What the launcher could start, file by file, byte code left out."""
        return {path.name: tree(path) for path in self.slots.releases.iterdir() if not path.name.startswith(".")}


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@contextmanager
def watching(
    before: Callable[[str, tuple[Any, ...]], None], after: Callable[[str, tuple[Any, ...]], None]
) -> Iterator[None]:
    """Be told of every change that the disk is asked for."""
    plain = {name: getattr(os, name) for name in CHANGES}

    def watched(name: str) -> Callable[..., Any]:
        def change(*arguments: Any, **named: Any) -> Any:
            before(name, arguments)
            try:
                return plain[name](*arguments, **named)
            finally:
                after(name, arguments)

        return change

    for name in CHANGES:
        setattr(os, name, watched(name))
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(os, name, function)


def killed_at(point: int, work: Callable[[], object]) -> bool:
    """Do ``work`` in a child that gets SIGKILL at its ``point``-th chance, before or after a change; False: it had
    fewer, and came to its end."""
    child = os.fork()
    if child == 0:
        left = point

        def maybe_die(_name: str, _arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        try:
            with watching(maybe_die, maybe_die):
                work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return _signal_of(child) == signal.SIGKILL


def _signal_of(child: int) -> int:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            assert code <= 0, "the work failed by itself"
            return -code
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")

"""A board with the package on it, at a simulated site: broker, FTP server, platform and power board on this machine."""

import io
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from acceptance.board import Board, BoardError
from acceptance.disk import Disk, cache_folder, debian
from agent.protocol.codec import Reply
from agent.protocol.commands import UpgradePackage
from agent.protocol.results import Result
from agent.version import VERSION
from firmware_bridge.maker import write_payload
from firmware_bridge.trust import this_abi
from sim.maker import Maker
from sim.site import PILE, Site
from sim.story import announced

WORKING_S = 40.0
CONFIG = "/etc/pile-agent/pile.toml"


class Releases(Maker):
    """Signs releases of what is in the package, under other versions; ``fault`` is a line of code at the start."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def release(self, path: Path, version: str, fault: str = "") -> None:
        tree = path.with_suffix(".release")
        shutil.copytree(self._folder, tree)
        with open(tree / "agent" / "version.py", "a", encoding="utf-8") as file:
            file.write(f'\nVERSION = "{version}"\n')
        main = tree / "__main__.py"
        main.write_text(main.read_text(encoding="utf-8").replace("\nimport runpy", f"\n{fault}\nimport runpy", 1))
        payload = io.BytesIO()
        unpacked = write_payload(tree, payload)
        shutil.rmtree(tree)
        self._bundle(path, "agent", f"pile-agent-{version}.zip", payload.getvalue(), version, this_abi(), unpacked)


class Rig:
    """``package`` is the .deb. All that ``with`` starts it stops, and what it has made it removes."""

    def __init__(self, folder: Path, package: Path) -> None:
        self.folder = folder
        self.package = package
        self.board = Board(Disk.copied(debian(cache_folder()), folder))
        self.site = Site(folder / "site", speedup=20)
        subprocess.run(["dpkg-deb", "-x", package, folder / "unpacked"], check=True)
        self.maker = Releases(folder / "unpacked" / "usr" / "lib" / "pile-agent" / "release")
        self.version = VERSION
        self._stack = ExitStack()
        self._stamp_ms = 0

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(self.site)
            self._stack.callback(self.board.kill)
            self.board.boot()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # ---- the board's agent ----

    def configure(self) -> None:
        """What a new user does: the example, with this pile's number, broker and price."""
        text = self.board.run("cat", f"{CONFIG}.example")
        for was, now in (
            ('number = "0000012345" ', f'number = "{PILE}"'),
            ('host = "broker.example"', f'host = "{self.site.broker.host}"'),
            ("# port = 1883 ", f"port = {self.site.broker.port}"),
            ("# price = -1 ", "price = 100000 "),
            ("# service_fee = 0 ", "service_fee = 50000 "),
        ):
            if was not in text:
                raise BoardError(f"the example has no line {was!r}")
            text = text.replace(was, now)
        self.board.run("tee", CONFIG, given=text)
        self.board.run("sync")

    def plug_line(self) -> None:
        self.board.plug_line(os.readlink(self.site.port))

    def is_working(self) -> bool:
        """Connected, and the board answers."""
        status = self.board.status()
        if not status or not status["link"]["connected"]:
            return False
        return not any(line["reason"] or device["reason"] for line in status["lines"] for device in line["devices"])

    def until_working(self, timeout_s: float = WORKING_S) -> None:
        try:
            self.board.until(self.is_working, timeout_s, "the agent does not work")
        except BoardError as error:
            raise BoardError(f"{error}: {self.board.journal('pile-agent')[-1500:]}") from error

    def main_pid(self) -> int:
        return int(self.board.shows("pile-agent", "MainPID"))

    # ---- the platform ----

    def send(self, number: int, data: Sequence[Any]) -> int:
        """Publish a command under a timestamp that no other has; the timestamp."""
        self._stamp_ms = max(self._stamp_ms + 1, time.time_ns() // 1_000_000)
        self.site.publish(self.site.command(number, data, self._stamp_ms))
        return self._stamp_ms

    def answered(self, stamp_ms: int, *results: Result, timeout_s: float = 30.0) -> Reply:
        """The last of the answers to that command, which must be these; what is a repetition does not count."""
        for expected in results:
            reply = self._answer(stamp_ms, timeout_s)
            if reply.result is not expected:
                raise BoardError(
                    f"{reply.command} was answered {reply.result.name}, expected {expected.name}: {reply.body}"
                )
        return reply

    def ask(self, number: int, data: Sequence[Any], *results: Result, timeout_s: float = 30.0) -> Reply:
        return self.answered(self.send(number, data), *results, timeout_s=timeout_s)

    def _answer(self, stamp_ms: int, timeout_s: float) -> Reply:
        happening = self.site.wait_for(
            lambda one: (
                one.kind == "reply"
                and one.what.request_timestamp == str(stamp_ms)
                and one.what.result is not Result.DUPLICATE
            ),
            timeout_s,
        )
        reply: Reply = happening.what
        return reply

    def upgrade(self, version: str, fault: str = "") -> int:
        """Sign a release, announce it and order it; the order's timestamp."""
        name = f"pile-agent-{version}.bundle"
        self.maker.release(self.site.ftp_folder / name, version, fault)
        self.ask(113, announced(self.site, f"R-{version}"), Result.OK)
        return self.send(114, UpgradePackage(version, f"R-{version}", f"/{name}", 65536))

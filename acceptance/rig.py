"""A board at a simulated site: broker, FTP server, platform and power board on this machine."""

import io
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from acceptance.board import Board, BoardError
from acceptance.container import Container
from acceptance.disk import Disk, cache_folder, debian
from acceptance.machine import Card, Machine
from agent.protocol.codec import Reply
from agent.protocol.commands import UpgradePackage
from agent.protocol.results import Result
from agent.version import VERSION
from firmware_bridge.maker import write_payload
from sim.maker import Maker
from sim.power_board import running_board
from sim.site import PILE, Site
from sim.story import announced

WORKING_S = 40.0
CONFIG = "/etc/pile-agent/pile.toml"
RELEASE = "usr/lib/pile-agent/release"  # the factory's, in a package or an image


class Releases(Maker):
    """Signs releases of what is in ``folder``, under other versions; ``fault`` is a line of code at the start."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    @property
    def _abi(self) -> str:
        """Which interpreter and machine the folder was built for: its extensions' names say so."""
        return next((self._folder / "cext").glob("message.*.so")).name.split(".")[1]

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
        self._bundle(path, "agent", f"pile-agent-{version}.zip", payload.getvalue(), version, self._abi, unpacked)


class Rig:
    """All that ``with`` starts it stops. ``release``: what the maker's new releases are made of."""

    def __init__(self, folder: Path, board: Board, site: Site, release: Path) -> None:
        self.folder = folder
        self.board = board
        self.site = site
        self.maker = Releases(release)
        self.version = VERSION
        self._stack = ExitStack()
        self._stamp_ms = 0

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(self.site)
            self._stack.callback(self.board.kill)
            self._prepare()
            self.board.boot()
            self._stack = self._stack.pop_all()
        return self

    def _prepare(self) -> None:
        """Before the board is switched on; the site is there."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # ---- the board's agent ----

    def edited(self, example: str, more: Mapping[str, str] | None = None) -> str:
        """What a new user does with the example: this pile's number, broker and price."""
        changes = {
            'number = "0000012345" ': f'number = "{PILE}"',
            'host = "broker.example"': f'host = "{self.board.site_address}"',
            "# port = 1883 ": f"port = {self.site.broker.port}",
            "# price = -1 ": "price = 100000 ",
            "# service_fee = 0 ": "service_fee = 50000 ",
        }
        for was, now in (changes | dict(more or {})).items():
            if was not in example:
                raise BoardError(f"the example has no line {was!r}")
            example = example.replace(was, now)
        return example

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
            timeout_s * self.board.slowness,
        )
        reply: Reply = happening.what
        return reply

    def upgrade(self, version: str, fault: str = "") -> int:
        """Sign a release, announce it and order it; the order's timestamp."""
        name = f"pile-agent-{version}.bundle"
        self.maker.release(self.site.ftp_folder / name, version, fault)
        address = f"{self.board.site_address}:{self.site.ftp.port}"
        self.ask(113, announced(self.site, f"R-{version}")._replace(ftp_address=address), Result.OK)
        return self.send(114, UpgradePackage(version, f"R-{version}", f"/{name}", 65536))


class PackageRig(Rig):
    """``package`` is the .deb; the board is a container."""

    def __init__(self, folder: Path, package: Path) -> None:
        board = Container(Disk.copied(debian(cache_folder()), folder))
        subprocess.run(["dpkg-deb", "-x", package, folder / "unpacked"], check=True)
        super().__init__(folder, board, Site(folder / "site", speedup=20), folder / "unpacked" / RELEASE)
        self.container = board
        self.package = package

    def configure(self) -> None:
        self.board.run("tee", CONFIG, given=self.edited(self.board.run("cat", f"{CONFIG}.example")))
        self.board.run("sync")


# Another line with a board of its own, in front of the next section.
SECOND_LINE = """
[[line]]
port = "/dev/pile0"
watchdog_s = 250
[[line.device]]
name = "second"
guns = [3]

# Charging.
"""
ON_THE_IMAGE = {
    'port = "/dev/pile0" ': 'port = "/dev/pile-uart" ',
    '# parity = "N" ': 'parity = "E" ',
    "# watchdog_s = 10 ": "watchdog_s = 250 ",  # an agent on an emulated processor takes longer to be back
    "\n# Charging.\n": SECOND_LINE,
}


class ImageRig(Rig):
    """``image`` is flashed onto a card, the card made ready as docs/operations/flash.md says; the board is a machine.

    It has two power boards: the site's at its UART, with even parity, which no pseudo-terminal has; another one with a
    third gun at a USB adaptor.
    """

    def __init__(self, folder: Path, image: Path) -> None:
        card = Card(image, folder / "card.img")
        site = Site(folder / "site")  # in real time: a charge must not reach its cap while an emulated program starts
        self.machine = Machine(card, folder, lambda: os.readlink(site.port), lambda: os.readlink(self._second))
        card.copy_from_root(RELEASE, folder)
        super().__init__(folder, self.machine, site, folder / Path(RELEASE).name)
        self._second = ""

    def _prepare(self) -> None:
        self._second = self._stack.enter_context(running_board(baud=9600, guns=1)).port
        card = self.machine.card
        card.write("config/pile.toml", self.edited(card.read("config/pile.toml.example"), ON_THE_IMAGE).encode())
        card.write("config/root.json", self.maker.root)

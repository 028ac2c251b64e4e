"""A Linux board as the checks see it: switched on and off, and asked; a container or a machine of its own."""

import json
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

LINE = "/dev/pile0"


class BoardError(Exception):
    """Something on the board did not do as it should; the text is what it said."""


class Board(ABC):
    """``site_address``: where the board reaches what listens on this machine's loopback. ``slowness``: how
    much longer than a container it takes for everything."""

    site_address: str
    slowness = 1.0

    @abstractmethod
    def boot(self) -> None:
        """Switch it on; returns when systemd is through."""

    @abstractmethod
    def until_rebooted(self) -> None:
        """It restarts itself, from the same disk."""

    @abstractmethod
    def cut_power(self) -> None:
        """What was not on the disk is gone."""

    @abstractmethod
    def kill(self) -> None:
        """Stop everything in it at once; nothing, if it is off."""

    @abstractmethod
    def plug_line(self, port: str) -> None:
        """Connect the pseudo-terminal ``port`` of this machine."""

    @abstractmethod
    def put(self, source: Path, target: str) -> None:
        """Copy a file to the board."""

    @abstractmethod
    def try_run(self, *command: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        """Run it there as root, with ``given`` as its standard input."""

    def run(self, *command: str, given: str = "") -> str:
        """Its output. Raises BoardError."""
        done = self.try_run(*command, given=given)
        if done.returncode != 0:
            raise BoardError(f"{' '.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-1000:]}")
        return done.stdout + done.stderr

    def shows(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def status(self) -> Any:
        """What ``pile-agent status --json`` prints; empty while no agent answers."""
        done = self.try_run("pile-agent", "status", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", "-u", unit)

    def until(self, condition: Callable[[], object], timeout_s: float, otherwise: str) -> None:
        deadline = time.monotonic() + timeout_s * self.slowness
        while not condition():
            if time.monotonic() > deadline:
                raise BoardError(f"{otherwise} within {timeout_s * self.slowness:g} s")
            time.sleep(0.1)

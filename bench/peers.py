"""The programs in C that stand beside ours: compiled when first asked for, and talked to line by line."""

import functools
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.sample import Cost

SOURCES = Path(__file__).parent / "c"
BUILT = Path(__file__).parents[1] / "build" / "bench"
LIBRARIES = {"decode": ["-lmodbus"], "libmodbus": ["-lmodbus"], "mosquitto": ["-lmosquitto"]}


class MissingError(Exception):
    """A peer that can't be had here; says why."""


@functools.cache
def program(name: str) -> Path:
    """The compiled ``bench/c/NAME.c``. Raises ``MissingError``."""
    BUILT.mkdir(parents=True, exist_ok=True)
    compiled = BUILT / name
    command = ["gcc", "-std=gnu17", "-O2", "-Wall", "-o", str(compiled), str(SOURCES / f"{name}.c")]
    done = subprocess.run([*command, *LIBRARIES.get(name, [])], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"{name} could not be compiled: {done.stderr.splitlines()[0]}")
    return compiled


class Peer:
    """A running one. ``with`` ends it."""

    def __init__(self, name: str, *arguments: str) -> None:
        self._name = name
        command = [str(program(name)), *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    @property
    def pid(self) -> int:
        return self._process.pid

    def hear(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise MissingError(f"{self._name} ended with {self._process.wait(10)}")
        return line.rstrip("\n")

    def ask(self, line: str | int) -> str:
        """Its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self.hear()

    def measure(self, count: int) -> Cost:
        """Of ``count`` calls."""
        return Cost(*map(float, self.ask(count).split()))

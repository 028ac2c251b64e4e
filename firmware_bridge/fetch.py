"""Fetch one file from FTP into a folder, whatever the way there does: cut, stalled, slow, restarted, out of power.

A try goes on where the last one stopped, also that of a process before (``download.py``). It begins anew when the
server's file is another one (SIZE or MDTM differ), when the server does not resume, or when it sends more than it
announced. The tries are bounded (``patience.py``): so many in a row without a new byte, and a deadline for all of them.
"""

import dataclasses
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from firmware_bridge.download import Download, Origin
from firmware_bridge.errors import DownloadFailed, NoFile, NoSpace, NotAuthentic, Transient
from firmware_bridge.ftp import Connection, RestRefused, Source
from firmware_bridge.patience import DEFAULT_LIMITS, Limits, Pace, Patience

_STEP_BYTES = 1 << 16  # between two words on progress while the size is not known
_SMALL_BLOCK = 4096

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Expect:
    """What signed metadata say of the file."""

    size: int
    sha256: str  # in hex, lower case


class Length(Enum):
    """Who vouches for the length of a file."""

    TRUSTED = "signed metadata"
    SIZE = "the server's SIZE"
    END = "nobody but the server's word that the transfer was complete (226)"


@dataclass(frozen=True, slots=True)
class Fetched:
    path: Path
    size: int
    sha256: str  # in hex, lower case
    length: Length


def fetch(
    source: Source,
    into: Path,
    block: int,
    *,
    expect: Expect | None = None,
    limits: Limits = DEFAULT_LIMITS,
    on_progress: Progress = lambda done, total: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
) -> Fetched:
    """``source`` as the file ``into``, whose folder exists. May be killed at any time, and called again.

    ``block``: bytes asked of the connection at once. ``on_progress(done, total)`` is called about a hundred times; done
    falls to 0 when the file must be had anew. Raises a ``FirmwareError``: after ``NoSpace`` nothing is left in the
    folder, after another one the part stays for another call. Raises ``OSError`` when the disk is broken.
    """
    patience = Patience(_name(source), limits, clock, sleep, rng)
    with Download(into, limits.reserve_bytes, clock) as download:
        job = _Job(source, block, expect, limits, on_progress, clock, patience, download)
        while True:
            furthest = download.furthest
            try:
                return job.attempt()
            except Transient as error:
                problem = error
            download.checkpoint()
            patience.wait(problem, is_further=download.furthest > furthest)


def small(
    source: Source,
    path: str,
    most: int,
    *,
    limits: Limits = DEFAULT_LIMITS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
) -> bytes | None:
    """The metadata at ``path`` on the server of ``source``; None when it has no such file.

    Errors as ``fetch``; more than ``most`` bytes are ``NotAuthentic``.
    """
    source = dataclasses.replace(source, path=path)
    patience = Patience(_name(source), limits, clock, sleep, rng)
    while True:
        try:
            return _read_whole(source, most, limits.stall_s, patience)
        except NoFile:
            return None
        except Transient as error:
            problem = error
        patience.wait(problem, is_further=False)


def _read_whole(source: Source, most: int, stall_s: float, patience: Patience) -> bytes:
    data = bytearray()
    with Connection(source, stall_s, patience.check) as connection:
        size = connection.remote().size
        for received in connection.blocks(_SMALL_BLOCK, 0):
            patience.check()
            data += received
            if len(data) > most:
                raise NotAuthentic(f"{_name(source)}: has more than {most} bytes, metadata never have")
    if size not in (None, len(data)):
        raise DownloadFailed(f"{_name(source)}: the server said it was complete after {len(data)} of {size} bytes")
    return bytes(data)


@dataclass
class _Job:
    """One file, over as many tries as it takes."""

    source: Source
    block: int
    expect: Expect | None
    limits: Limits
    on_progress: Progress
    clock: Callable[[], float]
    patience: Patience
    download: Download
    total: int | None = None
    told: int = 0

    def attempt(self) -> Fetched:
        """One connection. Returns when the file is whole and has its name."""
        with Connection(self.source, self.limits.stall_s, self.patience.check) as connection:
            self._agree(connection)
            if self.download.done != self.total:
                self._read(connection)
        self._prove()
        self._tell(is_due=True)
        path, download = self.download.finish(), self.download
        return Fetched(path, download.done, download.sha256(), self._length())

    def _agree(self, connection: Connection) -> None:
        """Which file it is, how long, and where to go on."""
        source, remote = self.source, connection.remote()
        self.total = self.expect.size if self.expect else remote.size
        if remote.size not in (None, self.total):
            raise NotAuthentic(f"{_name(source)}: has {remote.size} bytes, signed are {self.total}")
        if self.total is not None and self.total > self.limits.most_bytes:
            raise NoSpace(f"{_name(source)}: has {self.total} bytes, expected at most {self.limits.most_bytes}")
        origin = Origin(source.host, source.port, source.path, remote.size, remote.mdtm)
        if self.download.origin != origin or self.download.done > self._most():
            self.download.restart(origin)
        self.download.make_room((self.total or self.download.done) - self.download.done)
        self._tell(is_due=True)

    def _read(self, connection: Connection) -> None:
        try:
            self._receive(connection)
        except RestRefused:
            self.download.restart()
            self._tell(is_due=True)
            self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        """The file from where it stopped to its end."""
        download, total = self.download, self.total
        download.begin()
        pace = Pace(_name(self.source), self.limits, self.clock(), download.done)
        for received in connection.blocks(self.block, download.done):
            self._refuse_more(len(received))
            download.add(received)
            self._tell(is_due=False)
            self.patience.check()
            pace.check(self.clock(), download.done)
        if total is not None and download.done < total:
            name = _name(self.source)
            raise DownloadFailed(f"{name}: the server said it was complete after {download.done} of {total} bytes")

    def _refuse_more(self, size: int) -> None:
        if self.download.done + size <= self._most():
            return
        if self.total is None:
            raise NoSpace(f"{_name(self.source)}: goes on after {self._most()} bytes, expected at most that")
        self.download.restart()  # what came before may be of the same making
        raise DownloadFailed(f"{_name(self.source)}: the server sent more than the {self.total} bytes it has")

    def _prove(self) -> None:
        """What is signed is what came. A patchwork that is not may be of two files: it is had again, in one piece."""
        download, expect = self.download, self.expect
        if expect is None or download.sha256() == expect.sha256:
            return
        fault = f"{_name(self.source)}: has SHA-256 {download.sha256()}, signed is {expect.sha256}"
        kind = DownloadFailed if download.is_patchwork else NotAuthentic
        download.restart()
        raise kind(fault)

    def _tell(self, *, is_due: bool) -> None:
        done = self.download.done
        step = self.total // 100 if self.total else _STEP_BYTES
        if is_due or done - self.told >= step:
            self.told = done
            self.on_progress(done, self.total)

    def _most(self) -> int:
        return self.limits.most_bytes if self.total is None else self.total

    def _length(self) -> Length:
        if self.expect is not None:
            return Length.TRUSTED
        return Length.END if self.total is None else Length.SIZE


def _name(source: Source) -> str:
    return f"{source.host}:{source.port} {source.path!r}"

"""A file that arrives in pieces: what is on the disk of it, and a row that says how much of that can be believed.

``<name>.part`` grows; ``<name>.part.json`` is written after the data it speaks of are durable, so a power cut at any
time leaves a row that is true. The rest of the file is cut off when it is opened again, and the prefix must still have
the SHA-256 of the row. The whole file is renamed to ``<name>``; the row stays beside it, so that a power cut right
there costs nothing either.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from firmware_bridge import durable
from firmware_bridge.errors import NoSpace

DURABLE_BYTES = 1 << 20  # a row per so many bytes
DURABLE_S = 5.0  # or per so many seconds
WRITE_BYTES = 1 << 16  # hashed and written at once, however small the blocks are

_MIB = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Origin:
    """Which file it is a part of. Two parts belong together when all of this is equal."""

    host: str
    port: int
    path: str
    size: int | None
    mdtm: str | None


@dataclass(frozen=True, slots=True)
class _Row:
    origin: Origin
    offset: int
    sha256: str


class Download:
    """The file ``into`` and what is known of it. Disk full, or its reserve touched: ``NoSpace``, and nothing is left.

    ``done``: bytes that have come. ``furthest``: the most there ever were. ``is_patchwork``: not known to be of one
    transfer.
    """

    def __init__(self, into: Path, reserve_bytes: int, clock: Callable[[], float]) -> None:
        self._into = into
        self._part, self._row = _part_of(into), _row_of(into)
        self._reserve_bytes = reserve_bytes
        self._clock = clock
        if into.exists() and not self._part.exists():
            durable.rename(into, self._part)  # whole, but nobody heard of it: looked at again like a part
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._part, flags, 0o600)
        self._pending = bytearray()
        self.origin: Origin | None = None
        self.done = 0
        self._digest = hashlib.sha256()
        self._restore()
        self.is_patchwork = self.done > 0
        self.furthest = self._durable = self.done
        self._durable_at = clock()

    def restart(self, origin: Origin | None = None) -> None:
        """Nothing is here of ``origin``, or else of the same as before. The row says so before the data go."""
        self.origin = origin or self.origin
        self.done = 0
        self.is_patchwork = False
        self._pending.clear()
        self._digest = hashlib.sha256()
        self._write_row()
        self._cut_to(0)

    def make_room(self, bytes_to_come: int) -> None:
        """See that the disk holds them beside the reserve."""
        disk = os.statvfs(self._part.parent)
        free = disk.f_bavail * disk.f_frsize
        if free < bytes_to_come + self._reserve_bytes:
            discard(self._into)
            raise NoSpace(
                f"{self._part.parent}: {_mib(free)} free, needed: {_mib(bytes_to_come)} for the download and "
                f"{_mib(self._reserve_bytes)} kept for billing"
            )

    def begin(self) -> None:
        """A transfer begins that goes on at ``done``."""
        self.is_patchwork = self.done > 0
        self._durable_at = self._clock()

    def add(self, data: bytes) -> None:
        self._pending += data
        self.done += len(data)
        self.furthest = max(self.furthest, self.done)
        if len(self._pending) >= WRITE_BYTES:
            self._write_out()
        if self.done - self._durable >= DURABLE_BYTES or self._clock() - self._durable_at >= DURABLE_S:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Make durable what has come: first the data, then the row."""
        if self.done == self._durable:
            return
        self.make_room(0)
        self._write_out()
        self._on_disk(durable.sync, self._fd)
        self._write_row()

    def sha256(self) -> str:
        """Of all that has come, in hex."""
        self._write_out()
        return self._digest.hexdigest()

    def finish(self) -> Path:
        """It is whole: from now on it has its name."""
        self.checkpoint()
        durable.rename(self._part, self._into)
        return self._into

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def _restore(self) -> None:
        row = _read_row(self._row)
        digest = _digest_of_prefix(self._fd, row.offset) if row else None
        if row and digest and digest.hexdigest() == row.sha256:
            self.origin, self.done, self._digest = row.origin, row.offset, digest
        self._cut_to(self.done)

    def _cut_to(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        os.lseek(self._fd, size, os.SEEK_SET)

    def _write_out(self) -> None:
        self._digest.update(self._pending)
        rest = memoryview(bytes(self._pending))
        self._pending.clear()
        while rest:
            rest = rest[self._on_disk(os.write, self._fd, rest) :]

    def _write_row(self) -> None:
        assert self.origin is not None
        fields = asdict(_Row(self.origin, self.done, self._digest.hexdigest()))
        self._on_disk(durable.write_file, self._row, json.dumps(fields).encode(), 0o600)
        self._durable, self._durable_at = self.done, self._clock()

    def _on_disk(self, step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return step(*args, **kwargs)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            discard(self._into)
            raise NoSpace(f"{self._part}: {error.strerror} after {self.done} bytes") from error


def discard(into: Path) -> None:
    """Remove whatever a download into ``into`` has left: the file, its part, the row."""
    for path in (_part_of(into), into, _row_of(into)):
        durable.remove_file(path)


def _part_of(into: Path) -> Path:
    return into.with_name(f"{into.name}.part")


def _row_of(into: Path) -> Path:
    return into.with_name(f"{into.name}.part.json")


def _read_row(path: Path) -> _Row | None:
    """None when there is none, or none that can be believed."""
    try:
        fields = json.loads(path.read_bytes())
        return _Row(Origin(**fields["origin"]), int(fields["offset"]), str(fields["sha256"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _digest_of_prefix(fd: int, size: int) -> "hashlib._Hash | None":
    """SHA-256 of the first ``size`` bytes; None when there are less."""
    digest = hashlib.sha256()
    at = 0
    while at < size:
        chunk = os.pread(fd, min(_MIB, size - at), at)
        if not chunk:
            return None
        digest.update(chunk)
        at += len(chunk)
    return digest if at == size else None


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f} MiB"

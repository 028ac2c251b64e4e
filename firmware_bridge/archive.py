"""Stored zips: written in one strict form, and read only in that form, since nobody vouches for an archive yet.

Every byte of the file belongs to exactly one thing: the entries one after the other, the central directory, its end.
Nothing is compressed, so what comes out is never more than what was downloaded. Unknown flags and fields
and gaps are refused.
Format: PKWARE APPNOTE 6.3, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (its end).
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NoReturn, Self
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from firmware_bridge import durable
from firmware_bridge.errors import NotAuthentic

MOST_ENTRIES = 10_000
MOST_NAME = 240  # bytes: what every file system takes, with a folder in front
CHUNK = 1 << 16

PLAIN, PROGRAM = 0o644, 0o755
REGULAR_FILE = 0o100000

_LOCAL = struct.Struct("<4s26s")
_CENTRAL = struct.Struct("<4sH26sHHHLL")
_SHARED = struct.Struct("<HHHHHLLLHH")  # the 26 bytes that stand in both headers
_END = struct.Struct("<4sHHHHLLH")
_MADE_BY = 3 << 8 | 20  # Unix, 2.0: its external attributes hold the file's mode
_NEEDS = 20


class BadArchive(NotAuthentic):
    """Not a stored zip as we write it: says what stands where, and what was expected."""


@dataclass(frozen=True, slots=True)
class Entry:
    """``start``: of its bytes, in the file that the archive is in."""

    name: str
    start: int
    size: int
    crc: int
    mode: int


class StoredZip:
    """An archive in the one strict form. Checked as a whole when it is opened, its entries' CRC when they are read.

    It may lie within a file: ``size`` bytes from ``start`` on. Raises BadArchive, OSError.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file = file
        self._entries = {entry.name: entry for entry in _entries(file, start, size)}

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises BadArchive, OSError."""
        file = path.open("rb")
        try:
            return cls(file, 0, os.fstat(file.fileno()).st_size)
        except BaseException:
            file.close()
            raise

    @property
    def names(self) -> tuple[str, ...]:
        """In the archive's order."""
        return tuple(self._entries)

    @property
    def unpacked(self) -> int:
        """Bytes of all entries."""
        return sum(entry.size for entry in self._entries.values())

    def entry(self, name: str) -> Entry:
        """Raises BadArchive if there is none."""
        if name not in self._entries:
            raise BadArchive(f"it has no {name}")
        return self._entries[name]

    def read(self, name: str, most: int) -> bytes:
        """An entry of at most ``most`` bytes. Raises BadArchive (also: no such entry), OSError."""
        entry = self.entry(name)
        if entry.size > most:
            raise BadArchive(f"{name} has {entry.size} bytes, expected at most {most}")
        return b"".join(self._chunks(entry))

    def unpack_to(self, folder: Path) -> None:
        """Everything into ``folder``, which must not exist; modes 0644 and 0755; each file and folder in it durable."""
        folder.mkdir()
        folders = {folder}
        for entry in self._entries.values():
            path = folder / entry.name
            folders |= _make_folders(path.parent, folder)
            self._unpack(entry, path)
        for one in sorted(folders, reverse=True):  # what is in a folder before its own name
            one.chmod(PROGRAM)
            durable.sync_folder(one)

    def _unpack(self, entry: Entry, path: Path) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb", buffering=0) as file:
            for chunk in self._chunks(entry):
                file.write(chunk)
            os.fchmod(fd, entry.mode)
            durable.sync(fd)

    def _chunks(self, entry: Entry) -> Iterator[bytes]:
        crc = 0
        for chunk in chunks(self._file, entry.start, entry.size):
            crc = zlib.crc32(chunk, crc)
            yield chunk
        if crc != entry.crc:
            _refuse(f"{entry.name}: CRC", f"{crc:08x}", f"{entry.crc:08x}")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def chunks(file: BinaryIO, start: int, size: int) -> Iterator[bytes]:
    """``size`` bytes of ``file`` from ``start`` on, in pieces. Raises BadArchive if it ends before."""
    file.seek(start)
    left = size
    while left:
        chunk = file.read(min(CHUNK, left))
        if not chunk:
            _refuse("the file ends at byte", start + size - left, start + size)
        left -= len(chunk)
        yield chunk


def sha256_of(file: BinaryIO, start: int, size: int) -> str:
    """Of ``size`` bytes from ``start`` on, in hex. Raises BadArchive if the file ends before."""
    digest = hashlib.sha256()
    for chunk in chunks(file, start, size):
        digest.update(chunk)
    return digest.hexdigest()


def pack(file: BinaryIO, entries: Iterable[tuple[str, int, BinaryIO | bytes]]) -> None:
    """Write an archive to ``file``; each entry is name, mode and content. The same entries give the same bytes."""
    with ZipFile(file, "w", ZIP_STORED) as archive:
        for name, mode, content in entries:
            info = ZipInfo(_name(name.encode()))  # its time is 1980-01-01
            info.create_system, info.external_attr = _MADE_BY >> 8, (REGULAR_FILE | mode) << 16
            with archive.open(info, "w") as entry:
                if isinstance(content, bytes):
                    entry.write(content)
                else:
                    while chunk := content.read(CHUNK):
                        entry.write(chunk)


def _entries(file: BinaryIO, start: int, size: int) -> Iterator[Entry]:
    """Walk the central directory and the local headers together; they must tell the same story."""
    count, directory = _directory(file, start, size)
    at, offset = 0, 0
    seen: set[str] = set()
    folders: set[str] = set()
    for _ in range(count):
        header = directory[at : at + _CENTRAL.size]
        if len(header) < _CENTRAL.size:
            _refuse("the central directory ends at byte", len(directory), at + _CENTRAL.size)
        entry, length = _entry(header, directory[at + _CENTRAL.size :][:MOST_NAME], offset)
        _check_local(file, start, header, entry.name, offset)
        _check_unique(entry.name, seen, folders)
        begin = offset + _LOCAL.size + length
        yield Entry(entry.name, start + begin, entry.size, entry.crc, entry.mode)
        at += _CENTRAL.size + length
        offset = begin + entry.size
    _demand("length of the central directory", len(directory), at)
    _demand("end of the entries", offset, size - _END.size - len(directory))


def _directory(file: BinaryIO, start: int, size: int) -> tuple[int, bytes]:
    """The number of entries, and the central directory's bytes."""
    if size < _END.size:
        _refuse("size", size, f"at least {_END.size}, a zip's end record")
    end = b"".join(chunks(file, start + size - _END.size, _END.size))
    mark, disk, first_disk, here, count, length, offset, comment = _END.unpack(end)
    _demand("the last 22 bytes begin with", mark.hex(" "), b"PK\5\6".hex(" "))
    _demand("disks, comment", (disk, first_disk, comment), (0, 0, 0))
    _demand("entries on this disk", here, count)
    if count > MOST_ENTRIES:
        _refuse("entries", count, f"at most {MOST_ENTRIES}")
    if length > count * (_CENTRAL.size + MOST_NAME):
        _refuse("length of the central directory", length, f"that of {count} entries")
    _demand("end of the central directory", offset + length, size - _END.size)
    return count, b"".join(chunks(file, start + offset, length))


def _entry(header: bytes, rest: bytes, offset: int) -> tuple[Entry, int]:
    """The entry of one central header, without its place, and the length of its name."""
    mark, made_by, shared, comment, disk, internal, external, claimed = _CENTRAL.unpack(header)
    needs, flags, method, _, _, crc, packed, size, length, extra = _SHARED.unpack(shared)
    _demand("a central header begins with", mark.hex(" "), b"PK\1\2".hex(" "))
    name = _name(rest[:length] if length <= MOST_NAME else rest + b"...")
    _demand(f"{name}: compression method", method, ZIP_STORED)
    _demand(f"{name}: stored and unpacked size", packed, size)
    _demand(f"{name}: made by, needs, flags", (made_by, needs, flags), (_MADE_BY, _NEEDS, 0))
    _demand(f"{name}: extra field, comment, disk, attributes", (extra, comment, disk, internal), (0, 0, 0, 0))
    _demand(f"{name}: offset of its header", claimed, offset)
    return Entry(name, 0, size, crc, _mode(name, external)), length


def _mode(name: str, external: int) -> int:
    mode = external >> 16 & 0o777
    if mode not in (PLAIN, PROGRAM) or external != (REGULAR_FILE | mode) << 16:
        _refuse(f"{name}: mode and attributes", f"{external >> 16:o} {external & 0xFFFF:x}", "100644 or 100755, and 0")
    return mode


def _check_local(file: BinaryIO, start: int, header: bytes, name: str, offset: int) -> None:
    expected = _LOCAL.pack(b"PK\3\4", header[6:32]) + name.encode()
    found = b"".join(chunks(file, start + offset, len(expected)))
    if found != expected:
        _refuse(f"{name}: its header at byte {offset}", found.hex(" "), expected.hex(" "))


def _name(raw: bytes) -> str:
    """A path of printable ASCII that stays below the folder it is unpacked to."""
    name = raw.decode("ascii", "backslashreplace")
    parts = name.split("/")
    is_plain = name.isascii() and name.isprintable() and not set(name) & set('\\:*?"<>|')
    if not is_plain or len(raw) > MOST_NAME or any(part in ("", ".", "..") for part in parts):
        _refuse("a name", repr(name), f"a relative path of plain characters, at most {MOST_NAME}")
    return name


def _check_unique(name: str, seen: set[str], folders: set[str]) -> None:
    """No name twice, and none that is a file here and a folder there."""
    parts = name.split("/")
    above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    if name in seen or name in folders or above & seen:
        _refuse("a name", f"{name!r} twice", "each once, as a file or as a folder")
    seen.add(name)
    folders |= above


def _make_folders(path: Path, top: Path) -> set[Path]:
    """Make ``path``; all folders from below ``top`` to it."""
    path.mkdir(parents=True, exist_ok=True)
    return {one for one in (path, *path.parents) if top in one.parents}


def _demand(what: str, found: object, expected: object) -> None:
    if found != expected:
        _refuse(what, found, expected)


def _refuse(what: str, found: object, expected: object) -> NoReturn:
    raise BadArchive(f"{what}: {found}, expected {expected}")

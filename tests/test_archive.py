"""The archive reader: it takes what we write, byte for byte, and nothing else."""

import contextlib
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firmware_bridge import durable
from firmware_bridge.archive import MOST_ENTRIES, PLAIN, PROGRAM, BadArchive, StoredZip, pack

FILES = {"__main__.py": b"print(1)\n", "agent/core.py": b"", "agent/data/map.toml": b"x = 1\n" * 30_000}


def packed(files: Mapping[str, bytes], mode: int = PLAIN) -> bytes:
    file = io.BytesIO()
    pack(file, [(name, mode, data) for name, data in files.items()])
    return file.getvalue()


def read(data: bytes) -> dict[str, tuple[bytes, int]]:
    """Every entry with its mode."""
    archive = StoredZip(io.BytesIO(data), 0, len(data))
    return {name: (archive.read(name, 1 << 24), archive.entry(name).mode) for name in archive.names}


SMALL = packed({"a": b"first", "b/c": b"second"})
A_HEADER, A_DATA, B_HEADER = 0, 31, 36  # of SMALL: 30 bytes of header, the name, the bytes
CENTRAL = SMALL.index(b"PK\1\2")
END = len(SMALL) - 22


def patched(at: int, replacement: bytes, data: bytes = SMALL) -> bytes:
    return data[:at] + replacement + data[at + len(replacement) :]


def both(at: int, replacement: bytes) -> bytes:
    """Change a field of entry a in both of its headers; ``at``: its place in the local one."""
    return patched(CENTRAL + at + 2, replacement, patched(A_HEADER + at, replacement))


# ---- what we write ----


def test_what_is_packed_is_read_and_zipfile_reads_it_too() -> None:
    data = packed(FILES)

    assert {name: content for name, (content, _) in read(data).items()} == FILES
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(FILES)


def test_the_same_entries_are_the_same_bytes() -> None:
    assert packed(FILES) == packed(FILES)
    assert zlib.crc32(SMALL) == 0x24393BB6


def test_it_may_lie_within_a_file(tmp_path: Path) -> None:
    (tmp_path / "outer").write_bytes(b"before" + SMALL + b"after")

    with (tmp_path / "outer").open("rb") as file:
        assert StoredZip(file, 6, len(SMALL)).read("b/c", 6) == b"second"


def test_it_unpacks_with_two_modes_and_everything_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def sync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}").removeprefix(f"{tmp_path}/"))

    monkeypatch.setattr(durable, "sync", sync)
    (tmp_path / "a.zip").write_bytes(packed(FILES, PROGRAM))
    before = os.umask(0o077)

    with StoredZip.open(tmp_path / "a.zip") as archive:
        archive.unpack_to(tmp_path / "out")

    os.umask(before)

    assert (tmp_path / "out/agent/data/map.toml").read_bytes() == FILES["agent/data/map.toml"]
    assert stat.S_IMODE((tmp_path / "out/__main__.py").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "out/agent").stat().st_mode) == 0o755
    assert sorted(synced[:3]) == ["out/__main__.py", "out/agent/core.py", "out/agent/data/map.toml"]
    assert synced[3:] == ["out/agent/data", "out/agent", "out"], "each folder after what is in it"


def test_it_unpacks_into_no_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(SMALL)
    (tmp_path / "out").mkdir()

    with StoredZip.open(tmp_path / "a.zip") as archive, pytest.raises(FileExistsError):
        archive.unpack_to(tmp_path / "out")


# ---- what others write ----


def zipped(*entries: tuple[zipfile.ZipInfo | str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for info, data in entries:
            if isinstance(info, str):
                info = zipfile.ZipInfo(info)
                info.compress_type, info.external_attr = compression, (0o100644 << 16)
            archive.writestr(info, data)
    return file.getvalue()


def of_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def commented() -> bytes:
    file = io.BytesIO(SMALL)
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"hello"
    return file.getvalue()


def streamed() -> bytes:
    """As written to a pipe: sizes and CRC after the data."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("a", b"first")
    return bytes(pipe.data)


def overlapping() -> bytes:
    """Two entries that share the same bytes: what a zip bomb without compression is made of."""
    central, end = SMALL[CENTRAL : CENTRAL + 47], SMALL[END:]
    twice = central + central[:46] + b"z"
    return SMALL[:B_HEADER] + twice + end[:12] + struct.pack("<LL", len(twice), B_HEADER) + b"\0\0"


def with_a_gap() -> bytes:
    """Bytes between the last entry and the directory, which the end record knows of."""
    end = SMALL[END:]
    return SMALL[:CENTRAL] + b"gap" + SMALL[CENTRAL:END] + end[:16] + struct.pack("<L", CENTRAL + 3) + b"\0\0"


def counted(count: int) -> bytes:
    return patched(END + 8, struct.pack("<HH", count, count))


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "compressed": (lambda: zipped(("a", b"0" * 10_000), compression=zipfile.ZIP_DEFLATED), "compression method: 8"),
    "bzip2": (lambda: zipped(("a", b"0" * 10_000), compression=zipfile.ZIP_BZIP2), "compression method: 12"),
    "too many entries": (lambda: packed({f"f{n}": b"" for n in range(MOST_ENTRIES + 1)}), "entries: 10001"),
    "a link": (lambda: zipped((of_mode("a", 0o120777), b"/etc/passwd")), "a: mode and attributes: 120777"),
    "a device": (lambda: zipped((of_mode("a", 0o020600), b"")), "a: mode and attributes: 20600"),
    "a set-uid program": (lambda: zipped((of_mode("a", 0o104755), b"")), "a: mode and attributes: 104755"),
    "a folder's entry": (lambda: zipped((of_mode("a/", 0o040755), b"")), "a name: 'a/'"),
    "an absolute path": (lambda: zipped(("/etc/passwd", b"")), "a name: '/etc/passwd'"),
    "a parent path": (lambda: zipped(("a/../../b", b"")), "a name: 'a/../../b'"),
    "only a parent": (lambda: zipped(("..", b"")), r"a name: '\.\.'"),
    "a doubled slash": (lambda: zipped(("a//b", b"")), "a name: 'a//b'"),
    "its own folder": (lambda: zipped(("./a", b"")), "a name: './a'"),
    "a backslash": (lambda: patched(30, b"\\", patched(CENTRAL + 46, b"\\")), r"a name: '\\\\'"),
    "a drive": (lambda: zipped(("C:a", b"")), "a name: 'C:a'"),
    "a NUL": (lambda: patched(30, b"\0", patched(CENTRAL + 46, b"\0")), "a name: "),
    "no name": (lambda: zipped(("", b"")), "a name: ''"),
    "a Chinese name": (lambda: zipped(("固件", b"")), "a name: "),
    "a very long name": (lambda: zipped(("a" * 241, b""), ("b", b"")), "a name: 'aaaa"),
    "a name twice": (lambda: packed({"aa": b"", "bb": b""}).replace(b"bb", b"aa"), "'aa' twice"),
    "a file and a folder": (lambda: packed({"a": b"", "a/b": b""}), "'a/b' twice"),
    "a folder and a file": (lambda: packed({"a/b": b"", "a": b""}), "'a' twice"),
    "encrypted": (lambda: both(6, b"\1\0"), r"flags: \(788, 20, 1\)"),
    "streamed": (streamed, "flags"),
    "a newer format": (lambda: both(4, b"\x2d\0"), r"needs, flags: \(788, 45, 0\)"),
    "made on MS-DOS": (lambda: patched(CENTRAL + 5, b"\0"), "made by"),
    "an extra field": (lambda: both(28, b"\4\0"), "extra field"),
    "a comment of an entry": (lambda: patched(CENTRAL + 32, b"\1\0"), "comment"),
    "a comment": (commented, "the last 22 bytes begin with"),
    "bytes before": (lambda: b"#!/bin/sh\n" + SMALL, "end of the central directory"),
    "bytes after": (lambda: SMALL + b"\0", "the last 22 bytes begin with"),
    "a directory that was moved": (lambda: SMALL[:CENTRAL] + b"gap" + SMALL[CENTRAL:], "end of the central directory"),
    "a gap": (with_a_gap, "end of the entries: 75, expected 78"),
    "a size that lies in the directory": (lambda: patched(CENTRAL + 24, b"\7"), "unpacked size: 5, expected 7"),
    "a size that lies at the entry": (lambda: patched(A_HEADER + 22, b"\7"), "a: its header at byte 0: 50 4b 03 04"),
    "sizes that lie in both": (lambda: both(18, b"\7\0\0\0\7\0\0\0"), "offset of its header: 36, expected 38"),
    "a size past the end": (lambda: both(18, b"\xff\xff\xff\x7f" * 2), "offset of its header"),
    "zip64": (lambda: both(18, b"\xff\xff\xff\xff" * 2), "offset of its header"),
    "entries that overlap": (overlapping, "offset of its header: 0, expected 36"),
    "another offset": (lambda: patched(CENTRAL + 42, b"\1"), "offset of its header: 1, expected 0"),
    "fewer entries than there are": (lambda: counted(1), "length of the central directory"),
    "more entries than there are": (lambda: counted(3), "the central directory ends at byte"),
    "other counts": (lambda: patched(END + 8, b"\1"), "entries on this disk: 1, expected 2"),
    "a directory that is too long": (lambda: patched(END + 12, b"\xff\xff\xff\x7f"), "length of the central directory"),
    "a second disk": (lambda: patched(END + 4, b"\1"), "disks, comment"),
    "nothing": (lambda: b"", "size: 0, expected at least 22"),
    "text": (lambda: b"hello, this is no archive", "the last 22 bytes begin with"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_it_refuses(what: str) -> None:
    make, words = REFUSED[what]

    with pytest.raises(BadArchive, match=words):
        read(make())


def test_it_refuses_what_is_longer_than_asked_for() -> None:
    archive = StoredZip(io.BytesIO(SMALL), 0, len(SMALL))

    with pytest.raises(BadArchive, match="a has 5 bytes, expected at most 4"):
        archive.read("a", 4)
    with pytest.raises(BadArchive, match="it has no z"):
        archive.read("z", 4)


def test_it_refuses_an_entry_whose_bytes_changed() -> None:
    with pytest.raises(BadArchive, match=r"a: CRC: \w{8}, expected \w{8}"):
        read(patched(A_DATA, b"F"))


def test_it_refuses_every_beginning_of_an_archive() -> None:
    for size in range(len(SMALL)):
        with pytest.raises(BadArchive):
            read(SMALL[:size])


def test_every_flipped_bit_is_refused_or_changes_nothing() -> None:
    """The file's time and all that is neither name, mode nor content is fixed, or stands there twice."""
    good = read(SMALL)
    for bit in range(len(SMALL) * 8):
        data = bytearray(SMALL)
        data[bit // 8] ^= 1 << bit % 8
        try:
            assert read(bytes(data)) == good, f"bit {bit}"
        except BadArchive:
            continue


# ---- anything ----


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadArchive):
        read(data)


@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.binary(min_size=1, max_size=8)), max_size=6))
@example([(END + 12, b"\0\0\0\0"), (END + 8, b"\0\0\0\0")])
@settings(max_examples=2000)
def test_an_archive_with_any_bytes_changed_is_read_or_refused(changes: list[tuple[int, bytes]]) -> None:
    data = SMALL
    for at, replacement in changes:
        data = patched(at, replacement, data)
    try:
        found = read(data)
    except BadArchive:
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:  # what it does read, all the world reads the same
        assert {name: archive.read(name) for name in archive.namelist()} == {
            name: content for name, (content, _) in found.items()
        }


NAMES = st.text("abc.-_/ ~\\:\0é", min_size=1, max_size=12)


@given(st.dictionaries(NAMES, st.binary(max_size=40), max_size=6))
def test_any_names_are_kept_below_the_folder_or_refused(files: dict[str, bytes]) -> None:
    try:
        names = list(read(packed(files)))
    except BadArchive:
        return
    assert names == list(files)
    for name in names:
        assert os.path.normpath(f"/top/{name}") == f"/top/{name}"

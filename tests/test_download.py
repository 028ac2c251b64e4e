"""The disk side of a download: what is durable when, what is believed of it, and what a full disk leaves."""

import errno
import hashlib
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firmware_bridge import durable
from firmware_bridge.download import Download, Origin, discard
from firmware_bridge.errors import NoSpace

MIB = 1 << 20
ORIGIN = Origin("10.0.0.7", 21, "fw.bin", 3 * MIB, "20231114221320")
DATA = bytes(range(256)) * 4096  # 1 MiB


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "image"


def opened(into: Path, clock: Callable[[], float] = lambda: 0.0, reserve_bytes: int = 0) -> Download:
    return Download(into, reserve_bytes, clock)


def part(into: Path) -> Path:
    return into.with_name("image.part")


def row(into: Path) -> Path:
    return into.with_name("image.part.json")


def offset(into: Path) -> int:
    return int(json.loads(row(into).read_text())["offset"])


def begun(into: Path, data: bytes, **wishes: Any) -> Download:
    download = opened(into, **wishes)
    download.restart(ORIGIN)
    download.begin()
    download.add(data)
    return download


def test_a_row_is_written_per_mebibyte(into: Path) -> None:
    with begun(into, DATA[:-1]) as download:
        assert offset(into) == 0
        download.add(b"x")
        assert offset(into) == MIB
        download.add(b"y")
        assert offset(into) == MIB


def test_a_row_is_written_per_five_seconds(into: Path) -> None:
    clock = Clock()
    with begun(into, b"x" * 100, clock=clock) as download:
        clock.now = 4.9
        download.add(b"y")
        assert offset(into) == 0
        clock.now = 5.0
        download.add(b"z")
        assert offset(into) == 102


def test_data_are_durable_before_the_row_that_speaks_of_them(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    sync, replace = durable.sync, os.replace

    def noted_sync(fd: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{fd}")).name
        steps.append(f"sync {name} {os.fstat(fd).st_size}" if "image" in name else "sync folder")
        sync(fd)

    def noted_replace(old: Path, new: Path) -> None:
        steps.append(f"{old.name} becomes {new.name}")
        replace(old, new)

    with opened(into) as download:
        download.restart(ORIGIN)
        monkeypatch.setattr(durable, "sync", noted_sync)
        monkeypatch.setattr(os, "replace", noted_replace)
        download.add(b"x" * 100)
        download.finish()
    row_size = row(into).stat().st_size
    assert steps == [
        "sync image.part 100",
        f"sync .image.part.json.new {row_size}",
        ".image.part.json.new becomes image.part.json",
        "sync folder",
        "image.part becomes image",
        "sync folder",
    ]


def test_another_process_goes_on_at_the_durable_offset(into: Path) -> None:
    with begun(into, DATA) as download:
        download.add(b"lost")
        assert download.done == MIB + 4
    with opened(into) as download:
        assert (download.origin, download.done, download.is_patchwork) == (ORIGIN, MIB, True)
        assert part(into).stat().st_size == MIB
        download.add(b"more")
        assert download.sha256() == hashlib.sha256(DATA + b"more").hexdigest()
        download.finish()
    assert into.read_bytes() == DATA + b"more"


def test_a_whole_file_that_nobody_heard_of_is_found_again(into: Path) -> None:
    with begun(into, DATA) as download:
        download.finish()
    with opened(into) as download:
        assert (download.origin, download.done) == (ORIGIN, MIB)
        assert not into.exists()
        download.finish()
    assert into.read_bytes() == DATA


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(**fields: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


@pytest.mark.parametrize(
    ("of", "damage"),
    [
        (part, flip),
        (part, lambda path: os.truncate(path, MIB - 1)),
        (part, Path.unlink),
        (row, Path.unlink),
        (row, lambda path: path.write_bytes(b"")),
        (row, lambda path: path.write_bytes(b"[]")),
        (row, lambda path: path.write_bytes(b"\xff")),
        (row, edit(offset=-1)),
        (row, edit(offset=1 << 62)),
        (row, edit(offset="x")),
        (row, edit(origin={"host": "10.0.0.7"})),
        (row, edit(sha256=None)),
    ],
)
def test_what_can_not_be_believed_is_begun_anew(
    into: Path, of: Callable[[Path], Path], damage: Callable[[Path], None]
) -> None:
    with begun(into, DATA):
        pass
    damage(of(into))
    with opened(into) as download:
        assert (download.origin, download.done) == (None, 0)
        assert part(into).stat().st_size == 0


def test_the_reserve_is_kept_while_the_file_grows(into: Path) -> None:
    with begun(into, b"x" * 100, reserve_bytes=1 << 50) as download, pytest.raises(NoSpace) as refused:
        download.checkpoint()
    assert "needed: 0.0 MiB for the download and 1073741824.0 MiB kept for billing" in str(refused.value)
    assert os.listdir(into.parent) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_nothing_of_the_download(
    into: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: str
) -> None:
    def full_until_something_is_removed(*_: object) -> None:
        monkeypatch.undo()
        raise OSError(number, os.strerror(number))

    with begun(into, b"x" * 100) as download:
        monkeypatch.setattr(os, step, full_until_something_is_removed)
        with pytest.raises(NoSpace, match=rf"image.part: {os.strerror(number)} after 100 bytes"):
            download.checkpoint()
    assert {path for path in os.listdir(into.parent) if path.startswith("image")} == set()


def test_a_file_that_may_not_grow_is_no_space(into: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB // 2, before[1]))
    try:
        with pytest.raises(NoSpace, match="File too large"):
            begun(into, DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_broken_disk_is_not_called_full(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with begun(into, b"x" * 100) as download:
        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="Input/output error"):
            download.checkpoint()


def test_discard_removes_all_of_it(into: Path) -> None:
    with begun(into, DATA) as download:
        download.finish()
    with begun(into.with_name("other"), DATA):
        pass
    discard(into)
    discard(into)
    assert sorted(os.listdir(into.parent)) == ["other.part", "other.part.json"]

"""A download from a server that does as it should."""

import dataclasses
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_bridge.errors import FtpUnreachable, LoginRefused, NoFile, NotAuthentic
from firmware_bridge.fetch import Expect, Fetched, Length, small
from firmware_bridge.ftp import Source
from sim.ftp_server import FtpServer
from tests.fetch_helpers import IMAGE, MIB, OTHER, QUICK, Yard, asked, source_at

SHA256 = hashlib.sha256(IMAGE).hexdigest()


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


@pytest.fixture
def server(yard: Yard) -> Iterator[FtpServer]:
    with FtpServer(yard.shelf) as server:
        yield server


def test_the_file_arrives_with_its_hash(yard: Yard, server: FtpServer) -> None:
    fetched = yard.fetch(source_at(server))
    assert fetched == Fetched(yard.into, 3 * MIB, SHA256, Length.SIZE)
    assert yard.into.read_bytes() == IMAGE
    assert yard.into.stat().st_mode & 0o777 == 0o600
    assert server.asked == [
        "USER firmware", "PASS", "TYPE I", "SIZE fw.bin", "MDTM fw.bin", "PASV", "RETR fw.bin", "QUIT",
    ]  # fmt: skip


def test_signed_length_and_hash_are_checked(yard: Yard, server: FtpServer) -> None:
    assert yard.fetch(source_at(server), expect=Expect(3 * MIB, SHA256)).length is Length.TRUSTED


@pytest.mark.parametrize("block", [1, 7, 1024, 65536])
def test_any_packet_length_brings_the_same_file(yard: Yard, server: FtpServer, block: int) -> None:
    yard.put(IMAGE[:100_003])
    yard.fetch(source_at(server), block)
    assert yard.into.read_bytes() == IMAGE[:100_003]


def test_an_empty_file_is_a_file(yard: Yard, server: FtpServer) -> None:
    yard.put(b"")
    assert yard.fetch(source_at(server)).size == 0
    assert yard.into.read_bytes() == b""


@pytest.mark.parametrize("path", ["/fw v2.bin", "fw v2.bin", "deep/ 固件.bin", "/deep/%41&;*.bin", "-R", "ÿ.bin"])
def test_the_path_goes_to_the_server_as_it_is(yard: Yard, server: FtpServer, path: str) -> None:
    yard.put(OTHER, path.lstrip("/"))
    yard.fetch(source_at(server, path))
    assert asked(server, "RETR") == [f"RETR {path}"]
    assert yard.into.read_bytes() == OTHER


def test_paths_may_be_gbk(yard: Yard) -> None:
    yard.put(OTHER, "固件.bin")
    with FtpServer(yard.shelf, encoding="gbk") as server:
        yard.fetch(source_at(server, "固件.bin", encoding="gbk"))
        assert yard.into.read_bytes() == OTHER
        with pytest.raises(NoFile, match=r"'固件.bin'.*asked RETR, got '550 No such file"):
            yard.fetch(source_at(server, "固件.bin", encoding="utf-8"))


@pytest.mark.parametrize(
    ("path", "encoding", "fault"),
    [
        ("fw.bin\r\nDELE fw.bin", "utf-8", "has a line break or a NUL"),
        ("fw\n", "utf-8", "has a line break or a NUL"),
        ("fw\0.bin", "utf-8", "has a line break or a NUL"),
        ("ÿ.bin", "gbk", "can't be written in gbk"),
        ("", "utf-8", "is empty"),
    ],
)
def test_a_path_that_can_not_be_asked_for_is_refused_undialled(
    yard: Yard, server: FtpServer, path: str, encoding: str, fault: str
) -> None:
    with pytest.raises(NoFile) as refused:
        yard.fetch(source_at(server, path, encoding=encoding))
    assert str(refused.value) == f"path {path!r}: {fault}"
    assert server.asked == []


def test_an_account_that_can_not_be_said_is_refused_undialled(yard: Yard, server: FtpServer) -> None:
    with pytest.raises(LoginRefused, match=r"127.0.0.1:\d+: the account has a line break or a NUL"):
        yard.fetch(source_at(server, user="a\r\nDELE fw.bin"))
    with pytest.raises(LoginRefused, match="the password can't be written in gbk"):
        yard.fetch(source_at(server, password="ÿ", encoding="gbk"))
    assert server.asked == []


def test_progress_is_told_about_a_hundred_times_and_ends_whole(yard: Yard, server: FtpServer) -> None:
    yard.fetch(source_at(server))
    done = [done for done, _ in yard.progress]
    assert done[0] == 0
    assert done[-1] == 3 * MIB
    assert done == sorted(done)
    assert 95 <= len(done) <= 105
    assert {total for _, total in yard.progress} == {3 * MIB}


def test_a_slow_server_is_waited_for(yard: Yard, server: FtpServer) -> None:
    yard.put(IMAGE[:250_000])
    server.faults.bytes_per_s = 100_000
    began = time.monotonic()
    yard.fetch(source_at(server), limits=dataclasses.replace(QUICK, stall_s=10))
    assert time.monotonic() - began > 1.0
    assert yard.into.read_bytes() == IMAGE[:250_000]


def test_a_source_does_not_show_its_password() -> None:
    shown = repr(Source("host", 21, "account-7", "hunter2", "fw.bin"))
    assert "host" in shown
    assert "hunter2" not in shown
    assert "account-7" not in shown


def test_a_file_signed_otherwise_is_not_authentic(yard: Yard, server: FtpServer) -> None:
    yard.put(OTHER)
    with pytest.raises(NotAuthentic, match=f"has SHA-256 {hashlib.sha256(OTHER).hexdigest()}, signed is {SHA256}"):
        yard.fetch(source_at(server), expect=Expect(3 * MIB, SHA256))
    assert len(asked(server, "RETR")) == 1


@pytest.mark.parametrize("size", [3 * MIB - 1, 3 * MIB + 1])
def test_another_size_than_signed_is_not_authentic_before_a_byte_is_read(
    yard: Yard, server: FtpServer, size: int
) -> None:
    with pytest.raises(NotAuthentic, match=rf"'fw.bin': has {3 * MIB} bytes, signed are {size}"):
        yard.fetch(source_at(server), expect=Expect(size, SHA256))
    assert asked(server, "RETR") == []


def test_no_file_is_permanent(yard: Yard, server: FtpServer) -> None:
    with pytest.raises(NoFile, match=r"127.0.0.1:\d+ 'no.bin': asked RETR, got '550 No such file or directory.'"):
        yard.fetch(source_at(server, "no.bin"))
    assert yard.waits.seconds == []


def test_a_wrong_password_is_permanent(yard: Yard, server: FtpServer) -> None:
    with pytest.raises(LoginRefused, match=r"127.0.0.1:\d+ 'fw.bin': asked PASS, got '530 Authentication failed.'"):
        yard.fetch(source_at(server, password="wrong"))
    assert yard.waits.seconds == []


def test_a_name_that_is_none_is_unreachable(yard: Yard) -> None:
    with pytest.raises(FtpUnreachable, match=r"no-such-host.invalid:21 'fw.bin': connecting, "):
        yard.fetch(Source("no-such-host.invalid", 21, "a", "b", "fw.bin"))
    assert len(yard.waits.seconds) == QUICK.attempts - 1


def test_metadata_beside_the_file_are_read_or_not_there(yard: Yard, server: FtpServer) -> None:
    yard.put(IMAGE[:10_000], "fw.bin.tuf.zip")
    assert small(source_at(server), "fw.bin.tuf.zip", 10_000, limits=QUICK) == IMAGE[:10_000]
    assert small(source_at(server), "other.tuf.zip", 10_000, limits=QUICK) is None
    with pytest.raises(NotAuthentic, match=r"'fw.bin.tuf.zip': has more than 9999 bytes"):
        small(source_at(server), "fw.bin.tuf.zip", 9_999, limits=QUICK)


def test_a_link_in_the_job_folder_is_not_followed(yard: Yard, server: FtpServer) -> None:
    victim = yard.folder / "victim"
    victim.write_bytes(b"untouched")
    os.symlink(victim, yard.into.with_name("image.part"))
    with pytest.raises(OSError, match="symbolic link"):
        yard.fetch(source_at(server))
    assert victim.read_bytes() == b"untouched"

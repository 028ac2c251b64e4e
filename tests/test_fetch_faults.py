"""A download from a server, or over a line, that does all wrong: the file is exact, or the error says why not."""

import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firmware_bridge.errors import DownloadFailed, FtpUnreachable, LoginRefused, NoFile, NoSpace, NotAuthentic
from firmware_bridge.fetch import Expect, Length, small
from firmware_bridge.ftp import Source
from firmware_bridge.patience import Limits
from sim.ftp_server import Cut, FtpServer
from tests.fetch_helpers import IMAGE, MIB, OTHER, QUICK, Yard, asked, scripted_server, source_at

SHA256 = hashlib.sha256(IMAGE).hexdigest()
CUT_AT = MIB + 5000
TRIES = QUICK.attempts


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


@pytest.fixture
def server(yard: Yard) -> Iterator[FtpServer]:
    with FtpServer(yard.shelf) as server:
        server.faults.after = CUT_AT
        yield server


@pytest.mark.parametrize("cut", [Cut.HALF, Cut.ABORT, Cut.STALL])
def test_a_transfer_that_breaks_goes_on_where_it_stopped(yard: Yard, server: FtpServer, cut: Cut) -> None:
    server.faults.cut, server.faults.times = cut, 1
    yard.fetch(source_at(server))
    assert yard.into.read_bytes() == IMAGE
    assert asked(server, "REST") == [f"REST {CUT_AT}"]


def test_a_reset_loses_what_was_under_way_and_goes_on(yard: Yard, server: FtpServer) -> None:
    server.faults.cut, server.faults.times = Cut.RESET, 1
    yard.fetch(source_at(server))
    assert yard.into.read_bytes() == IMAGE
    assert len(asked(server, "RETR")) == 2


def test_a_line_that_breaks_every_time_brings_it_all_the_same(yard: Yard, server: FtpServer) -> None:
    server.faults.cut, server.faults.after = Cut.ABORT, 200_000
    yard.fetch(source_at(server))
    assert yard.into.read_bytes() == IMAGE
    assert asked(server, "REST") == [f"REST {at}" for at in range(200_000, 3 * MIB, 200_000)]
    assert len(yard.waits.seconds) == 15
    assert max(yard.waits.seconds) <= 1.5 * QUICK.first_wait_s


def test_a_control_connection_lost_while_data_flow_costs_no_data(yard: Yard, server: FtpServer) -> None:
    server.faults.cut, server.faults.times = Cut.HANG_UP, 1
    yard.fetch(source_at(server))
    assert yard.into.read_bytes() == IMAGE
    assert len(asked(server, "RETR")) == 1
    assert len(asked(server, "SIZE")) == 2


@pytest.mark.parametrize(
    ("cut", "fault"),
    [
        (Cut.HALF, f"the server said it was complete after {CUT_AT} of {3 * MIB} bytes"),
        (Cut.ABORT, "asked RETR, got '426 Transfer aborted; 0 bytes transmitted.'"),
        (Cut.STALL, "asked RETR, got nothing in 0.2 s"),
        (Cut.RESET, "asked RETR, Connection reset by peer"),
    ],
)
def test_without_a_new_byte_the_tries_are_bounded(yard: Yard, server: FtpServer, cut: Cut, fault: str) -> None:
    server.faults.cut = cut

    def no_more(number: int) -> None:
        server.faults.after = 0
        if cut is Cut.HALF:
            server.faults.replies["REST"] = "502 not here"
            server.faults.after = CUT_AT

    yard.waits.then = no_more
    with pytest.raises(DownloadFailed) as failed:
        yard.fetch(source_at(server), limits=Limits(stall_s=0.2, reserve_bytes=0))
    where = f"127.0.0.1:{server.port} 'fw.bin': "
    assert str(failed.value) == f"{where}{fault}; given up after 8 tries in a row without a new byte"
    assert len(yard.waits.seconds) in (TRIES, TRIES - 1)
    assert yard.left == {"image.part", "image.part.json"}


def test_a_file_that_is_half_on_the_server_is_never_taken_for_whole(yard: Yard, server: FtpServer) -> None:
    yard.put(IMAGE[:CUT_AT])
    server.faults.replies["SIZE"] = "502 unknown"
    with pytest.raises(DownloadFailed, match=rf"complete after {CUT_AT} of {3 * MIB} bytes; given up after 8 tries"):
        yard.fetch(source_at(server), expect=Expect(3 * MIB, SHA256))


def test_endless_data_are_cut_at_the_announced_size(yard: Yard, server: FtpServer) -> None:
    server.faults.endless = True
    fault = rf"'fw.bin': the server sent more than the {3 * MIB} bytes it has; given up after 8 tries"
    with pytest.raises(DownloadFailed, match=fault):
        yard.fetch(source_at(server), 65536)
    assert yard.into.with_name("image.part").stat().st_size == 0


def test_endless_data_without_a_size_are_cut_at_the_most_a_pile_takes(yard: Yard, server: FtpServer) -> None:
    server.faults.endless = True
    server.faults.replies["SIZE"] = "502 unknown"
    with pytest.raises(NoSpace, match=rf"'fw.bin': goes on after {MIB} bytes, expected at most that"):
        yard.fetch(source_at(server), 65536, limits=Limits(most_bytes=MIB, reserve_bytes=0))


def test_a_file_replaced_between_two_tries_is_had_anew(yard: Yard, server: FtpServer) -> None:
    server.faults.cut, server.faults.times = Cut.ABORT, 1
    yard.waits.then = lambda number: yard.put(OTHER, mtime=1_700_000_001)
    yard.fetch(source_at(server))
    assert yard.into.read_bytes() == OTHER
    assert asked(server, "REST") == []
    assert 0 in [done for done, _ in yard.progress[10:]]


def test_a_file_replaced_unnoticed_is_had_anew_once_its_hash_differs(yard: Yard, server: FtpServer) -> None:
    server.faults.cut, server.faults.times = Cut.ABORT, 1
    yard.waits.then = lambda number: yard.put(OTHER)  # same size, same time
    yard.fetch(source_at(server), expect=Expect(3 * MIB, hashlib.sha256(OTHER).hexdigest()))
    assert yard.into.read_bytes() == OTHER
    assert asked(server, "REST") == [f"REST {CUT_AT}"]
    assert len(asked(server, "RETR")) == 3


def test_a_patchwork_that_is_wrong_again_in_one_piece_is_not_authentic(yard: Yard, server: FtpServer) -> None:
    server.faults.cut, server.faults.times = Cut.ABORT, 1
    with pytest.raises(NotAuthentic):
        yard.fetch(source_at(server), expect=Expect(3 * MIB, hashlib.sha256(OTHER).hexdigest()))
    assert len(asked(server, "RETR")) == 3


def test_without_size_the_signed_length_is_what_counts(yard: Yard, server: FtpServer) -> None:
    server.faults.replies["SIZE"] = "502 unknown"
    server.faults.cut, server.faults.times = Cut.HALF, 1
    assert yard.fetch(source_at(server), expect=Expect(3 * MIB, SHA256)).length is Length.TRUSTED
    assert yard.into.read_bytes() == IMAGE


def test_without_any_length_the_servers_word_is_all_and_that_is_said(yard: Yard, server: FtpServer) -> None:
    server.faults.replies |= {"SIZE": "502 unknown", "MDTM": "500 unknown"}
    server.faults.cut, server.faults.times = Cut.ABORT, 1
    assert yard.fetch(source_at(server)).length is Length.END
    assert yard.into.read_bytes() == IMAGE
    assert {total for _, total in yard.progress} == {None}


@pytest.mark.parametrize("reply", ["501 no", "502 no", "504 not for files"])
def test_a_server_that_does_not_resume_is_read_from_the_beginning(yard: Yard, server: FtpServer, reply: str) -> None:
    server.faults.cut, server.faults.times = Cut.ABORT, 1
    server.faults.replies["REST"] = reply
    yard.fetch(source_at(server))
    assert yard.into.read_bytes() == IMAGE
    assert asked(server, "REST", "RETR") == ["RETR fw.bin", f"REST {CUT_AT}", "RETR fw.bin"]


def test_a_server_that_only_says_that_it_resumes_is_found_out(yard: Yard, server: FtpServer) -> None:
    server.faults.cut, server.faults.times = Cut.ABORT, 1
    server.faults.replies["REST"] = "350 certainly"
    yard.fetch(source_at(server))
    assert yard.into.read_bytes() == IMAGE


def test_a_position_past_the_end_starts_anew(yard: Yard, server: FtpServer) -> None:
    server.faults.replies |= {"SIZE": "502 unknown", "MDTM": "502 unknown"}
    server.faults.cut, server.faults.times = Cut.ABORT, 1
    yard.waits.then = lambda number: yard.put(OTHER[:MIB])
    yard.fetch(source_at(server))
    assert yard.into.read_bytes() == OTHER[:MIB]


@pytest.mark.parametrize("reply", ["421 too many", "425 no data connection", "426 no", "450 busy", "451 local error"])
def test_a_passing_refusal_is_tried_again(yard: Yard, server: FtpServer, reply: str) -> None:
    server.faults.replies["RETR"] = reply
    yard.waits.then = lambda number: server.faults.replies.clear() if number == 3 else None
    yard.fetch(source_at(server))
    assert yard.into.read_bytes() == IMAGE
    assert len(yard.waits.seconds) == 3


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("550 Permission denied.", NoFile),
        ("553 name not allowed", NoFile),
        ("530 Please login", LoginRefused),
        ("532 need an account", LoginRefused),
    ],
)
def test_a_lasting_refusal_of_the_file_is_not(yard: Yard, server: FtpServer, reply: str, expected: type) -> None:
    server.faults.replies["RETR"] = reply
    with pytest.raises(expected, match=rf"asked RETR, got '{reply}'"):
        yard.fetch(source_at(server))
    assert yard.waits.seconds == []


@pytest.mark.parametrize("command", ["TYPE", "SIZE", "MDTM", "PASV"])
def test_a_server_that_goes_away_before_the_data_is_unreachable(yard: Yard, server: FtpServer, command: str) -> None:
    server.faults.replies[command] = "421 going down"
    with pytest.raises(FtpUnreachable, match=rf"asked {command}, got '421 going down'; given up after 8 tries"):
        yard.fetch(source_at(server))


def test_a_server_away_for_minutes_is_waited_for(yard: Yard, server: FtpServer) -> None:
    server.faults.cut, server.faults.times = Cut.ABORT, 1

    def restart(number: int) -> None:
        if number == 1:
            server.stop()
        if number == 7:
            server.start()

    yard.waits.then = restart
    yard.fetch(source_at(server))
    assert yard.into.read_bytes() == IMAGE
    assert asked(server, "REST") == [f"REST {CUT_AT}"]
    assert 60 < sum(yard.waits.seconds) < 200


def test_a_port_nobody_listens_on_is_unreachable(yard: Yard, server: FtpServer) -> None:
    server.stop()
    with pytest.raises(FtpUnreachable, match=r"127.0.0.1:\d+ 'fw.bin': connecting, Connection refused; given up"):
        yard.fetch(source_at(server))


def test_a_firewall_before_the_data_port_is_named(yard: Yard, server: FtpServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    server.faults.replies["PASV"] = f"227 here (10,0,0,1,{port >> 8},{port & 255})"
    with pytest.raises(FtpUnreachable, match="connecting for data, Connection refused"):
        yard.fetch(source_at(server))


def test_data_are_taken_from_nobody_but_the_server_that_was_dialled(yard: Yard, server: FtpServer) -> None:
    """What PASV says of a host is ignored: else a server could have us dial into the site's network."""
    with socket.create_server(("127.0.0.2", 0)) as elsewhere:
        elsewhere.settimeout(0.1)
        port = elsewhere.getsockname()[1]
        server.faults.replies["PASV"] = f"227 there (127,0,0,2,{port >> 8},{port & 255})"
        with pytest.raises(FtpUnreachable, match="connecting for data"):
            yard.fetch(source_at(server))
        with pytest.raises(TimeoutError):
            elsewhere.accept()


def test_a_disk_that_is_needed_for_billing_is_left_alone(yard: Yard, server: FtpServer) -> None:
    with pytest.raises(NoSpace, match=r"MiB free, needed: 3.0 MiB for the download and 1073741824.0 MiB kept for bill"):
        yard.fetch(source_at(server), limits=Limits(reserve_bytes=1 << 50))
    assert asked(server, "RETR") == []
    assert yard.left == set()


def test_more_than_a_pile_takes_is_not_begun(yard: Yard, server: FtpServer) -> None:
    with pytest.raises(NoSpace, match=rf"'fw.bin': has {3 * MIB} bytes, expected at most {MIB}"):
        yard.fetch(source_at(server), limits=Limits(most_bytes=MIB, reserve_bytes=0))
    assert asked(server, "RETR") == []


def test_a_server_too_slow_to_be_worth_it_is_dialled_again_until_the_deadline(yard: Yard, server: FtpServer) -> None:
    def clock() -> float:
        yard.waits.now += 30.0
        return yard.waits.now

    fault = (
        r"(: \d+ bytes in \d+ s, expected at least 200 a second|took too long); given up, the deadline of 14400 s is"
    )
    with pytest.raises(DownloadFailed, match=fault):
        yard.fetch(source_at(server), 16, clock=clock)
    assert len(asked(server, "RETR")) > 3
    assert yard.waits.now < 1000 + 14_400 + 120


# ---- servers that hardly are ----


def unreachable(yard: Yard, talk: Callable[[socket.socket], None], limits: Limits = QUICK) -> str:
    with scripted_server(talk) as port, pytest.raises((FtpUnreachable, DownloadFailed)) as failed:
        yard.fetch(Source("127.0.0.1", port, "firmware", "secret", "fw.bin"), limits=limits)
    return str(failed.value).split("'fw.bin': ", 1)[1].split(";")[0]


def answers(*lines: bytes) -> Callable[[socket.socket], None]:
    """Says ``lines``, each after a command but the first, then closes."""

    def talk(client: socket.socket) -> None:
        client.sendall(lines[0])
        for line in lines[1:]:
            client.recv(4096)
            client.sendall(line)

    return talk


def endlessly(client: socket.socket) -> None:
    client.sendall(b"220-welcome\r\n")
    while True:
        client.sendall(b"220-and welcome\r\n" * 1000)


@pytest.mark.parametrize(
    ("talk", "fact"),
    [
        (lambda client: None, "connecting, the server closed the connection"),
        (answers(b"421 too many connections\r\n"), "connecting, got '421 too many connections'"),
        (answers(b"530 only five at a time\r\n"), "connecting, got '530 only five at a time'"),
        (answers(b"HTTP/1.1 400 Bad Request\r\n"), "connecting, got 'HTTP/1.1 400 Bad Request'"),
        (answers(b"220 \xb9\xcc\r\n", b"421 \xb9\xcc\x1b[2J\r\n"), "asked USER, got '421 ��\\x1b[2J'"),
        (answers(b"220 hi\r\n", b"230 in\r\n"), "asked TYPE, the server closed the connection"),
        (answers(b"220 hi\n", b"230 in\n", b"200 ok\n", b"213 1e3\n"), "asked SIZE, got an answer that is none"),
        (endlessly, "connecting, got an answer that is none"),
        (lambda client: client.sendall(b"2" * 200_000), "connecting, got an answer that is none"),
    ],
)  # fmt: skip
def test_a_server_that_talks_nonsense_is_an_error_like_others(
    yard: Yard, talk: Callable[[socket.socket], None], fact: str
) -> None:
    assert unreachable(yard, talk) == fact


def test_a_server_that_says_nothing_is_left_after_the_stall_time(yard: Yard) -> None:
    def silent(client: socket.socket) -> None:
        client.recv(1)

    began = time.monotonic()
    assert unreachable(yard, silent, Limits(stall_s=0.1, attempts=2)) == "connecting, got nothing in 0.1 s"
    assert time.monotonic() - began < 2


def test_a_greeting_that_drips_ends_at_the_deadline(yard: Yard) -> None:
    def drip(client: socket.socket) -> None:
        while True:
            client.sendall(b"2")
            yard.waits.now += 600
            time.sleep(0.001)

    assert unreachable(yard, drip) == "took too long"


def test_metadata_are_tried_for_again_and_never_taken_half(yard: Yard, server: FtpServer) -> None:
    server.faults.cut, server.faults.after = Cut.HALF, 5000
    yard.waits.then = lambda number: setattr(server.faults, "times", 0) if number == 2 else None
    wishes = {"clock": yard.waits.clock, "sleep": yard.waits.sleep, "limits": QUICK}
    assert small(source_at(server), "fw.bin", 4 * MIB, **wishes) == IMAGE
    assert len(yard.waits.seconds) == 2


def test_the_row_on_the_disk_says_what_and_how_much(yard: Yard, server: FtpServer) -> None:
    server.faults.cut = Cut.ABORT
    yard.waits.then = lambda number: setattr(server.faults, "after", 0)
    with pytest.raises(DownloadFailed):
        yard.fetch(source_at(server))
    row = json.loads(yard.into.with_name("image.part.json").read_text())
    assert row == {
        "origin": {
            "host": "127.0.0.1", "port": server.port, "path": "fw.bin", "size": 3 * MIB, "mdtm": "20231114221320"
        },
        "offset": CUT_AT,
        "sha256": hashlib.sha256(IMAGE[:CUT_AT]).hexdigest(),
    }  # fmt: skip

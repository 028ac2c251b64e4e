"""Account and password are in no error, in nothing that hangs on it, and in no file."""

import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_bridge.errors import FirmwareError, LoginRefused
from sim.ftp_server import Cut, FtpServer
from tests.fetch_helpers import Yard, source_at

PASSWORD = "hunter2 %s{0}"
ACCOUNT = "pile-account-7"


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


@pytest.fixture
def server(yard: Yard) -> Iterator[FtpServer]:
    with FtpServer(yard.shelf, ACCOUNT, PASSWORD) as server:
        yield server


def everything_of(error: BaseException) -> str:
    """All that a log, a debugger or a careless ``except`` could show of it."""
    told = [repr(error), str(error), "".join(traceback.format_exception(error))]
    for behind in (error.__cause__, error.__context__):
        if behind is not None:
            told.append(everything_of(behind))
    return "\n".join(told)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("PASS", "530 wrong password '{}' for pile-account-7"),
        ("PASS", "530-two lines\r\n530 PASS {}"),
        ("PASS", "421 {} {} {}"),
        ("PASS", f"530 {PASSWORD.upper()}"),
        ("PASS", "230{}"),
        ("PASS", "{}"),
        ("USER", "500 no account {}"),
        ("RETR", f"550 {PASSWORD}: no"),
        ("REST", f"421 {PASSWORD}"),
        ("SIZE", f"421 {PASSWORD}"),
        ("PASV", f"227 {PASSWORD}"),
    ],
)
def test_a_server_that_repeats_the_password_is_not_quoted(
    yard: Yard, server: FtpServer, command: str, reply: str
) -> None:
    server.faults.replies[command] = reply
    server.faults.cut, server.faults.after = Cut.ABORT, 1000
    with pytest.raises(FirmwareError) as failed:
        yard.fetch(source_at(server, user=ACCOUNT, password=PASSWORD))
    told = everything_of(failed.value)
    assert "hunter2" not in told.lower()
    if command in ("PASS", "USER"):
        assert ACCOUNT not in told


def test_what_is_left_of_the_servers_words_is_told(yard: Yard, server: FtpServer) -> None:
    server.faults.replies["PASS"] = "530 login as pile-account-7 with {} refused"
    with pytest.raises(LoginRefused, match=r"asked PASS, got '530 login as \*\*\* with \*\*\* refused'"):
        yard.fetch(source_at(server, user=ACCOUNT, password=PASSWORD))


def test_the_words_of_a_server_are_cut_after_the_secrets_are_out(yard: Yard, server: FtpServer) -> None:
    server.faults.replies["PASS"] = "530 " + "x" * 191 + "{}"  # the cut goes through the password
    with pytest.raises(LoginRefused) as failed:
        yard.fetch(source_at(server, user=ACCOUNT, password=PASSWORD))
    assert "hunt" not in str(failed.value)


def test_the_job_folder_knows_neither(yard: Yard, server: FtpServer) -> None:
    yard.fetch(source_at(server, user=ACCOUNT, password=PASSWORD))
    for path in yard.into.parent.iterdir():
        assert PASSWORD.encode() not in path.read_bytes()
        assert ACCOUNT.encode() not in path.read_bytes()

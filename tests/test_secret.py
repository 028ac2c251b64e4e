"""Passwords in commands: hashed, and what may not be kept because it may hold one."""

import pytest

from agent.desk import command_key
from agent.protocol.commands import COMMANDS
from agent.secret import carries_secret, hashed, is_password, may_carry_secret

HEAD = "10.0.0.1,API:2.0.2,{},1795305600000,0000012345"


def line(command: object, data: str = "") -> bytes:
    return (HEAD.format(command) + (f",{data}" if data else "")).encode()


def test_a_password_is_known_again_by_its_hash() -> None:
    login = hashed("密码 1,2")
    assert login.startswith("scrypt$16384$8$1$")
    assert "," not in login  # it stands in a field of the message that the core gets
    assert is_password("密码 1,2", login)
    assert not is_password("密码 1,3", login)


def test_two_hashes_of_one_password_differ() -> None:
    assert hashed("secret") != hashed("secret")


def test_the_commands_with_a_password_are_106_and_113() -> None:
    assert [number for number in COMMANDS if may_carry_secret(line(number, "1"))] == [106, 113]


@pytest.mark.parametrize("text", [b"", b"106", b"a,b", line("1O6", "secret"), line(" 106"), line(115), line("0106")])
def test_what_is_no_command_may_hold_a_password_too(text: bytes) -> None:
    assert may_carry_secret(text)


@pytest.mark.parametrize("command", [100, 106])
def test_a_command_is_the_same_by_all_but_ip_and_version(command: int) -> None:
    sent = line(command, "secret")
    assert command_key(sent) == command_key(sent.replace(b"10.0.0.1,API:2.0.2", b"10.0.0.2,2.0.2"))
    assert command_key(sent) != command_key(line(command, "secres"))
    assert len(command_key(sent)) == 16


@pytest.mark.parametrize("number", [b"106", b"113", b"0106"])
def test_a_command_with_a_password_gets_a_slow_key(number: bytes) -> None:
    assert carries_secret(b"ip,API:2.0.2," + number + b",1,P1,data")


@pytest.mark.parametrize("text", [b"", b"rubbish", b"ip,v,1060,1,P1", b"ip,v,x,1,P1", b"ip,v,101,1,P1,106"])
def test_rubbish_and_other_commands_do_not(text: bytes) -> None:
    """A slow key takes a tenth of a second on a board: a flood of rubbish would stop the feeding of the watchdogs."""
    assert not carries_secret(text)

"""The command table itself: complete, consistent, and true to its literal examples."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from codec_helpers import CODEC, PILE, line

from agent.protocol.codec import outcome_text
from agent.protocol.commands import COMMANDS, RECORD_EXAMPLES, RECORDS, Command, Empty, Explanation
from agent.protocol.fields import (
    Choice,
    DayEnd,
    DayStart,
    Double,
    Gun,
    InnerPile,
    Int,
    Kind,
    Repeat,
    SizedText,
    Text,
    TextChoice,
    describe,
    fields_of,
)
from agent.protocol.results import RESULT_MEANINGS, GunStatus, Result, StopReason, UpdateState

ALL = list(COMMANDS.values())
IDS = [str(command.number) for command in ALL]
UNITS = ("_fen", "_s", "_ms", "_wh", "_dv", "_da", "_dc", "_a", "_w", "_pct", "_bytes")
# Integers that are no quantity, or whose unit the whole project knows by the name.
PLAIN = {
    "type", "number", "total", "sequence", "code", "start_type", "stop_reason", "offline_records", "guns", "gun_uses",
    "server_port", "bay", "parking_bay", "price", "service_fee", "delivered", "percent",
}  # fmt: skip


def classes() -> Iterator[type]:
    """Every message class and row class of the table."""
    for command in ALL:
        for cls in (command.data, *command.replies):
            yield cls
            yield from (kind.row for kind in fields_of(cls).values() if isinstance(kind, Repeat))


CLASSES = sorted(set(classes()) | {Explanation}, key=lambda cls: cls.__name__)
FIELDS = [(cls, name, kind) for cls in CLASSES for name, kind in fields_of(cls).items()]
FIELD_IDS = [f"{cls.__name__}.{name}" for cls, name, _ in FIELDS]


def test_100_to_114_each_once() -> None:
    assert sorted(COMMANDS) == list(range(100, 115))
    assert [command.number for command in ALL] == list(range(100, 115))


def test_titles_are_distinct_and_make_plain_names() -> None:
    names = [command.name for command in ALL]
    assert len(set(names)) == 15
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", name) for name in names)


def test_what_expires() -> None:
    """A reboot or an upgrade order; of 101 only the start, which the command itself tells apart from the stop."""
    assert [command.number for command in ALL if command.expires] == [108, 113, 114]


@pytest.mark.parametrize("command", ALL, ids=IDS)
def test_the_example_both_ways(command: Command) -> None:
    payload = line(command.number, command.example)
    message = CODEC.decode(payload)
    data: Any = message.data
    assert [type(message.data)] == [command.data]
    assert CODEC.encode(message.ip, message.version, message.command, message.timestamp, message.pile, data) == payload


@pytest.mark.parametrize("command", ALL, ids=IDS)
def test_the_reply_example_both_ways(command: Command) -> None:
    outcome = "0" + ("," + command.reply_example if command.reply_example else "")
    payload = CODEC.encode_reply("ip", "v", command.number, 1795305600123, PILE, "1795305600000", outcome)
    reply = CODEC.decode_reply(payload)
    assert type(reply.body) in command.replies
    assert outcome_text(command.number, Result.OK, reply.body, PILE) == outcome


@pytest.mark.parametrize("command", ALL, ids=IDS)
def test_the_example_fills_every_field(command: Command) -> None:
    """An example that leaves a text or a list empty would not show where it stands."""
    assert all(value != "" and value != () for value in CODEC.decode(line(command.number, command.example)).data)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_class_says_what_it_is(cls: type) -> None:
    assert cls.__doc__ is not None
    assert cls.__doc__.endswith(".")
    assert not cls.__doc__.startswith(cls.__name__ + "("), "a NamedTuple's own docstring says nothing"


@pytest.mark.parametrize(("cls", "name", "kind"), FIELDS, ids=FIELD_IDS)
def test_a_field_has_a_kind_and_its_python_type(cls: type, name: str, kind: Kind) -> None:
    annotated: Any = cls.__annotations__[name].__origin__
    expected: dict[type, tuple[Any, ...]] = {
        Text: (str,), TextChoice: (str,), SizedText: (str,), InnerPile: (str,), Double: (float,), Gun: (int,),
        Choice: (int,), Int: (int, int | None), DayStart: (int,), DayEnd: (int,),
    }  # fmt: skip
    if isinstance(kind, Repeat):
        assert annotated.__args__ == (kind.row,)
    else:
        assert annotated in expected[type(kind)]
    assert describe(kind)


@pytest.mark.parametrize(("cls", "name", "kind"), FIELDS, ids=FIELD_IDS)
def test_a_quantity_has_its_unit_in_its_name(cls: type, name: str, kind: Kind) -> None:
    if isinstance(kind, DayStart | DayEnd) or (isinstance(kind, Int) and name not in PLAIN):
        assert name.endswith(UNITS)


@pytest.mark.parametrize(("cls", "name", "kind"), FIELDS, ids=FIELD_IDS)
def test_a_field_is_explained(cls: type, name: str, kind: Kind) -> None:
    if not isinstance(kind, Gun | InnerPile | Choice | TextChoice | Repeat):
        assert kind.doc, "text and numbers say what they mean"


def test_passwords_are_secret() -> None:
    secret = {name for _, name, kind in FIELDS if isinstance(kind, Text) and kind.secret}
    assert secret == {"screen_password", "ftp_password"} == {name for _, name, _ in FIELDS if "password" in name}


def test_only_a_last_field_is_optional_or_runs_to_the_end() -> None:
    for cls in CLASSES:
        for kind in list(fields_of(cls).values())[:-1]:
            assert not (isinstance(kind, Int) and kind.optional)
            assert not (isinstance(kind, Repeat) and kind.to_end)


def test_every_result_has_a_meaning() -> None:
    assert list(RESULT_MEANINGS) == list(Result)


def test_the_numbers_of_the_protocol() -> None:
    assert {result.name: result.value for result in Result} == {
        "OK": 0, "ACCEPTED": 1, "DEFERRED": 2, "DUPLICATE": 3, "MALFORMED": 10, "WRONG_PILE": 11, "NO_SUCH_GUN": 12,
        "OUT_OF_RANGE": 13, "NOT_SUPPORTED": 14, "EXPIRED": 15, "NOT_PLUGGED": 20, "OCCUPIED": 21, "RESERVED": 22,
        "INSUFFICIENT_BALANCE": 23, "FAULT": 24, "BUSY": 25, "NO_TARIFF": 26, "NOT_CHARGING": 27,
        "ORDER_MISMATCH": 28, "START_TIMEOUT": 29, "NO_RECORD": 30, "OFFLINE_LIMIT": 31, "DEVICE_SILENT": 40,
        "DEVICE_REFUSED": 41, "NOT_APPLIED": 42, "NO_CREDENTIALS": 50, "FTP_UNREACHABLE": 51,
        "FTP_LOGIN_REFUSED": 52, "FTP_NO_FILE": 53, "DOWNLOAD_FAILED": 54, "NOT_AUTHENTIC": 55, "WRONG_HARDWARE": 56,
        "VERSION_REFUSED": 57, "NO_SPACE": 58, "INSTALL_FAILED": 59, "ROLLED_BACK": 60, "INTERNAL": 99,
    }  # fmt: skip
    assert [status.name for status in GunStatus] == [
        "IDLE", "PLUGGED", "STARTING", "CHARGING", "STOPPING", "ENDED", "RESERVED", "OUT_OF_SERVICE", "FAULT",
        "UPDATING",
    ]  # fmt: skip
    assert [status.value for status in GunStatus] == list(range(1, 11))
    assert [state.name for state in UpdateState] == [
        "NONE", "WAITING", "DOWNLOADING", "VERIFYING", "INSTALLING", "RESTARTING", "DONE",
    ]  # fmt: skip
    assert [state.value for state in UpdateState] == list(range(7))
    assert [reason.name for reason in StopReason] == [
        "PLATFORM", "APP", "FULL", "AMOUNT_REACHED", "UNPLUGGED", "EMERGENCY_STOP", "FAULT", "DEVICE_SILENT",
        "OFFLINE_NOT_ALLOWED", "POWER_LOST", "NO_CURRENT", "TIME", "LOCAL",
    ]  # fmt: skip
    assert [reason.value for reason in StopReason] == list(range(1, 14))


def test_final_and_error_results() -> None:
    assert [result for result in Result if not result.is_final] == [Result.ACCEPTED, Result.DEFERRED]
    assert [result for result in Result if not result.is_error] == [
        Result.OK, Result.ACCEPTED, Result.DEFERRED, Result.DUPLICATE,
    ]  # fmt: skip


@pytest.mark.parametrize("cls", RECORD_EXAMPLES, ids=lambda cls: cls.__name__)
def test_the_record_examples_both_ways(cls: type) -> None:
    payload = CODEC.encode_reply("ip", "v", 104, 1795305600123, PILE, "1795305600000", f"0,{RECORD_EXAMPLES[cls]}")
    body: Any = CODEC.decode_reply(payload).body
    assert [type(body)] == [cls]
    assert outcome_text(104, Result.OK, body, PILE) == f"0,{RECORD_EXAMPLES[cls]}"


def test_every_record_has_an_example() -> None:
    assert tuple(RECORD_EXAMPLES) == RECORDS[1:]


@pytest.mark.parametrize("command", ALL, ids=IDS)
def test_a_command_says_what_it_is_for(command: Command) -> None:
    assert bool(command.purpose) == (command.data is Empty), "a command with data says it in its class"
    assert not command.purpose or command.purpose.endswith(".")
    assert not command.note or command.note.endswith(".")

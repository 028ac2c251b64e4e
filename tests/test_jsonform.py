"""Messages as JSON objects: what ``decode`` prints and ``encode`` takes."""

import json
from typing import Any

import pytest
from codec_helpers import CODEC, PILE, line, refused

from agent.protocol.commands import COMMANDS
from agent.protocol.jsonform import encode_json, error_to_json, message_to_json, reply_to_json
from agent.protocol.results import Result
from cext.message import MessageError

TARIFF = {
    "ip": "192.168.1.1",
    "version": "API:2.0.2",
    "command": 110,
    "timestamp": 1795305600000,
    "pile": "0000012345",
    "data": {
        "template": "T7",
        "gun": 0,
        "periods": [
            {"start_s": 21600, "end_s": 79200, "price": 100000, "service_fee": 50000},
            {"start_s": 79200, "end_s": 21600, "price": 40000, "service_fee": 30000},
        ],
    },
}


def changed(number: int, **changes: Any) -> dict[str, Any]:
    """The example of a command as an object, with ``data`` fields changed."""
    form = message_to_json(CODEC.decode(line(number, COMMANDS[number].example)))
    return form | {"data": form["data"] | changes}


def refusal(form: object) -> MessageError:
    with pytest.raises(MessageError) as caught:
        encode_json(CODEC, form)
    return caught.value


def test_a_message() -> None:
    assert message_to_json(CODEC.decode(line(110, COMMANDS[110].example))) == TARIFF
    assert encode_json(CODEC, TARIFF) == line(110, COMMANDS[110].example)


@pytest.mark.parametrize("number", COMMANDS)
def test_every_command_through_json_and_back(number: int) -> None:
    payload = line(number, COMMANDS[number].example)
    text = json.dumps(message_to_json(CODEC.decode(payload)))
    assert encode_json(CODEC, json.loads(text)) == payload


def test_the_fields_have_their_declared_names() -> None:
    form = changed(101)
    assert list(form) == ["ip", "version", "command", "timestamp", "pile", "data"]
    assert list(form["data"]) == [
        "type", "pile", "gun", "account", "balance_fen", "prepaid_fen", "free_fen", "order",
    ]  # fmt: skip


def test_no_data_is_an_empty_object() -> None:
    assert message_to_json(CODEC.decode(line(100)))["data"] == {}


def test_a_reply() -> None:
    reply = CODEC.decode_reply(b"ip,v,101,5,P,7,0,1,O1,6,3")
    assert reply_to_json(reply) == {
        "ip": "ip", "version": "v", "command": 101, "timestamp": 5, "pile": "P", "request_timestamp": "7",
        "result": 0, "meaning": "OK", "data": {"gun": 1, "order": "O1", "status": 6, "stop_reason": 3},
    }  # fmt: skip


def test_a_reply_leaves_out_what_was_not_given() -> None:
    assert reply_to_json(CODEC.decode_reply(b"ip,v,101,5,P,7,0,1,O1,4"))["data"] == {
        "gun": 1,
        "order": "O1",
        "status": 4,
    }


def test_a_reply_that_says_what_was_wrong() -> None:
    form = reply_to_json(CODEC.decode_reply(b"ip,v,101,5,P,7,3,20,no car"))
    assert {key: form[key] for key in list(form)[6:]} == {
        "result": 3, "meaning": "DUPLICATE", "first_result": 20, "first_meaning": "NOT_PLUGGED", "message": "no car",
    }  # fmt: skip


def test_an_error() -> None:
    assert error_to_json(refused(line(103, "x")), 7) == {
        "error": {"result": 10, "field": "gun", "message": "gun = 'x': expected a gun's number from 1"},
        "line": 7,
    }


# ---- objects that are no message ----


@pytest.mark.parametrize("form", [None, 1, "text", [], [TARIFF], True, 1.5])
def test_a_message_is_an_object(form: object) -> None:
    assert str(refusal(form)) == "message: expected an object with ip, version, command, timestamp, pile, data"


@pytest.mark.parametrize("name", ["ip", "version", "command", "timestamp", "pile", "data"])
def test_every_key_is_needed(name: str) -> None:
    error = refusal({key: value for key, value in TARIFF.items() if key != name})
    assert (error.result, error.field) == (Result.MALFORMED, name)


def test_no_other_key_is_taken() -> None:
    assert refusal(TARIFF | {"gun": 1}).field == "gun"
    assert refusal(changed(103, guns=1)).field == "guns"
    assert str(refusal(TARIFF | {"command": 100})) == "template: expected data to have only no keys"


@pytest.mark.parametrize("name", ["command", "timestamp"])
@pytest.mark.parametrize("value", ["101", 101.0, True, None, [101], {}])
def test_the_envelopes_numbers_are_integers(name: str, value: object) -> None:
    assert refusal(TARIFF | {name: value}).field == name


@pytest.mark.parametrize("name", ["ip", "version", "pile"])
@pytest.mark.parametrize("value", [1, None, "a,b", "a\nb", "\ud800", ["x"], {}])
def test_the_envelopes_texts_are_texts(name: str, value: object) -> None:
    assert refusal(TARIFF | {name: value}).field == name


@pytest.mark.parametrize("number", [99, 115, 2**80, -1])
def test_an_unknown_command(number: int) -> None:
    error = refusal(TARIFF | {"command": number})
    assert (error.result, error.field) == (Result.NOT_SUPPORTED, "command")


def test_a_timestamp_of_64_bits() -> None:
    assert refusal(TARIFF | {"timestamp": 2**63}).field == "timestamp"
    assert b",110,-9223372036854775808," in encode_json(CODEC, TARIFF | {"timestamp": -(2**63)})


def test_a_pile_number_of_32_characters() -> None:
    assert refusal(TARIFF | {"pile": "x" * 33}).field == "pile"
    assert refusal(TARIFF | {"pile": ""}).field == "pile"


@pytest.mark.parametrize(
    ("number", "field", "value", "result"),
    [
        (103, "gun", "1", Result.MALFORMED),
        (103, "gun", True, Result.MALFORMED),
        (103, "gun", 1.0, Result.MALFORMED),
        (103, "gun", None, Result.MALFORMED),
        (103, "gun", 0, Result.NO_SUCH_GUN),
        (103, "gun", 2**63, Result.NO_SUCH_GUN),
        (101, "pile", "0000012346", Result.WRONG_PILE),
        (101, "pile", 12345, Result.WRONG_PILE),
        (101, "balance_fen", -1, Result.OUT_OF_RANGE),
        (101, "order", "a,b", Result.MALFORMED),
        (101, "order", 7, Result.MALFORMED),
        (101, "account", "a\x7fb", Result.MALFORMED),
        (107, "timeout_s", 29, Result.OUT_OF_RANGE),
        (109, "longitude", "121", Result.MALFORMED),
        (109, "longitude", True, Result.MALFORMED),
        (109, "longitude", 180.5, Result.OUT_OF_RANGE),
        (109, "longitude", float("nan"), Result.OUT_OF_RANGE),
        (109, "longitude", float("inf"), Result.OUT_OF_RANGE),
        (109, "longitude", 10**400, Result.OUT_OF_RANGE),
        (110, "periods", [], Result.OUT_OF_RANGE),
        (110, "periods", {}, Result.MALFORMED),
        (110, "periods", None, Result.MALFORMED),
        (113, "need", "3", Result.OUT_OF_RANGE),
        (113, "need", 1, Result.MALFORMED),
    ],
)
def test_values_that_do_not_fit(number: int, field: str, value: object, result: int) -> None:
    error = refusal(changed(number, **{field: value}))
    assert (error.result, error.field) == (result, field)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (7, "periods[0]"),
        ({}, "periods[0].start_s"),
        ({"start_s": 0, "end_s": 86400, "price": 1}, "periods[0].service_fee"),
        ({"start_s": 0, "end_s": 86400, "price": 1, "service_fee": 1, "tax": 1}, "periods[0].tax"),
        ({"start_s": 0, "end_s": 86400, "price": -1, "service_fee": 1}, "periods[0].price"),
        ({"start_s": 86400, "end_s": 86400, "price": 1, "service_fee": 1}, "periods[0].start_s"),
        ({"start_s": 0, "end_s": 86401, "price": 1, "service_fee": 1}, "periods[0].end_s"),
        ({"start_s": 0, "end_s": 0, "price": 1, "service_fee": 1}, "periods[0].end_s"),
        ({"start_s": 0, "end_s": 59, "price": 1, "service_fee": 1}, "periods[0].end_s"),
        ({"start_s": 0, "end_s": 3600, "price": 1, "service_fee": 1}, "periods"),
    ],
)
def test_rows_that_do_not_fit(row: object, field: str) -> None:
    assert refusal(changed(110, periods=[row])).field == field


def test_qr_codes() -> None:
    codes = [{"data": "a,b,充电", "gun": 1}]
    assert encode_json(CODEC, changed(106, qr_codes=codes)).endswith(",1,10,a,b,充电,1".encode())
    assert refusal(changed(106, qr_codes=[{"data": "", "gun": 1}])).field == "qr_codes[0].data"
    assert refusal(changed(106, qr_codes=[{"data": "a\x00", "gun": 1}])).field == "qr_codes[0].data"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-7, "0.0000001"),
        (-0.0, "-0.0"),
        (121, "121"),
        (5e-324, "0." + "0" * 323 + "5"),
        (0.1 + 0.2, "0.30000000000000004"),
    ],
)
def test_a_double_is_written_without_exponent_and_reads_back_the_same(value: float, text: str) -> None:
    payload = encode_json(CODEC, changed(109, longitude=value))
    assert f",1,{text},31.2304,".encode() in payload
    assert CODEC.decode(payload).data.longitude == value


def test_a_stop_may_carry_any_money() -> None:
    assert b",2,0000012345,1,U1001,-7,5000,0," in encode_json(CODEC, changed(101, type=2, balance_fen=-7))


def test_data_given_in_the_wrong_form_is_not_shown() -> None:
    """It may hold a password."""
    error = refusal(changed(113) | {"data": ["ftp", "user", "s3cret"]})
    assert "s3cret" not in str(error)
    assert error.field == "data"


def test_a_line_over_64_kib_is_not_written() -> None:
    assert refusal(changed(101, account="x" * 65536)).field == "message"


def test_an_end_is_written_inclusive_on_a_full_minute() -> None:
    day = [
        {"start_s": 0, "end_s": 46800, "price": 1, "service_fee": 1},
        {"start_s": 46800, "end_s": 46830, "price": 1, "service_fee": 1},
        {"start_s": 46830, "end_s": 86400, "price": 1, "service_fee": 1},
    ]
    assert encode_json(CODEC, changed(110, periods=day)).endswith(
        b"3,00:00:00,12:59:59,1,1,13:00:00,13:00:30,1,1,13:00:30,23:59:59,1,1"
    )


def test_the_pile_of_the_examples() -> None:
    assert TARIFF["pile"] == PILE

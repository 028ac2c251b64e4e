"""Uplink lines: ip , version , command , timestamp , pile , request timestamp , result , body…"""

from typing import Any

import pytest
from codec_helpers import CODEC, PILE

from agent.protocol.codec import NOT_ASKED, Reply, outcome_text, plain_text
from agent.protocol.commands import (
    AlarmRecord,
    ChargeReply,
    ChargingRecord,
    DeviceVersionRow,
    Empty,
    EventRecord,
    GunState,
    Heartbeat,
    PackageReply,
    ProcessRecord,
    RecordsSummary,
    ReplayReport,
    ReservationReply,
    ReserveReply,
    Segment,
    SetHeartbeat,
    TariffReply,
    UpdateReport,
    UpgradeReply,
    Versions,
)
from agent.protocol.results import Result
from cext.message import MessageError

START = "192.168.1.9,API:2.0.2,{},1795305600123,0000012345,1795305600000,"

CHARGING = ChargingRecord(
    type=1, number=1, total=2, order="O1", gun=1, account="U1", start_type=1, start_ms=1000, end_ms=3000,
    meter_start_wh=500, meter_end_wh=1700, energy_wh=1200, stop_reason=3, electricity_fen=120, service_fen=60,
    total_fen=180, free_used_fen=0, offline=0, template="T7",
    segments=(Segment(1000, 2000, 700, 100000, 50000, 70, 35), Segment(2000, 3000, 500, 100000, 50000, 50, 25)),
)  # fmt: skip

BODIES: list[tuple[int, Any, str]] = [
    (100, Heartbeat(3600, (GunState(1, 4), GunState(2, 1))), "3600,2,1,4,2,1"),
    (100, Heartbeat(0, ()), "0,0"),
    (101, ChargeReply(1, "O1", 4), "1,O1,4"),
    (101, ChargeReply(1, "O1", 6, 3), "1,O1,6,3"),
    (101, ChargeReply(1, "", 1), "1,,1"),
    (102, ReserveReply(1, "U1", 1795305600, 1795309200), "1,U1,1795305600,1795309200"),
    (103, ReservationReply(1, 1, "U1", 1795305600, 1795309200, 1800), "1,1,U1,1795305600,1795309200,1800"),
    (103, ReservationReply(1, 0, "", 0, 0, 0), "1,0,,0,0,0"),
    (104, RecordsSummary(1, 12), "1,12"),
    (104, CHARGING, "1,1,2,O1,1,U1,1,1000,3000,500,1700,1200,3,120,60,180,0,0,T7,2,"
                    "1000,2000,700,100000,50000,70,35,2000,3000,500,100000,50000,50,25"),
    (104, CHARGING._replace(segments=()), "1,1,2,O1,1,U1,1,1000,3000,500,1700,1200,3,120,60,180,0,0,T7,0"),
    (104, ProcessRecord(2, 1, 1, "O1", 1, 1000, 4000, 320, 12800, 55, 900, 135, -52),
          "2,1,1,O1,1,1000,4000,320,12800,55,900,135,-52"),
    (104, EventRecord(3, 4, 9, 17, 1000, 0, 5, "rebooted"), "3,4,9,17,1000,0,5,rebooted"),
    (104, AlarmRecord(4, 1, 1, 18, 1000, 2, 3, 1, "over-temperature"), "4,1,1,18,1000,2,3,1,over-temperature"),
    (105, ReplayReport(1, 12, 7), "1,12,7"),
    (106, Empty(), ""),
    (107, SetHeartbeat(30, 90), "30,90"),
    (109, Empty(), ""),
    (110, TariffReply("T7", 0, 1), "T7,0,1"),
    (111, UpdateReport("R9", "1.2.0", 2, 40), "R9,1.2.0,2,40"),
    (111, UpdateReport("R9", "1.2.0", 55, 100), "R9,1.2.0,55,100"),
    (111, UpdateReport("", "", 0, 0), ",,0,0"),
    (112, Versions("0.1.0", (DeviceVersionRow("board", "3.2.1"), DeviceVersionRow("gun 1", "9"))),
          "0.1.0,board,3.2.1,gun 1,9"),
    (112, Versions("0.1.0", ()), "0.1.0"),
    (113, UpgradeReply("R9", 1), "R9,1"),
    (114, PackageReply("R9", "0.2.0"), "R9,0.2.0"),
]  # fmt: skip


def written(command: int, outcome: str) -> str:
    """The whole uplink line of an outcome."""
    return CODEC.encode_reply(
        "192.168.1.9", "API:2.0.2", command, 1795305600123, PILE, "1795305600000", outcome
    ).decode()  # fmt: skip


def parsed(command: int, rest: str) -> Reply:
    """The reply whose result and body are ``rest``."""
    return CODEC.decode_reply((START.format(command) + rest).encode())


def refusal(command: int, rest: str) -> tuple[int, str]:
    with pytest.raises(MessageError) as caught:
        parsed(command, rest)
    return caught.value.result, caught.value.field


@pytest.mark.parametrize(("command", "body", "text"), BODIES, ids=lambda value: repr(value)[:30])
def test_bodies_both_ways(command: int, body: Any, text: str) -> None:
    outcome = "0" + ("," + text if text else "")
    assert outcome_text(command, Result.OK, body, PILE) == outcome
    assert written(command, outcome) == START.format(command) + outcome
    reply = parsed(command, outcome)
    assert reply.body == body
    assert type(reply.body) is type(body)


def test_the_envelope_of_a_reply() -> None:
    assert parsed(107, "0,30,90") == Reply(
        ip="192.168.1.9", version="API:2.0.2", command=107, timestamp=1795305600123, pile=PILE,
        request_timestamp="1795305600000", result=Result.OK, body=SetHeartbeat(30, 90),
    )  # fmt: skip


@pytest.mark.parametrize("stamp", ["1795305600", "0", "-1", "007"])
def test_the_request_timestamp_is_the_commands_own_verbatim(stamp: str) -> None:
    payload = CODEC.encode_reply("ip", "v", 107, 1, PILE, stamp, "0,30,90")
    assert payload == f"ip,v,107,1,{PILE},{stamp},0,30,90".encode()
    assert CODEC.decode_reply(payload).request_timestamp == stamp


def test_a_report_nobody_asked_for_has_request_timestamp_0() -> None:
    assert NOT_ASKED == "0"


def test_accepted_and_deferred_carry_the_commands_body() -> None:
    assert parsed(101, "1,1,O1,3") == Reply(
        "192.168.1.9", "API:2.0.2", 101, 1795305600123, PILE, "1795305600000", Result.ACCEPTED, ChargeReply(1, "O1", 3)
    )
    assert parsed(108, "2,0").result is Result.DEFERRED


# ---- errors: one field of plain text ----


@pytest.mark.parametrize("result", [result for result in Result if result.is_error])
def test_an_errors_body_is_one_field_of_words(result: Result) -> None:
    outcome = outcome_text(103, result, "gun = '9', this pile has 1, 2", PILE)
    assert outcome == f"{result.value},gun = '9'; this pile has 1; 2"
    reply = parsed(103, outcome)
    assert (reply.result, reply.body) == (result, "gun = '9'; this pile has 1; 2")


def test_an_unknown_command_is_answered_under_its_own_number() -> None:
    reply = parsed(999, "14,command = '999': expected an integer 100..114")
    assert (reply.command, reply.result) == (999, Result.NOT_SUPPORTED)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("all, of; it", "all; of; it"),
        ("line\nend\x00\x7f\x85", "line?end???"),
        ("half \ud800 pair", "half ? pair"),
        ("枪 1 故障", "枪 1 故障"),
        ("trailing,", "trailing;"),
        ("", "?"),
        (",", ";"),
    ],
)
def test_plain_text_fits_one_field(text: str, plain: str) -> None:
    assert plain_text(text) == plain
    assert parsed(101, f"99,{plain}").body == plain


@pytest.mark.parametrize(
    ("rest", "field"),
    [("13", "text"), ("13,two,fields", "end"), ("13,bell\x07", "text")],
)
def test_an_error_without_its_one_field(rest: str, field: str) -> None:
    assert refusal(101, rest) == (Result.MALFORMED, field)


# ---- DUPLICATE: the first result, and that reply's body ----


@pytest.mark.parametrize(
    ("rest", "first", "body"),
    [
        ("3,0,1,O1,4", Result.OK, ChargeReply(1, "O1", 4)),
        ("3,1,1,O1,3", Result.ACCEPTED, ChargeReply(1, "O1", 3)),
        ("3,23,no money", Result.INSUFFICIENT_BALANCE, "no money"),
    ],
)
def test_a_duplicate_repeats_the_first_outcome(rest: str, first: Result, body: Any) -> None:
    reply = parsed(101, rest)
    assert (reply.result, reply.first, reply.body) == (Result.DUPLICATE, first, body)


def test_a_duplicate_of_a_reply_without_body() -> None:
    reply = parsed(106, "3,0")
    assert (reply.result, reply.first, reply.body) == (Result.DUPLICATE, Result.OK, Empty())


# ---- what no pile may send ----


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ("ip,v,107,1,P", "request_timestamp"),
        ("ip,v,107,1,P,1", "result"),
        ("ip,v,107,1,P,x,0,30,90", "request_timestamp"),
        ("ip,v,107,1,P,,0,30,90", "request_timestamp"),
        ("ip,v,107,1,P,1,4,30,90", "result"),
        ("ip,v,107,1,P,1,1_0,30,90", "result"),
        ("ip,v,107,1,P,1, 0,30,90", "result"),
        ("ip,v,107,1,P,1,+0,30,90", "result"),
        ("ip,v,107,1,P,1,3,77,30", "first_result"),
        ("ip,v,107,1,P,1,3,x,30", "first_result"),
        ("ip,v,107,1,P,1,0", "period_s"),
        ("ip,v,107,1,P,1,0,30", "timeout_s"),
        ("ip,v,107,1,P,1,0,30,90,1", "end"),
        ("ip,v,107,1,P,1,0,30,90,", "message"),
        ("ip,v,106,1,P,1,0,1", "end"),
    ],
)
def test_a_malformed_reply(payload: str, field: str) -> None:
    with pytest.raises(MessageError) as caught:
        CODEC.decode_reply(payload.encode())
    assert (caught.value.result, caught.value.field) == (Result.MALFORMED, field)


def test_a_reply_to_no_command() -> None:
    assert refusal(99, "0") == (Result.NOT_SUPPORTED, "command")


@pytest.mark.parametrize(
    ("command", "rest", "result", "field"),
    [
        (100, "0,1,3,1,4,2,1", Result.MALFORMED, "guns[2].gun"),
        (100, "0,1,1,0,4", Result.NO_SUCH_GUN, "guns[0].gun"),
        (100, "0,1,1,1,11", Result.OUT_OF_RANGE, "guns[0].status"),
        (101, "0,1,O1,6,0", Result.OUT_OF_RANGE, "stop_reason"),
        (101, "0,1,O1,6,3,1", Result.MALFORMED, "end"),
        (104, "0,5,1", Result.OUT_OF_RANGE, "type"),
        (104, "0,9,1,1,O1", Result.OUT_OF_RANGE, "type"),
        (104, "0,3,1,1,17,1000", Result.MALFORMED, "gun"),
        (111, "0,R,1,7,0", Result.OUT_OF_RANGE, "state"),
        (111, "0,R,1,2,101", Result.OUT_OF_RANGE, "percent"),
        (112, "0,0.1.0,board", Result.MALFORMED, "devices[0].version"),
    ],
)
def test_a_body_that_does_not_fit_its_command(command: int, rest: str, result: int, field: str) -> None:
    assert refusal(command, rest) == (result, field)


def test_a_line_that_would_end_in_a_comma_is_not_written() -> None:
    with pytest.raises(MessageError, match="expected a last field that is not empty"):
        written(114, outcome_text(114, Result.OK, PackageReply("R9", ""), PILE))


def test_a_body_out_of_its_range_is_not_written() -> None:
    with pytest.raises(MessageError) as caught:
        outcome_text(101, Result.OK, ChargeReply(0, "O1", 4), PILE)
    assert (caught.value.result, caught.value.field) == (Result.NO_SUCH_GUN, "gun")
    with pytest.raises(MessageError) as caught:
        outcome_text(101, Result.OK, ChargeReply(1, "O,1", 4), PILE)
    assert (caught.value.result, caught.value.field) == (Result.MALFORMED, "order")


def test_a_reply_over_64_kib_is_not_written() -> None:
    with pytest.raises(MessageError, match="at most 65536 bytes"):
        written(101, "99," + "x" * 65536)

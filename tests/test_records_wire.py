"""A record's class, what the journal keeps of it, and its line on the wire: the same values all the way."""

import pytest
from codec_helpers import CODEC, PILE

from agent.power.profile import load_profile
from agent.protocol.codec import plain_text
from agent.protocol.commands import (
    COMMANDS,
    RECORD_EXAMPLES,
    AlarmRecord,
    ChargingRecord,
    EventRecord,
    ProcessRecord,
    QueryRecords,
    Segment,
)
from agent.protocol.events import ALARM_MEANINGS, EVENT_MEANINGS, AlarmCode, EventCode, alarm_of_fault
from agent.protocol.fields import fields_of
from agent.protocol.records import RecordBody, body_of, record_outcome, summary_outcome
from agent.protocol.results import RecordType, Result
from cext.message import MessageError

START_MS, END_MS = 1_795_305_600_000, 1_795_309_200_000
SEGMENTS = (
    Segment(START_MS, START_MS + 1, 3000, 100_000, 50_000, 300, 150),
    Segment(START_MS + 1, END_MS, 4200, 100_000, 50_000, 420, 210),
)
CHARGE = ChargingRecord(
    type=1, number=1, total=1, order="A1", gun=1, account="U1001", start_type=1, start_ms=START_MS, end_ms=END_MS,
    meter_start_wh=500_000, meter_end_wh=507_200, energy_wh=7200, stop_reason=3, electricity_fen=720, service_fen=360,
    total_fen=1080, free_used_fen=0, offline=0, template="T7", segments=SEGMENTS,
)  # fmt: skip
PROCESS = ProcessRecord(2, 1, 1, "A1", 1, END_MS, 4012, 318, 12758, 55, 212, 31, 285)
EVENT = EventRecord(3, 1, 1, 1, END_MS, 0, 1, "version 0.1.0")
ALARM = AlarmRecord(4, 1, 1, 1, END_MS, 2, 103, 1, "gun 2: over_temperature")


@pytest.mark.parametrize(
    ("record", "body"),
    [
        (CHARGE, f"U1001,1,{START_MS},{END_MS},500000,507200,7200,3,720,360,1080,0,0,T7,2,"
                 f"{START_MS},{START_MS + 1},3000,100000,50000,300,150,"
                 f"{START_MS + 1},{END_MS},4200,100000,50000,420,210"),
        (CHARGE._replace(segments=()), f"U1001,1,{START_MS},{END_MS},500000,507200,7200,3,720,360,1080,0,0,T7,0"),
        (PROCESS, "4012,318,12758,55,212,31,285"),
        (EVENT, "1,version 0.1.0"),
        (ALARM, "103,1,gun 2: over_temperature"),
    ],
)  # fmt: skip
def test_the_journal_keeps_what_it_has_no_column_for(record: RecordBody, body: str) -> None:
    assert body_of(record) == body


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (CHARGE._replace(segments=()), "0,1,5,12,A1,1,U1001,1,1795305600000,1795309200000,500000,507200,7200,3,720,360,"
                                       "1080,0,0,T7,0"),
        (PROCESS, "0,2,5,12,A1,1,1795309200000,4012,318,12758,55,212,31,285"),
        (EVENT, "0,3,5,12,4711,1795309200000,0,1,version 0.1.0"),
        (ALARM, "0,4,5,12,4711,1795309200000,2,103,1,gun 2: over_temperature"),
    ],
)  # fmt: skip
def test_a_record_on_the_wire(record: RecordBody, line: str) -> None:
    order = "A1" if isinstance(record, ChargingRecord | ProcessRecord) else ""
    outcome = record_outcome(RecordType(record.type), 5, 12, 4711, order, record.gun, END_MS, body_of(record))
    assert outcome == line


@pytest.mark.parametrize("cls", RECORD_EXAMPLES, ids=lambda cls: cls.__name__)
def test_what_was_kept_is_the_record_again(cls: type) -> None:
    example = decoded(f"0,{RECORD_EXAMPLES[cls]}")
    sequence, order = getattr(example, "sequence", 1), getattr(example, "order", "")
    at_ms = getattr(example, "at_ms", END_MS)
    kept = record_outcome(
        RecordType(example.type), example.number, example.total, sequence, order, example.gun, at_ms, body_of(example)
    )
    assert decoded(kept) == example


def decoded(outcome: str):  # type: ignore[no-untyped-def]
    return CODEC.decode_reply(CODEC.encode_reply("ip", "v", 104, END_MS, PILE, "0", outcome)).body


def test_an_order_may_be_empty_where_the_wire_allows_it() -> None:
    assert record_outcome(RecordType.PROCESS, 1, 1, 1, "", 1, 7, "0,0,0,0,0,0,0") == "0,2,1,1,,1,7,0,0,0,0,0,0,0"


@pytest.mark.parametrize(
    "record",
    [
        CHARGE._replace(energy_wh=-1),
        CHARGE._replace(account="a,b"),
        EVENT._replace(text="a,b"),
        PROCESS._replace(gun=0),
    ],
)
def test_a_record_the_wire_cannot_carry_is_refused_when_it_closes(record: RecordBody) -> None:
    with pytest.raises(MessageError):
        body_of(record)
    if isinstance(record, EventRecord):
        assert body_of(record._replace(text=plain_text("a,b"))) == "1,a;b"


def test_the_summary() -> None:
    assert summary_outcome(Result.ACCEPTED, RecordType.EVENT, 12) == "1,3,12"


# ---- codes


def test_event_and_alarm_codes_never_change() -> None:
    """A platform has them in its database. New ones are appended here; none is ever given anew."""
    assert {code.name: code.value for code in EventCode}.items() >= {
        "AGENT_STARTED": 1, "REBOOT": 2, "REBOOT_FAILED": 3, "CHARGE_STARTED": 4, "CHARGE_ENDED": 5, "START_FAILED": 6,
        "STOP_FAILED": 7, "CHARGE_WITHOUT_ORDER": 8,
    }.items()  # fmt: skip
    assert {code.name: code.value for code in AlarmCode}.items() >= {
        "DEVICE_SILENT": 101, "EMERGENCY_STOP": 102, "OVER_TEMPERATURE": 103, "OVER_CURRENT": 104, "OVER_VOLTAGE": 105,
        "INSULATION": 106, "CONTACTOR_STUCK": 107, "LOCK": 108, "BMS_COMMUNICATION": 109, "METER": 110,
        "UNPLUGGED_ON_LOAD": 111, "WATCHDOG_EXPIRED": 112, "STATE_UNKNOWN": 113, "OTHER_FAULT": 199,
    }.items()  # fmt: skip


def test_every_code_has_a_meaning_and_a_number_of_its_own() -> None:
    assert list(EVENT_MEANINGS) == list(EventCode)
    assert list(ALARM_MEANINGS) == list(AlarmCode)
    assert max(EventCode) <= 100 < min(AlarmCode)


def test_the_examples_use_codes_that_there_are() -> None:
    assert EventCode(decoded(f"0,{RECORD_EXAMPLES[EventRecord]}").code)
    assert AlarmCode(decoded(f"0,{RECORD_EXAMPLES[AlarmRecord]}").code)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("emergency_stop", AlarmCode.EMERGENCY_STOP),
        ("state_unknown", AlarmCode.STATE_UNKNOWN),
        ("coolant_low", AlarmCode.OTHER_FAULT),
        ("绝缘故障", AlarmCode.OTHER_FAULT),
    ],
)
def test_a_fault_by_its_name_in_the_profile(fault: str, code: AlarmCode) -> None:
    assert alarm_of_fault(fault) is code


def test_every_fault_of_the_reference_profile_has_a_code_of_its_own() -> None:
    register = load_profile("reference").register("gun", "faults")
    assert register is not None
    codes = [alarm_of_fault(bit.name) for bit in register.bits]
    assert AlarmCode.OTHER_FAULT not in codes
    assert len(set(codes)) == len(codes) == 11


def test_the_types_of_a_104_are_the_types_of_record() -> None:
    kind = fields_of(QueryRecords)["type"]
    assert kind.meanings == {1: "charging", 2: "process", 3: "event", 4: "alarm"}  # type: ignore[union-attr]
    assert [decoded(f"0,{RECORD_EXAMPLES[cls]}").type for cls in COMMANDS[104].replies[1:]] == list(RecordType)

"""A record is kept and told of in one transaction: both on disk, or neither."""

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from core_helpers import CODEC
from core_helpers import WALL_MS as NOW_MS
from office_helpers import Office, alarm, event

from agent.journal import Extent, JournalError, Retention
from agent.pile.actions import Record, Severity
from agent.protocol.codec import Reply
from agent.protocol.commands import AlarmRecord, ChargingRecord, EventRecord, ProcessRecord, Segment
from agent.protocol.records import body_of
from agent.protocol.results import RecordType, Result

BILL = ChargingRecord(
    type=1, number=1, total=1, order="A1", gun=1, account="U1001", start_type=1, start_ms=NOW_MS, end_ms=NOW_MS + 1,
    meter_start_wh=500_000, meter_end_wh=507_200, energy_wh=7200, stop_reason=3, electricity_fen=720, service_fen=360,
    total_fen=1080, free_used_fen=0, offline=0, template="T7",
    segments=(Segment(NOW_MS, NOW_MS + 1, 7200, 100_000, 50_000, 720, 360),),
)  # fmt: skip
POINT = ProcessRecord(2, 1, 1, "A1", 1, NOW_MS, 4012, 318, 12758, 55, 212, 31, 285)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with closing(Office(tmp_path)) as office:
        yield office


def outbox(office: Office) -> list[Reply]:
    return [CODEC.decode_reply(row.payload) for row in office.journal.pending(0, 100)]


def test_every_type_is_kept_and_reported_unasked_as_number_one_of_one(office: Office) -> None:
    bill = Record(RecordType.CHARGING, BILL.end_ms, 1, "A1", body_of(BILL))
    point = Record(RecordType.PROCESS, NOW_MS, 1, "A1", body_of(POINT))
    office.keep(point, event("version 0.1.0"), alarm("gun 1: over_temperature"), bill)
    messages = outbox(office)
    assert [(one.command, one.request_timestamp, one.result) for one in messages] == [(104, "0", Result.OK)] * 4
    assert [one.body for one in messages] == [
        POINT,
        EventRecord(3, 1, 1, 1, NOW_MS, 0, 1, "version 0.1.0"),
        AlarmRecord(4, 1, 1, 1, NOW_MS, 1, 103, 1, "gun 1: over_temperature"),
        BILL,
    ]
    assert [office.journal.records.extent(one) for one in RecordType] == [Extent(1, 1)] * 4


def test_the_message_has_the_number_the_journal_gave(office: Office) -> None:
    office.keep(event("a"), alarm("b"), event("c"))
    assert [one.body.sequence for one in outbox(office)] == [1, 1, 2]


def test_records_go_out_in_the_order_they_closed_behind_what_waited_before(office: Office) -> None:
    office.command(105)
    office.keep(event("a"), event("b"))
    assert [one.command for one in office.sent()] == [105, 104, 104]


def test_a_turn_that_cannot_be_stored_leaves_neither_record_nor_message(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    office.keep(event("before"))
    caplog.set_level(logging.INFO)
    with monkeypatch.context() as patch:
        patch.setattr(office.journal, "enqueue", full_disk)
        office.keep(event("lost"))
    assert office.journal.records.extent(RecordType.EVENT) == Extent(1, 1)
    assert office.outbox.waiting == 1
    office.keep(event("after"))
    assert [one.body.sequence for one in outbox(office)] == [1, 2]
    assert "lost" not in caplog.text


def full_disk(topic: str, payload: bytes, now_ms: int) -> int:
    raise JournalError(Path("journal.db"), "enqueue a message", "database or disk is full")


def test_the_log_says_it_too(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agent.desk")
    office.keep(
        Record(RecordType.EVENT, NOW_MS, 1, "", "4,a; b", "gun 1, order A1: current flows"),
        Record(RecordType.ALARM, NOW_MS, 1, "", "108,1,lock", "gun 1: lock", Severity.WARNING),
        Record(RecordType.PROCESS, NOW_MS, 1, "A1", body_of(POINT)),
    )
    assert [(one.levelname, one.message) for one in caplog.records] == [
        ("INFO", "gun 1, order A1: current flows"),
        ("WARNING", "gun 1: lock"),
    ]


def test_what_the_broker_has_not_taken_outlives_its_record(office: Office) -> None:
    office.keep_events(3)
    with office.journal.transaction():
        office.journal.prune(NOW_MS, {RecordType.EVENT: Retention(1, 1)})
    office.kill()
    office.turn()
    assert [one.body.text for one in office.sent()] == ["number 0", "number 1", "number 2"]

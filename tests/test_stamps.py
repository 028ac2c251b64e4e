"""What is on disk from a time that was not known, and what becomes of it: a desk with a real journal."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from core_helpers import PILE, WALL_MS
from office_helpers import TOPIC, Clock, Office, clock  # noqa: F401

from agent.pile.board import BoardState, GunReading
from agent.pile.events import Measured, Resumed, Ticked
from agent.pile.state import Now
from agent.protocol.results import RecordType
from agent.stamps import later_line

UP_MS = 70_000  # so long the kernel runs
BOOTED_MS = WALL_MS - UP_MS


@pytest.fixture
def office(tmp_path: Path, clock: type[Clock]) -> Iterator[Office]:  # noqa: F811
    Clock.now = Now(UP_MS, UP_MS, trusted=False, boot="boot 1")
    office = Office(tmp_path)
    office.happened(Resumed())
    yield office
    office.close()


def at(wall_ms: int, mono_ms: int, **more: object) -> None:
    Clock.now = replace(Now(wall_ms, mono_ms, boot="boot 1"), **more)  # type: ignore[arg-type]


def times(office: Office, kind: RecordType = RecordType.EVENT) -> list[int]:
    return [one.at_ms for one in office.journal.records.after(kind, 0, 1000)]


def card_charge(office: Office) -> None:
    """A short charge begun at the pile: refused, for no 106 allows it, and billed all the same."""
    for state, used_wh in (("plugged", 0), ("charging", 0), ("ended", 20)):
        reading = GunReading(1, UP_MS, BoardState(state), True, order="", energy_wh=500_000 + used_wh)
        office.happened(Measured(reading))


def test_records_are_stamped_anew_when_the_time_is_known(office: Office) -> None:
    assert times(office) == [UP_MS, UP_MS]  # the agent has started; it does not know the time
    at(WALL_MS + 1000, UP_MS + 1000)
    office.happened(Ticked())
    assert times(office) == [WALL_MS, WALL_MS, WALL_MS + 1000]


def test_messages_that_still_wait_are_too(office: Office) -> None:
    at(WALL_MS + 1000, UP_MS + 1000)
    office.happened(Ticked())
    first = office.rows[0].payload.decode()
    assert first == f"10.9.8.7,API:2.0.2,104,{WALL_MS},{PILE},0,0,3,1,1,1,{WALL_MS},0,1,version 0.1.0"
    assert all(f",{BOOTED_MS + UP_MS}," in row.payload.decode() for row in office.rows[:2])


def test_a_bill_is_with_its_segments(office: Office) -> None:
    card_charge(office)
    ((sequence, body),) = [(one.sequence, one.body) for one in office.journal.records.after(RecordType.CHARGING, 0, 9)]
    at(WALL_MS + 60_000, UP_MS + 60_000)
    office.happened(Ticked())
    (bill,) = office.journal.records.after(RecordType.CHARGING, 0, 9)
    assert (bill.sequence, bill.at_ms) == (sequence, WALL_MS)
    assert bill.body == body.replace(str(UP_MS), str(WALL_MS))
    (line,) = [row.payload.decode() for row in office.rows if ",0,0,1,1,1," in row.payload.decode()]
    assert line.endswith(bill.body)
    assert line.count(str(WALL_MS)) == 5  # its own, and begin and end of the charge and of its segment


def test_the_replies_behind_an_unknown_time_are_only_stamped_anew(office: Office) -> None:
    office.command(112, timestamp=5)
    office.command(103, "3", timestamp=6)
    at(WALL_MS + 1000, UP_MS + 1000)
    office.happened(Ticked())
    assert office.rows[2].payload.decode() == (
        f"10.9.8.7,API:2.0.2,103,{WALL_MS},{PILE},6,12,gun = 3: this pile has 1..2"
    )


def test_what_was_stamped_by_an_older_boot_stays(office: Office, tmp_path: Path) -> None:
    """Nobody can say when it was; its number says between which others."""
    office.close()
    Clock.now = Now(9000, 9000, trusted=False, boot="boot 2")
    after = Office(tmp_path)
    after.happened(Resumed())
    at(WALL_MS, 10_000, boot="boot 2")
    after.happened(Ticked())
    assert times(after) == [UP_MS, UP_MS, WALL_MS - 1000, WALL_MS - 1000, WALL_MS]
    assert f",{UP_MS}," in after.rows[0].payload.decode()
    after.close()


def test_a_restart_in_the_same_boot_forgets_nothing(office: Office, tmp_path: Path) -> None:
    office.close()
    Clock.now = Now(UP_MS + 5000, UP_MS + 5000, trusted=False, boot="boot 1")
    after = Office(tmp_path)
    after.happened(Resumed())
    at(WALL_MS + 6000, UP_MS + 6000)
    after.happened(Ticked())
    assert times(after) == [WALL_MS, WALL_MS, WALL_MS + 5000, WALL_MS + 5000, WALL_MS + 6000]
    after.close()


def test_a_time_that_becomes_better_moves_no_record(office: Office) -> None:
    at(WALL_MS, UP_MS, is_estimate=True)
    office.happened(Ticked())
    at(WALL_MS + 3_600_000, UP_MS)
    office.happened(Ticked())
    assert times(office) == [WALL_MS, WALL_MS, WALL_MS, WALL_MS + 3_600_000]


def test_it_waits_for_a_disk_that_is_full(office: Office) -> None:
    office.forbid_writing()
    at(WALL_MS + 1000, UP_MS + 1000)
    office.happened(Ticked())
    office.allow_writing()
    assert times(office) == [UP_MS, UP_MS]
    at(WALL_MS + 2000, UP_MS + 2000)
    office.happened(Ticked())
    assert times(office) == [WALL_MS, WALL_MS, WALL_MS + 2000]


def test_a_line_with_a_known_time_is_left_as_it_is(office: Office) -> None:
    line = f"10.9.8.7,API:2.0.2,107,{WALL_MS},{PILE},5,0,30,90".encode()
    assert later_line(office.desk._codec, line, 1) is line


def test_a_mark_that_a_damaged_journal_has_lost_costs_no_more_than_the_stamps(office: Office) -> None:
    with office.journal.transaction():
        office.journal.delete("stamps")
    at(WALL_MS, UP_MS)
    office.happened(Ticked())
    assert times(office) == [UP_MS, UP_MS, WALL_MS]


def test_what_a_newer_release_wrote_stays_as_it_is(office: Office) -> None:
    with office.journal.transaction():
        office.journal.records.add(RecordType.CHARGING, UP_MS, 1, "A1", "a form of its own")
        office.journal.enqueue(TOPIC, b"a line of its own", 0)
    at(WALL_MS, UP_MS)
    office.happened(Ticked())
    assert times(office, RecordType.CHARGING) == [UP_MS]
    assert office.rows[2].payload == b"a line of its own"
    assert times(office) == [WALL_MS, WALL_MS, WALL_MS]

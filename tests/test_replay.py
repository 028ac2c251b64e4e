"""104 sends stored records again: in order, at a bounded rate, behind everything else, whatever happens to the link."""

from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from core_helpers import WALL_MS as NOW_MS
from office_helpers import Office, alarm, event

from agent.journal import JournalError, Retention
from agent.pile.records import REPLAY_LAG
from agent.protocol.codec import Reply
from agent.protocol.commands import RecordsSummary, ReplayReport
from agent.protocol.results import RecordType, Result
from agent.replay import BATCH

LATER_MS = NOW_MS + 1
TIMESTAMPS = count(NOW_MS + 2)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with closing(Office(tmp_path)) as office:
        yield office


def query(office: Office, record_type: int = 3, timestamp: int = NOW_MS) -> None:
    assert office.command(104, str(record_type), timestamp)


def with_events(office: Office, most: int) -> None:
    office.keep(*(event(f"number {number}") for number in range(1, most + 1)))
    office.deliver()


def numbers(messages: list[Reply]) -> list[int]:
    """Of the replayed records."""
    return [one.body.number for one in messages if one.request_timestamp != "0" and one.result is Result.OK]


def delivery(office: Office) -> ReplayReport:
    """What 105 says now; the clock of the replay stands still."""
    office.link.sent.clear()
    office.command(105, timestamp=next(TIMESTAMPS))
    (answer,) = office.sent()
    office.link.take([row_id for row_id in office.link.in_flight if row_id > 0])
    body: ReplayReport = answer.body
    return body


# ---- what is sent


def test_the_number_of_records_and_then_each_in_order(office: Office) -> None:
    with_events(office, 3)
    query(office)
    office.run(1)
    summary, *records = office.sent()
    assert (summary.result, summary.body) == (Result.ACCEPTED, RecordsSummary(3, 3))
    assert [one.body.text for one in records] == ["number 1", "number 2", "number 3"]
    assert [(one.body.number, one.body.total, one.body.sequence) for one in records] == [
        (1, 3, 1),
        (2, 3, 2),
        (3, 3, 3),
    ]
    assert {(one.result, one.request_timestamp) for one in records} == {(Result.OK, str(NOW_MS))}


def test_it_ends_and_what_was_sent_is_still_there(office: Office) -> None:
    with_events(office, 3)
    for timestamp in (NOW_MS, LATER_MS):
        query(office, timestamp=timestamp)
        office.run(1)
        assert numbers(office.sent()) == [1, 2, 3]
        assert delivery(office) == ReplayReport(3, 3, 3)


def test_without_a_record_nothing_follows(office: Office) -> None:
    query(office)
    office.run(1)
    assert [one.result for one in office.sent()] == [Result.NO_RECORD]


def test_other_types_stay_where_they_are(office: Office) -> None:
    office.keep(event("a"), alarm("b"), event("c"))
    office.deliver()
    query(office, 4)
    office.run(1)
    assert [one.body.text for one in office.sent()[1:]] == ["b"]


def test_what_closes_meanwhile_is_not_part_of_it(office: Office) -> None:
    with_events(office, 2)
    query(office)
    office.keep(event("too late"))
    office.link.take()
    for _ in range(5):
        office.turn(0.1)  # the broker takes its time
    messages = office.sent()
    assert numbers(messages) == [1, 2]
    assert [one.body.text for one in messages if one.request_timestamp == "0"] == ["too late"]


def test_more_than_one_batch(office: Office) -> None:
    with_events(office, 3 * BATCH + 1)
    office.replayer._pause_s = 0.001
    query(office)
    office.run(4)
    assert numbers(office.sent()) == list(range(1, 3 * BATCH + 2))
    assert office.desk.state.replay is not None
    assert office.desk.state.replay.is_over


def test_no_more_than_a_batch_is_in_memory(office: Office) -> None:
    with_events(office, 2 * BATCH)
    query(office)
    office.link.size = 0
    office.run(3)
    office.link.size = 20
    office.run(1)
    assert 0 < len(office.replayer._ahead) <= BATCH


# ---- the rate


@pytest.mark.parametrize("per_s", [1, 20, 50])
def test_the_rate_is_bounded(tmp_path: Path, per_s: int) -> None:
    with closing(Office(tmp_path, per_s)) as office:
        with_events(office, 130)
        query(office)
        office.deliver()
        office.run(2, step_s=0.001)
        assert 1.9 * per_s <= len(numbers(office.sent())) <= 2 * per_s


def test_the_first_record_leaves_as_soon_as_the_summary_is_taken(office: Office) -> None:
    with_events(office, 3)
    query(office)
    office.turn()
    assert numbers(office.sent()) == []
    office.link.take()
    office.turn()
    assert numbers(office.sent()) == [1]


def test_the_loop_is_told_when_the_next_one_is_due(office: Office) -> None:
    assert office.replayer.next_deadline() == float("inf")
    with_events(office, 2)
    query(office)
    assert office.replayer.next_deadline() == float("inf"), "the summary waits to be taken"
    office.link.take()
    office.turn()
    assert office.replayer.next_deadline() == office.at + 0.05
    office.turn(0.05)
    office.turn(0.05)
    assert office.replayer.next_deadline() == float("inf"), "all is sent"


def test_a_loop_that_was_held_up_does_not_make_up_for_it_in_a_burst(office: Office) -> None:
    with_events(office, 30)
    query(office)
    office.run(0.1)
    office.sent()
    office.turn(10)
    office.turn()
    office.turn()
    assert len(numbers(office.sent())) == 1


# ---- behind everything else


def test_nothing_is_sent_while_the_outbox_waits(office: Office) -> None:
    with_events(office, 5)
    query(office)
    office.run(0.05)
    office.keep(event("a bill"))
    office.link.take([row_id for row_id in office.link.in_flight if row_id < 0])
    office.sent()
    for _ in range(20):
        office.turn(0.1)
    assert office.sent() == []
    office.link.take()
    office.turn(0.1)
    assert numbers(office.sent()) == [2]


def test_a_full_window_is_waited_for(office: Office) -> None:
    with_events(office, 5)
    office.link.size = 2
    query(office)
    office.link.take()
    for _ in range(10):
        office.turn(0.1)
    assert numbers(office.sent()) == [1, 2]
    assert office.replayer.next_deadline() == float("inf")
    office.link.take()
    office.turn()
    assert numbers(office.sent()) == [3]


# ---- what was taken, and a lost link


def test_what_the_broker_has_taken_is_counted(office: Office) -> None:
    with_events(office, 3)
    query(office)
    assert delivery(office) == ReplayReport(3, 3, 0)
    for _ in range(3):
        office.turn(0.1)
    assert delivery(office) == ReplayReport(3, 3, 0)
    first, second, third = office.link.in_flight
    office.link.take([first])
    assert delivery(office) == ReplayReport(3, 3, 1)
    office.link.take([second, third])
    assert delivery(office) == ReplayReport(3, 3, 3)


def test_an_acknowledgement_out_of_turn_counts_with_those_before_it(office: Office) -> None:
    with_events(office, 3)
    query(office)
    office.link.take()
    for _ in range(3):
        office.turn(0.1)
    first, second, third = office.link.in_flight
    office.link.take([third, second])
    assert delivery(office) == ReplayReport(3, 3, 0)
    office.link.take([first])
    assert delivery(office) == ReplayReport(3, 3, 3)


def test_after_a_lost_link_it_goes_on_behind_the_last_one_taken(office: Office) -> None:
    with_events(office, 6)
    query(office)
    office.link.take()
    for _ in range(5):
        office.turn(0.1)
    first, second, *_ = office.link.in_flight
    office.link.take([first, second])
    office.link.lose(size=0)
    office.sent()
    office.run(2)
    assert office.sent() == []
    office.link.size = 20
    office.run(2)
    assert numbers(office.sent()) == [3, 4, 5, 6]
    assert delivery(office) == ReplayReport(3, 6, 6)


def test_what_waits_in_the_outbox_goes_first_after_a_lost_link(office: Office) -> None:
    with_events(office, 3)
    query(office)
    office.link.take()
    office.turn()
    office.keep(event("lost with the link"))
    office.link.lose()
    office.sent()
    office.run(1)
    assert [one.body.text for one in office.sent()] == ["lost with the link", "number 1", "number 2", "number 3"]


# ---- another 104


def test_a_new_query_takes_the_place_of_a_running_one(office: Office) -> None:
    with_events(office, 5)
    office.keep(alarm("a"), alarm("b"))
    office.deliver()
    query(office)
    office.link.take()
    office.turn()
    office.turn(0.1)
    assert numbers(office.sent()) == [1, 2]
    query(office, 4, LATER_MS)
    office.run(1)
    summary, *records = office.sent()
    assert summary.body == RecordsSummary(4, 2)
    assert [(one.request_timestamp, one.body.text) for one in records] == [(str(LATER_MS), "a"), (str(LATER_MS), "b")]
    assert delivery(office) == ReplayReport(4, 2, 2), "the first one's late acknowledgements are not counted"


def test_what_the_broker_still_takes_of_the_one_before_does_not_count_for_the_new_one(office: Office) -> None:
    with_events(office, 5)
    query(office)
    office.link.take()
    office.turn()
    old = [row_id for row_id in office.link.in_flight if row_id < 0]
    query(office, 3, LATER_MS)
    office.link.take(old)
    assert delivery(office) == ReplayReport(3, 5, 0)
    office.run(1)
    assert numbers(office.sent()) == [1, 2, 3, 4, 5]
    assert delivery(office) == ReplayReport(3, 5, 5)


def test_the_same_query_again_is_a_duplicate_and_changes_nothing(office: Office) -> None:
    with_events(office, 3)
    query(office)
    query(office)
    office.run(1)
    assert [one.result for one in office.sent()] == [Result.ACCEPTED, Result.DUPLICATE, *[Result.OK] * 3]
    query(office)
    office.run(1)
    (again,) = office.sent()
    assert (again.first, again.body) == (Result.OK, RecordsSummary(3, 3))


# ---- a restart


def test_a_restarted_agent_goes_on_and_repeats_a_bounded_number(office: Office) -> None:
    with_events(office, 250)
    office.replayer._pause_s = 0.01
    query(office)
    office.deliver()
    while len(office.link.sent) < 170:
        office.run(0.01)
    assert delivery(office).delivered == 170
    office.outbox.flush()
    office.kill()
    assert delivery(office) == ReplayReport(3, 250, REPLAY_LAG)
    office.run(20)
    assert numbers(office.sent()) == list(range(REPLAY_LAG + 1, 251))
    office.outbox.flush()
    office.kill()
    assert delivery(office) == ReplayReport(3, 250, 250)
    office.run(2)
    assert office.sent() == []


def test_a_query_whose_summary_never_left_is_answered_by_the_next_process(office: Office) -> None:
    with_events(office, 2)
    office.outbox.flush()
    office.link.size = 0
    query(office)
    office.kill()
    office.run(1)
    assert [one.result for one in office.sent()] == [Result.ACCEPTED, Result.OK, Result.OK]


# ---- a journal that changes or fails


def test_records_forgotten_while_they_waited_are_left_out(office: Office) -> None:
    with_events(office, 60 + BATCH)
    query(office)
    with office.journal.transaction():
        office.journal.prune(NOW_MS, {RecordType.EVENT: Retention(10, 36_500)})
    office.run(8)
    messages = office.sent()
    assert [one.body.sequence for one in messages[1:]] == list(range(51 + BATCH, 61 + BATCH))
    assert numbers(messages) == list(range(1, 11))
    assert delivery(office) == ReplayReport(3, 60 + BATCH, 10)
    assert office.desk.state.replay is not None
    assert office.desk.state.replay.is_over


def test_all_of_them_forgotten(office: Office) -> None:
    with_events(office, 2)
    office.link.size = 0
    query(office)
    office.journal._database.connection.execute("DELETE FROM records")
    office.link.size = 20
    office.run(3)
    assert [one.result for one in office.sent()] == [Result.ACCEPTED]
    assert office.desk.state.replay is not None
    assert office.desk.state.replay.is_over


def test_an_unreadable_journal_is_tried_again_a_second_later(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    with_events(office, 2)
    query(office)
    office.link.take()
    office.sent()
    with monkeypatch.context() as patch:
        patch.setattr(office.journal.records, "after", broken)
        office.turn()
        assert office.replayer.next_deadline() == office.at + 1
    office.turn(0.99)
    assert office.sent() == []
    office.turn(0.02)
    assert numbers(office.sent()) == [1]


def test_an_end_that_could_not_be_written_down_is_told_again(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    with_events(office, 1)
    query(office)
    office.link.take()
    office.turn()
    with monkeypatch.context() as patch:
        patch.setattr(office.journal, "put", broken)
        office.link.take()
    assert office.desk.state.replay is not None
    assert not office.desk.state.replay.is_over
    office.run(2)
    assert delivery(office) == ReplayReport(3, 1, 1)
    assert office.desk.state.replay.is_over


def test_a_replay_ends_although_a_damaged_journal_has_lost_its_command(office: Office) -> None:
    with_events(office, 1)
    query(office)
    office.journal._database.connection.execute("DELETE FROM inbox")
    office.run(1)
    assert delivery(office) == ReplayReport(3, 1, 1)


def broken(*_: object) -> None:
    raise JournalError(Path("journal.db"), "read the records", "disk I/O error")

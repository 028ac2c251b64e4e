"""A command acts once: the journal knows it again, whatever happened since, and what it was answered first."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.journal import FirstOutcome, Journal, Pruned

NOW_MS = 1_700_000_000_000
DAY_MS = 24 * 3600 * 1000
START = b"\x01" * 32
LINE = b"10.0.0.1,API:2.0.2,101,1700000000000,P1,3,P1,1,13800000000,5000,0,0,ORDER1"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal.open(tmp_path / "pile.db", NOW_MS)) as journal:
        yield journal


def record(journal: Journal, key: bytes, result: int | None, at_ms: int = NOW_MS) -> None:
    with journal.transaction():
        journal.record_command(key, 101, LINE, at_ms)
        if result is not None:
            journal.record_outcome(key, result, "")


def test_a_command_never_recorded_is_not_seen(journal: Journal) -> None:
    assert journal.seen(START) is None


def test_a_recorded_command_is_seen_before_it_is_answered(journal: Journal) -> None:
    record(journal, START, None)
    assert journal.seen(START) == FirstOutcome(None, "")


@pytest.mark.parametrize(
    ("replies", "kept"),
    [
        ([(1, "")], FirstOutcome(1, "")),
        ([(2, ""), (1, "")], FirstOutcome(1, "")),
        ([(1, ""), (0, "1,ORDER1,4")], FirstOutcome(0, "1,ORDER1,4")),
        ([(1, ""), (29, "no current in 60 s")], FirstOutcome(29, "no current in 60 s")),
        ([(0, "1,ORDER1,4"), (1, "")], FirstOutcome(0, "1,ORDER1,4")),
        ([(0, "1,ORDER1,4"), (99, "later")], FirstOutcome(0, "1,ORDER1,4")),
    ],
    ids=["accepted", "latest provisional", "final", "final error", "provisional after final", "second final"],
)
def test_the_first_final_reply_stands(journal: Journal, replies: list[tuple[int, str]], kept: FirstOutcome) -> None:
    record(journal, START, None)
    for result, body in replies:
        with journal.transaction():
            journal.record_outcome(START, result, body)
    assert journal.seen(START) == kept


def test_the_outcome_is_known_after_a_restart(tmp_path: Path) -> None:
    with closing(Journal.open(tmp_path / "restarted.db", NOW_MS)) as first:
        record(first, START, 24)
    with closing(Journal.open(tmp_path / "restarted.db", NOW_MS)) as second:
        assert second.seen(START) == FirstOutcome(24, "")


def test_recording_a_command_twice_is_a_bug(journal: Journal) -> None:
    record(journal, START, 0)
    with pytest.raises(RuntimeError, match="is in the journal already"):
        record(journal, START, 0)


def test_an_outcome_of_a_command_that_a_damaged_journal_has_lost_is_left_out(journal: Journal) -> None:
    with journal.transaction():
        journal.record_outcome(START, 0, "")
    assert journal.seen(START) is None


def test_an_answered_command_leaves_no_password_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.db"
    journal = Journal.open(path, NOW_MS)
    with journal.transaction():
        journal.record_command(b"113", 113, b"ip,API:2.0.2,113,1,P1,ftp.example,user,s3cr3t,1,1.0,7", NOW_MS)
    with journal.transaction():
        journal.record_outcome(b"113", 0, "7,1")
    journal.close()
    assert b"s3cr3t" not in path.read_bytes()


def test_prune_keeps_the_newest_rows(journal: Journal) -> None:
    for number in range(10):
        record(journal, b"%d" % number, 0)
    with journal.transaction():
        assert journal.prune(NOW_MS, {}, inbox_rows=3, inbox_least=1) == Pruned(7, {})
    assert [number for number in range(10) if journal.seen(b"%d" % number)] == [7, 8, 9]


def test_prune_forgets_what_is_old_but_never_the_newest_whose_clock_may_have_been_wrong(journal: Journal) -> None:
    record(journal, b"old", 0, NOW_MS - 31 * DAY_MS)
    record(journal, b"young", 0, NOW_MS - 29 * DAY_MS)
    record(journal, b"recorded in 1970", 0, 5_000)
    with journal.transaction():
        assert journal.prune(NOW_MS, {}, inbox_days=30, inbox_least=1) == Pruned(1, {})
    assert journal.seen(b"old") is None
    assert journal.seen(b"young") is not None
    assert journal.seen(b"recorded in 1970") is not None


@pytest.mark.parametrize("result", [None, 1, 2])
def test_prune_keeps_unfinished_commands(journal: Journal, result: int | None) -> None:
    record(journal, b"unfinished", result, at_ms=0)
    record(journal, b"finished", 0, at_ms=0)
    record(journal, b"newest", 0)
    with journal.transaction():
        assert journal.prune(NOW_MS, {}, inbox_rows=1, inbox_least=0) == Pruned(1, {})
    assert journal.seen(b"unfinished") is not None


def test_one_prune_is_bounded_and_the_next_goes_on(journal: Journal) -> None:
    with journal.transaction():
        for number in range(1500):
            journal.record_command(b"%d" % number, 100, LINE, NOW_MS)
            journal.record_outcome(b"%d" % number, 0, "")
    with journal.transaction():
        assert journal.prune(NOW_MS, {}, inbox_rows=100).inbox == 1000
    with journal.transaction():
        assert journal.prune(NOW_MS, {}, inbox_rows=100).inbox == 400

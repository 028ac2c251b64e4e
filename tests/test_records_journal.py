"""Records in the journal: numbered by type without a gap, counted at once, found again, forgotten by number and age."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.journal import Extent, Journal, JournalError, Retention, StoredRecord, Wanted, reading, schema
from agent.journal.records import LEAST, PRUNE_BATCH, Records

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
CHARGING, PROCESS, EVENT, ALARM = 1, 2, 3, 4
FOR_EVER = 36_500


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with closing(Journal.open(path, NOW_MS)) as journal:
        yield journal


def add(journal: Journal, count: int = 1, record_type: int = EVENT, at_ms: int = NOW_MS) -> list[int]:
    with journal.transaction():
        return [journal.records.add(record_type, at_ms, 0, "", f"1,number {number}") for number in range(count)]


def prune(journal: Journal, retention: Retention, now_ms: int = NOW_MS, record_type: int = EVENT) -> int:
    with journal.transaction():
        return journal.records.prune(record_type, retention, now_ms)


def sequences(journal: Journal, record_type: int = EVENT) -> list[int]:
    return [record.sequence for record in journal.records.after(record_type, 0, 10**6)]


# ---- numbers


def test_each_type_is_numbered_by_itself_from_one(journal: Journal) -> None:
    with journal.transaction():
        numbers = [
            journal.records.add(one, NOW_MS, 1, "", "x") for one in (EVENT, ALARM, EVENT, CHARGING, EVENT, ALARM)
        ]
    assert numbers == [1, 1, 2, 1, 3, 2]


def test_there_is_no_gap_over_rollback_prune_and_restart(path: Path) -> None:
    def add_and_fail(journal: Journal) -> None:
        with journal.transaction():
            journal.records.add(EVENT, NOW_MS, 0, "", "1,never happened")
            raise ValueError("after the record")

    with closing(Journal.open(path, NOW_MS)) as journal:
        assert add(journal, 2) == [1, 2]
        with pytest.raises(ValueError, match="after the record"):
            add_and_fail(journal)
        assert add(journal) == [3]
        assert prune(journal, Retention(1, FOR_EVER)) == 2
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert add(journal) == [4]
        assert sequences(journal) == [3, 4]


def test_the_extent_follows_what_is_added_pruned_and_rolled_back(journal: Journal) -> None:
    assert journal.records.extent(EVENT) == Extent(0, 0)
    add(journal, 5)
    assert journal.records.extent(EVENT) == Extent(5, 5)
    prune(journal, Retention(2, FOR_EVER))
    assert journal.records.extent(EVENT) == Extent(2, 5)
    assert journal.records.extent(ALARM) == Extent(0, 0)


def test_asking_how_many_there_are_does_not_read_them(journal: Journal) -> None:
    plan = journal._database.rows("explain", "EXPLAIN QUERY PLAN SELECT stored, last FROM record_counts WHERE type = 3")
    assert "PRIMARY KEY" in plan[0][3]
    assert "records" not in plan[0][3].split()


def test_a_write_outside_a_transaction_is_refused(journal: Journal) -> None:
    with pytest.raises(RuntimeError, match="cannot count a record outside a journal transaction"):
        journal.records.add(EVENT, NOW_MS, 0, "", "x")


# ---- reading


def test_a_record_comes_back_as_it_was_added(journal: Journal) -> None:
    with journal.transaction():
        journal.records.add(CHARGING, NOW_MS, 2, "订单 7", "U1001,1")
        journal.records.add(EVENT, NOW_MS + 1, 0, "", "1,version 0.1.0")
    assert journal.records.after(CHARGING, 0, 9) == [StoredRecord(CHARGING, 1, NOW_MS, 2, "订单 7", "U1001,1")]
    assert journal.records.after(EVENT, 0, 9) == [StoredRecord(EVENT, 1, NOW_MS + 1, 0, "", "1,version 0.1.0")]


def test_a_type_is_read_in_batches_without_the_others(journal: Journal) -> None:
    for record_type in (CHARGING, EVENT, ALARM):
        add(journal, 5, record_type)
    assert [record.sequence for record in journal.records.after(EVENT, 0, 2)] == [1, 2]
    assert [record.sequence for record in journal.records.after(EVENT, 2, 2)] == [3, 4]
    assert [record.sequence for record in journal.records.after(EVENT, 4, 2)] == [5]
    assert journal.records.after(EVENT, 5, 2) == []


def found(journal: Journal, limit: int = 100, **wanted: object) -> list[tuple[int, int]]:
    return [(one.type, one.sequence) for one in journal.records.find(Wanted(**wanted), limit)]  # type: ignore[arg-type]


def test_records_are_found_by_type_order_gun_and_time_in_the_order_of_time(journal: Journal) -> None:
    rows = [
        (CHARGING, 30, 1, "A1"),
        (PROCESS, 10, 1, "A1"),
        (PROCESS, 20, 2, "B1"),
        (EVENT, 25, 1, "A1"),
        (ALARM, 5, 2, ""),
    ]
    with journal.transaction():
        for record_type, at_ms, gun, order in rows:
            journal.records.add(record_type, at_ms, gun, order, "x")
    assert found(journal) == [(ALARM, 1), (PROCESS, 1), (PROCESS, 2), (EVENT, 1), (CHARGING, 1)]
    assert found(journal, type=PROCESS) == [(PROCESS, 1), (PROCESS, 2)]
    assert found(journal, order="A1") == [(PROCESS, 1), (EVENT, 1), (CHARGING, 1)]
    assert found(journal, gun=2) == [(ALARM, 1), (PROCESS, 2)]
    assert found(journal, since_ms=20) == [(PROCESS, 2), (EVENT, 1), (CHARGING, 1)]
    assert found(journal, order="A1", type=EVENT, since_ms=25) == [(EVENT, 1)]
    assert found(journal, order="C1") == []


def test_a_limit_gives_the_newest_oldest_first(journal: Journal) -> None:
    for at_ms in (30, 10, 20):
        add(journal, 1, EVENT, at_ms)
    assert found(journal, limit=2) == [(EVENT, 3), (EVENT, 1)]


def test_an_orders_records_are_found_by_an_index(journal: Journal) -> None:
    sql = "EXPLAIN QUERY PLAN SELECT body FROM records WHERE order_number = 'A1' AND type = 1"
    assert "records_of_order" in str(journal._database.rows("explain", sql))


# ---- retention


def test_prune_keeps_the_newest_so_many(journal: Journal) -> None:
    add(journal, 10)
    assert prune(journal, Retention(3, FOR_EVER)) == 7
    assert sequences(journal) == [8, 9, 10]
    assert prune(journal, Retention(3, FOR_EVER)) == 0


def test_prune_forgets_what_is_old_but_never_the_newest_whose_clock_may_have_been_wrong(journal: Journal) -> None:
    add(journal, 3, at_ms=0)
    assert prune(journal, Retention(10**6, 30)) == 0
    add(journal, LEAST - 1, at_ms=NOW_MS)
    assert prune(journal, Retention(10**6, 30)) == 2
    assert sequences(journal)[0] == 3
    assert journal.records.extent(EVENT) == Extent(LEAST, LEAST + 2)


@pytest.mark.parametrize(("age_ms", "gone"), [(30 * DAY_MS + 1, 1), (30 * DAY_MS, 0)])
def test_the_age_is_counted_to_the_millisecond(journal: Journal, age_ms: int, gone: int) -> None:
    add(journal, 1, at_ms=NOW_MS - age_ms)
    add(journal, LEAST)
    assert prune(journal, Retention(10**6, 30)) == gone


def test_what_is_old_behind_something_young_stays(journal: Journal) -> None:
    """Records go from the old end only, or a type would have a gap."""
    add(journal, 1, at_ms=NOW_MS)
    add(journal, 1, at_ms=0)
    add(journal, LEAST)
    assert prune(journal, Retention(10**6, 30)) == 0


def test_one_prune_is_bounded_and_the_next_goes_on(journal: Journal) -> None:
    add(journal, PRUNE_BATCH + 500)
    assert prune(journal, Retention(100, FOR_EVER)) == PRUNE_BATCH
    assert prune(journal, Retention(100, FOR_EVER)) == 400
    assert prune(journal, Retention(100, FOR_EVER)) == 0


def test_each_type_has_its_own_retention(journal: Journal) -> None:
    for record_type in (EVENT, ALARM):
        add(journal, PRUNE_BATCH + 1, record_type)
    keep = {EVENT: Retention(1, FOR_EVER), ALARM: Retention(10**6, FOR_EVER)}
    with journal.transaction():
        pruned = journal.prune(NOW_MS, keep)
    assert (pruned.records, pruned.is_done) == ({EVENT: PRUNE_BATCH, ALARM: 0}, False)
    with journal.transaction():
        assert journal.prune(NOW_MS, {EVENT: Retention(2, FOR_EVER), ALARM: Retention(1001, FOR_EVER)}).is_done
    assert journal.records.extent(ALARM).count == PRUNE_BATCH + 1


def test_a_record_may_go_while_its_message_still_waits(journal: Journal) -> None:
    with journal.transaction():
        journal.records.add(CHARGING, NOW_MS, 1, "A1", "U1001,1")
        journal.enqueue("topic", b"the bill", NOW_MS)
        journal.records.add(CHARGING, NOW_MS, 1, "A2", "U1001,1")
    prune(journal, Retention(1, FOR_EVER), record_type=CHARGING)
    assert [row.payload for row in journal.pending(0, 9)] == [b"the bill"]


# ---- a damaged file


def test_a_type_whose_count_was_lost_goes_on_behind_its_last_record(path: Path) -> None:
    with closing(Journal.open(path, NOW_MS)) as journal:
        add(journal, 7)
    damage(path, "record_counts")
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert "0 of record_counts, 7 of records" in journal.notices[0]
        assert journal.records.extent(EVENT) == Extent(7, 7)
        assert add(journal) == [8]


def test_a_count_is_of_what_is_left_and_its_numbers_are_not_given_again(path: Path) -> None:
    with closing(Journal.open(path, NOW_MS)) as journal:
        add(journal, 7)
        add(journal, 3, ALARM)
    damage(path, "records")
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert journal.records.extent(EVENT) == Extent(0, 7)
        assert journal.records.extent(ALARM) == Extent(0, 3)
        assert add(journal, 1, ALARM) == [4]
        assert journal.records.extent(ALARM) == Extent(1, 4)


def damage(path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,))
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)


# ---- a reader beside


def read(path: Path) -> list[int]:
    with reading(path) as database:
        return [record.sequence for record in Records(database).find(Wanted(), 100)]


def test_a_tool_reads_beside_a_running_agent_and_after_it(path: Path) -> None:
    with closing(Journal.open(path, NOW_MS)) as journal:
        add(journal, 2)
        assert read(path) == [1, 2]
        with journal.transaction():
            journal.records.add(EVENT, NOW_MS, 0, "", "1,not committed yet")
            assert read(path) == [1, 2]
        assert read(path) == [1, 2, 3]
    assert read(path) == [1, 2, 3]


def test_a_reader_leaves_the_file_as_it_is(path: Path) -> None:
    with closing(Journal.open(path, NOW_MS)) as journal:
        add(journal, 2)
    before = path.read_bytes()
    read(path)
    with reading(path) as database, pytest.raises(JournalError, match="readonly"), database.transaction():
        database.write("write", "DELETE FROM records")
    assert path.read_bytes() == before


# Reads as somebody who may only read; the agent is stopped or, with a second argument, running.
READER = """
import os, sys
from pathlib import Path
from agent.journal import Journal, Records, Wanted, reading
path = Path(sys.argv[1])
journal = Journal.open(path, 0)
with journal.transaction():
    journal.records.add(3, 0, 0, "", "1,version 0.1.0")
if len(sys.argv) == 2:
    journal.close()
for file in path.parent.iterdir():
    file.chmod(0o644)
before = sorted(os.listdir(path.parent))
os.setgid(65534)
os.setuid(65534)
with reading(path) as database:
    print(len(list(Records(database).find(Wanted(), 9))), sorted(os.listdir(path.parent)) == before)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("more", [[], ["running"]])
def test_who_may_only_read_reads_too(more: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        command = [sys.executable, "-c", READER, f"{folder}/journal.db", *more]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1 True\n"


def test_what_cannot_be_read_is_named(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JournalError, match=r"cannot open it: there is no journal here$"):
        read(path)
    path.write_bytes(b"not a database, but long enough to have a header" * 100)
    with pytest.raises(JournalError, match=r"cannot open it: file is not a database$"):
        read(path)
    Journal.open(tmp_path / "old.db", NOW_MS).close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "SELECT 1"))
    with pytest.raises(JournalError, match=r"its schema is 1, this release reads 2; a start of the agent migrates it$"):
        read(tmp_path / "old.db")

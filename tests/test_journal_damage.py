"""A damaged journal is put aside, never overwritten; what can be read of it goes on in the new one."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.journal import Extent, FirstOutcome, Journal, JournalError, OutboxRow

NOW_MS = 1_700_000_000_000
ASIDE = "pile.db.corrupt-20231114T221320Z"
PAGE = 4096
GARBAGE = b"\xa5" * PAGE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pile.db"


def fill(path: Path, records: int = 2000) -> None:
    with closing(Journal.open(path, NOW_MS)) as journal, journal.transaction():
        journal.record_command(b"key", 101, b"line", NOW_MS)
        journal.record_outcome(b"key", 0, "done")
        journal.put("settings", {"heartbeat_s": 30})
        journal.enqueue("klc/reply/qik/P1", b"undelivered", NOW_MS)
        for number in range(records):
            journal.records.add(3, NOW_MS, 0, "", f"number {number}")


def root_page(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    return int(found[0])


def overwrite(path: Path, page: int) -> bytes:
    """Replace a page (counted from 1) by garbage; the whole file afterwards."""
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(GARBAGE)
    return path.read_bytes()


def test_a_damaged_table_is_lost_the_others_and_the_numbering_are_carried_over(path: Path) -> None:
    fill(path)
    damaged = overwrite(path, root_page(path, "records"))
    with closing(Journal.open(path, NOW_MS)) as journal:
        (notice,) = journal.notices
        assert notice.startswith(f"journal {path} was damaged (")
        assert notice.endswith(
            f") and put aside as {ASIDE}; rows carried over: 1 of state, 1 of outbox, 1 of inbox, "
            "1 of record_counts, 0 of records"
        )
        assert journal.seen(b"key") == FirstOutcome(0, "done")
        assert journal.get("settings") == {"heartbeat_s": 30}
        assert journal.pending(0, 9) == [OutboxRow(1, "klc/reply/qik/P1", b"undelivered")]
        with journal.transaction():
            assert journal.records.add(3, NOW_MS, 0, "", "boot") == 2001
        assert journal.records.extent(3) == Extent(1, 2001)
    assert (path.parent / ASIDE).read_bytes() == damaged


def test_of_a_table_the_rows_before_the_damage_are_carried_over(path: Path) -> None:
    fill(path, records=10_000)
    overwrite(path, path.stat().st_size // PAGE)  # the last page holds the newest records
    with closing(Journal.open(path, NOW_MS)) as journal:
        sequences = [record.sequence for record in journal.records.after(3, 0, 20_000)]
        assert sequences == list(range(1, len(sequences) + 1))
        assert 9000 < len(sequences) < 10_000


def test_a_row_that_is_not_what_we_write_is_left_behind(path: Path) -> None:
    fill(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("""
            DROP TABLE state;
            CREATE TABLE state (key, value);
            INSERT INTO state (key, value) VALUES ('gun/1', NULL), (x'00', x'00'), ('gun/2', '{}');
        """)
    overwrite(path, root_page(path, "records"))
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert journal.items("") == [("gun/2", {})]


def test_the_second_start_is_quiet(path: Path) -> None:
    fill(path)
    overwrite(path, root_page(path, "records"))
    Journal.open(path, NOW_MS).close()
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert journal.notices == []
        assert journal.outbox_size() == 1


@pytest.mark.parametrize(
    "content", [b"", b"not a database, but long enough to have a header" * 100, b"SQLite format 3\x00" + b"\xff" * 4080]
)
def test_a_file_that_is_no_journal_at_all_is_put_aside(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert ASIDE in journal.notices[0]
        assert journal.outbox_size() == 0
    assert (path.parent / ASIDE).read_bytes() == content


def test_a_truncated_file_is_put_aside(path: Path) -> None:
    fill(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert ASIDE in journal.notices[0]
        assert journal.get("settings") == {"heartbeat_s": 30}


def test_an_earlier_file_put_aside_is_never_overwritten(path: Path) -> None:
    for content in (b"first", b"second", b"third"):
        path.write_bytes(content)
        Journal.open(path, NOW_MS).close()
    assert (path.parent / ASIDE).read_bytes() == b"first"
    assert (path.parent / f"{ASIDE}-2").read_bytes() == b"second"
    assert (path.parent / f"{ASIDE}-3").read_bytes() == b"third"


def test_the_wal_and_shm_go_aside_with_the_file(path: Path) -> None:
    path.write_bytes(b"damaged")
    path.with_name("pile.db-wal").write_bytes(b"its wal")
    path.with_name("pile.db-shm").write_bytes(b"its shm")
    Journal.open(path, NOW_MS).close()
    assert (path.parent / f"{ASIDE}-wal").read_bytes() == b"its wal"
    assert (path.parent / f"{ASIDE}-shm").exists()
    assert not path.with_name("pile.db-wal").exists()


def test_a_wal_without_its_file_is_not_played_into_a_new_one(path: Path) -> None:
    path.with_name("pile.db-wal").write_bytes(b"left alone")
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert "damaged (its -wal was there without it)" in journal.notices[0]
        assert f"put aside as {ASIDE}; rows carried over: none" in journal.notices[0]
    assert (path.parent / f"{ASIDE}-wal").read_bytes() == b"left alone"


def test_what_the_wal_holds_is_carried_over_too(path: Path, tmp_path: Path) -> None:
    fill(path)
    overwrite(path, root_page(path, "records"))
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO state (key, value) VALUES ('late', '1')")
        for end in ("", "-wal"):
            (crashed / f"pile.db{end}").write_bytes(path.with_name(f"pile.db{end}").read_bytes())
    with closing(Journal.open(crashed / "pile.db", NOW_MS)) as journal:
        assert journal.get("late") == 1


def test_somebody_elses_database_is_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"it is an SQLite database of something else \(application id 0x0\)"):
        Journal.open(path, NOW_MS)
    assert path.read_bytes() == before


def test_the_check_of_a_large_file_is_cut_short_unless_damage_was_met_while_running(path: Path) -> None:
    with closing(Journal.open(path, NOW_MS)) as journal:
        for _ in range(16):
            with journal.transaction():
                journal.enqueue("topic", b"x" * (4 << 20), NOW_MS)
        with journal.transaction():
            journal.records.add(3, NOW_MS, 0, "", "boot")
    overwrite(path, root_page(path, "records"))
    with closing(Journal.open(path, NOW_MS, check_s=0.001)) as journal:
        assert journal.notices == []
        with pytest.raises(JournalError, match="cannot read the records: database disk image is malformed"):
            journal.records.after(3, 0, 9)
    assert path.with_name("pile.db.suspect").exists()
    with closing(Journal.open(path, NOW_MS, check_s=0.001)) as journal:
        assert "16 of outbox" in journal.notices[0]
    assert not path.with_name("pile.db.suspect").exists()

"""A journal outlives releases: an older file is migrated, a newer one is used if it allows that and refused if not."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.journal import Extent, FirstOutcome, Journal, JournalError, JournalTooNew, OutboxRow, StoredRecord, schema

NOW_MS = 1_700_000_100_000
DATA = Path(__file__).parent / "data"
ADD_UPLOADS = "ALTER TABLE outbox ADD COLUMN record INTEGER; CREATE TABLE uploads (id INTEGER PRIMARY KEY) STRICT"


def load(path: Path, *names: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for name in names:
            connection.executescript((DATA / name).read_text("utf-8"))
    return path


def ask(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def assert_holds_what_v1_left(journal: Journal) -> None:
    assert journal.notices == []
    assert journal.seen(b"\xaa\x01") == FirstOutcome(0, "1,ORDER1,4")
    assert journal.seen(b"\xaa\x02") == FirstOutcome(1, "")
    assert journal.pending(0, 9) == [OutboxRow(2, "klc/reply/qik/P1", b"accepted")]
    assert journal.get("settings") == {"heartbeat_s": 30}
    assert journal.records.after(3, 0, 9) == [
        StoredRecord(3, 8, 1_700_000_000_000, 1, "", "4,gun 1; order ORDER1: current flows")
    ]
    assert [record.order for record in journal.records.after(1, 0, 9)] == ["ORDER1"]


def assert_goes_on_after_v1(journal: Journal) -> None:
    with journal.transaction():
        assert journal.enqueue("klc/reply/qik/P1", b"next", NOW_MS) == 3
        assert journal.records.add(3, NOW_MS, 0, "", "1,version 0.2.0") == 9
    assert journal.records.extent(3) == Extent(2, 9)


def test_todays_code_takes_over_a_journal_of_schema_1(tmp_path: Path) -> None:
    path = load(tmp_path / "pile.db", "journal_v1.sql")
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert_holds_what_v1_left(journal)
        assert_goes_on_after_v1(journal)
    assert ask(path, "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]


def test_the_released_schema_1_was_not_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
    Journal.open(tmp_path / "new.db", NOW_MS).close()
    tables = "SELECT name, replace(sql, '    ', '') FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
    assert ask(tmp_path / "new.db", tables) == ask(load(tmp_path / "v1.db", "journal_v1.sql"), tables)


def test_an_older_file_goes_through_every_step_it_has_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = load(tmp_path / "pile.db", "journal_v1.sql")
    monkeypatch.setattr(schema, "MIGRATIONS", (schema.MIGRATIONS[0], ADD_UPLOADS, "INSERT INTO uploads VALUES (7)"))
    for _ in range(2):  # the second start finds nothing to do
        with closing(Journal.open(path, NOW_MS)) as journal:
            assert_holds_what_v1_left(journal)
    assert ask(path, "PRAGMA user_version") == [(3,)]
    assert ask(path, "SELECT id FROM uploads") == [(7,)]


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = load(tmp_path / "pile.db", "journal_v1.sql")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (schema.MIGRATIONS[0], f"{ADD_UPLOADS}; INSERT INTO nowhere VALUES (1)"))
        with pytest.raises(JournalError, match="cannot open it: no such table: nowhere"):
            Journal.open(path, NOW_MS)
    assert ask(path, "PRAGMA user_version") == [(1,)]
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert_holds_what_v1_left(journal)


def test_a_newer_file_that_allows_us_is_used_and_stays_newer(tmp_path: Path) -> None:
    path = load(tmp_path / "pile.db", "journal_v1.sql", "journal_v2_compatible.sql")
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert_holds_what_v1_left(journal)
        assert_goes_on_after_v1(journal)
    assert ask(path, "PRAGMA user_version") == [(2,)]
    assert ask(path, "SELECT name FROM uploads") == [("log-1",)]


def test_a_newer_file_that_excludes_us_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = load(tmp_path / "pile.db", "journal_v1.sql", "journal_v2_exclusive.sql")
    before = path.read_bytes()
    for _ in range(2):  # the refusal gave up the lock
        with pytest.raises(JournalTooNew, match=r"its schema 2 needs a release that knows schema 2, this one knows 1$"):
            Journal.open(path, NOW_MS)
    assert path.read_bytes() == before

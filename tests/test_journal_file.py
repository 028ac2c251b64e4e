"""The journal's file: how it is opened, who may have it, what a reader beside the agent sees."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.journal import Journal, JournalBusy, JournalError

NOW_MS = 1_700_000_000_000

OPEN = """
import sys
from pathlib import Path
from agent.journal import Journal, JournalError
try:
    Journal.open(Path(sys.argv[1]), 0)
    print("opened")
except JournalError as error:
    print(error)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pile.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with closing(Journal.open(path, NOW_MS)) as journal:
        yield journal


def pragma(journal: Journal, name: str) -> object:
    return journal._database.connection.execute(f"PRAGMA {name}").fetchone()[0]


def open_in_child(path: Path, before: str = "") -> str:
    done = subprocess.run([sys.executable, "-c", before + OPEN, path], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_commit_is_on_disk_when_it_returns(journal: Journal) -> None:
    assert pragma(journal, "journal_mode") == "wal"
    assert pragma(journal, "synchronous") == 2  # FULL


def test_a_setting_that_does_not_take_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.journal.storage.SETTINGS", (("journal_mode", "MEMORY", "wal"),))
    with pytest.raises(JournalError, match="cannot set journal_mode to MEMORY: it stays memory"):
        Journal.open(path, NOW_MS)


def test_a_new_journal_is_silent_whole_and_not_for_everybody(journal: Journal, path: Path) -> None:
    assert journal.notices == []
    assert not (path.parent / "pile.db.new").exists()
    assert path.stat().st_mode & 0o027 == 0


def test_what_an_interrupted_creation_left_does_not_disturb(path: Path) -> None:
    (path.parent / "pile.db.new").write_bytes(b"half")
    (path.parent / "pile.db.new-wal").write_bytes(b"half")
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert journal.notices == []
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["pile.db", "pile.db.lock"]


def test_a_second_agent_is_refused_and_told_who_has_the_journal(journal: Journal, path: Path) -> None:
    expected = f"journal {path}: cannot open it: another agent (pid {os.getpid()}) is using it"
    assert open_in_child(path) == expected
    with pytest.raises(JournalBusy):
        Journal.open(path, NOW_MS)  # nor twice in one process


def test_ownership_ends_with_close_and_with_the_process(path: Path) -> None:
    assert open_in_child(path) == "opened"
    Journal.open(path, NOW_MS).close()
    Journal.open(path, NOW_MS).close()


def test_a_tool_reads_what_is_committed_while_the_agent_writes(journal: Journal, path: Path) -> None:
    with journal.transaction():
        journal.put("heartbeat_s", 30)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader, journal.transaction():
        journal.put("heartbeat_s", 60)
        assert reader.execute("SELECT value FROM state").fetchall() == [("30",)]
    assert journal.get("heartbeat_s") == 60


def test_a_foreign_writer_costs_a_moment_and_an_error(journal: Journal, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="cannot begin a transaction: database is locked"), journal.transaction():
            pass
    with journal.transaction():
        journal.put("a", 1)


def test_the_wal_stays_bounded(journal: Journal, path: Path) -> None:
    for number in range(1200):  # two pages and more each: well over the 1000 pages that start a checkpoint
        with journal.transaction():
            journal.put("gun/1", number)
            journal.enqueue("topic", b"payload", NOW_MS)
    assert path.with_name("pile.db-wal").stat().st_size < 5 << 20


def test_a_wal_that_a_reader_held_up_is_cut_back_afterwards(journal: Journal, path: Path) -> None:
    wal = path.with_name("pile.db-wal")

    def write(commits: int) -> None:
        for _ in range(commits):
            with journal.transaction():
                journal.enqueue("topic", b"x" * 100_000, NOW_MS)

    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM state").fetchall()
        write(100)
        assert wal.stat().st_size > 8 << 20
    write(3)
    assert wal.stat().st_size < 5 << 20


def test_another_thread_is_refused(journal: Journal) -> None:
    errors: list[str] = []

    def use() -> None:
        try:
            journal.get("a")
        except JournalError as error:
            errors.append(error.why)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert "created in a thread can only be used in that same thread" in errors[0]


def test_places_where_no_journal_can_be_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    for path, why in (
        (tmp_path / "missing" / "pile.db", "cannot create its lock file: No such file or directory"),
        (tmp_path / "file" / "pile.db", "cannot create its lock file: Not a directory"),
        (tmp_path / "directory", "cannot open it: it is a directory"),
    ):
        with pytest.raises(JournalError) as caught:
            Journal.open(path, NOW_MS)
        assert str(caught.value) == f"journal {path}: {why}"


def test_an_unwritable_directory_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    become_nobody = "import os\nfrom agent.journal import Journal\nif os.geteuid() == 0: os.setuid(65534)\n"
    said = open_in_child(tmp_path / "pile.db", before=become_nobody)
    tmp_path.chmod(0o700)
    assert said == f"journal {tmp_path}/pile.db: cannot create its lock file: Permission denied"


def test_a_path_with_signs_that_mean_something_in_a_uri(tmp_path: Path) -> None:
    path = tmp_path / "pile#1 50%?.db"
    Journal.open(path, NOW_MS).close()
    assert path.exists()

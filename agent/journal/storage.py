"""The journal as a file: who owns it, whether it is sound, how it comes into being and how it is put aside.

Everything here happens before the agent's first transaction. Names beside ``pile.db``:

    pile.db-wal, -shm           SQLite's own
    pile.db.lock                held with flock as long as an agent runs; never removed
    pile.db.suspect             SQLite met damage while we ran: the next start checks without a time limit
    pile.db.new                 a journal being created; it gets its real name when it is whole
    pile.db.corrupt-<stamp>     a damaged journal put aside, with its -wal and -shm under the same name
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from agent.journal import schema
from agent.journal.errors import JournalBusy, JournalError, JournalTooNew

BUSY_TIMEOUT_S = (
    0.2  # only a foreign writer (somebody's sqlite3 shell) can make us wait, and the main loop waits with us
)

# WAL: a commit is one append and one fsync, and readers never block it. FULL: with NORMAL a power cut loses rows that
# were acknowledged. A commit writes the pages it changed, whole: some 6 (27 KB) for a command, its effect, its reply
# (docs/adr/0004-journal.md). The WAL is copied into the database when it holds 1000 pages (a page that all its commits
# changed is then written once) and overwritten from its start. A reader that stays in one transaction for long lets it
# grow; journal_size_limit cuts it back afterwards. secure_delete FAST: an answered command's line, which may hold a
# password, is overwritten in its page, at no extra write. cache_size: 256 KiB, not 2 MiB, for a command touches some 6
# pages, and the kernel has the others.
SETTINGS: tuple[tuple[str, str | int, str | int], ...] = (  # pragma, value, what it must read back as
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    ("wal_autocheckpoint", 1000, 1000),
    ("journal_size_limit", 4 << 20, 4 << 20),
    ("secure_delete", "FAST", 2),
    ("cache_size", -256, -256),
)
PAGE_SIZE = (
    4096  # one block of the filesystem: a torn write in a checkpoint damages no page but the one the WAL still has
)
OLDEST_SQLITE = (3, 37, 0)  # STRICT tables


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def lock(path: Path) -> int:
    """Own the journal; the descriptor returned is the ownership and ends with it. Raises ``JournalBusy``."""
    try:
        fd = os.open(beside(path, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise JournalError(path, "create its lock file", error.strerror or str(error)) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except BlockingIOError as error:
        pid = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise JournalBusy(path, pid) from error
    except OSError as error:
        os.close(fd)
        raise JournalError(path, "lock it", error.strerror or str(error)) from error
    return fd


def open_checked(path: Path, now_ms: int, check_s: float) -> tuple[sqlite3.Connection, list[str]]:
    """The journal, sound, at this release's schema and ready to write; and what the operator must hear about it.

    A damaged file is put aside and what is readable in it carried over: a pile must run whatever happened to its disk.
    """
    _require_sqlite(path)
    damage = _damage_at_start(path, check_s)
    aside = set_aside(path, _stamp(now_ms)) if damage else None
    if not path.exists():
        create(path)
    connection = connect(path, "rw")
    try:
        configure(path, connection)
        schema.migrate(connection)
        notices = [_carry_over(path, damage, aside, connection)] if aside else []
    except BaseException:
        connection.close()
        raise
    beside(path, ".suspect").unlink(missing_ok=True)
    return connection, notices


def mark_suspect(path: Path) -> None:
    """Remember for the next start that SQLite found the file malformed; as well as a failing disk lets us."""
    with contextlib.suppress(OSError):
        beside(path, ".suspect").touch()


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """``mode`` is SQLite's: ``rw`` never creates, ``ro`` also leaves the WAL as it is when closed."""
    uri = f"file:{quote(str(path))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)


def configure(path: Path, connection: sqlite3.Connection) -> None:
    """Apply ``SETTINGS`` and see that they took (WAL is refused on some network filesystems, silently)."""
    for pragma, value, expected in SETTINGS:
        connection.execute(f"PRAGMA {pragma} = {value}")
        (found,) = connection.execute(f"PRAGMA {pragma}").fetchone()
        if found != expected:
            raise JournalError(path, f"set {pragma} to {value}", f"it stays {found}")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite blames the file's content, and not the disk, a permission or another process."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def examine(path: Path, limit_s: float | None) -> str:
    """What is damaged in the file, or "" if nothing was found.

    The whole file is checked, for at most ``limit_s`` seconds (``None``: to the end): a page costs microseconds once it
    is read, so it is the disk that decides how far that gets. What lies beyond is checked by SQLite as it is read.

    Raises ``JournalTooNew``, and ``JournalError`` for a database that is not a journal.
    """
    connection = connect(path, "ro")
    try:
        if os.path.getsize(path) == 0:
            return "it is empty"  # a journal gets its name when it is whole, so this was one
        refuse_foreign(path, connection)
        return _quick_check(connection, limit_s)
    except sqlite3.Error as error:
        if is_damage(error):
            return str(error)
        raise
    finally:
        connection.close()


def set_aside(path: Path, stamp: str) -> Path:
    """Rename the journal with its -wal and -shm to ``<name>.corrupt-<stamp>`` or, if that is taken, ``-2``, ``-3``…

    The WAL goes first: left alone beside a new journal it would be played into it.
    """
    name = f".corrupt-{stamp}"
    taken = 1
    while any(beside(path, name + end).exists() for end in ("", "-wal", "-shm")):
        taken += 1
        name = f".corrupt-{stamp}-{taken}"
    for end in ("-wal", "-shm", ""):
        if beside(path, end).exists():
            os.rename(beside(path, end), beside(path, name + end))
    sync_directory(path)
    return beside(path, name)


def create(path: Path) -> None:
    """An empty journal under its name, whole and durable or not there at all."""
    new = beside(path, ".new")
    for end in ("", "-wal", "-shm", "-journal"):
        beside(new, end).unlink(missing_ok=True)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
    connection = connect(new, "rw")
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        configure(new, connection)
        schema.migrate(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # close() would do it too, but not tell of a full disk
    finally:
        connection.close()
    os.rename(new, path)
    sync_directory(path)


def salvage(damaged: Path, journal: sqlite3.Connection) -> dict[str, int]:
    """Copy what can still be read of a damaged file, table by table up to the first unreadable row: rows per table."""
    copied = {}
    source = connect(damaged, "ro")
    source.execute("PRAGMA writable_schema = ON")  # or SQLite reads nothing at all of a file that was cut short
    try:
        journal.execute("BEGIN IMMEDIATE")
        for table, columns in schema.SALVAGED:
            copied[table] = _copy_rows(source, journal, table, columns)
        _keep_sequences(source, journal)
        _recount_records(journal)
        journal.execute("COMMIT")
    finally:
        source.close()
        if journal.in_transaction:
            journal.execute("ROLLBACK")
    return copied


def sync_directory(path: Path) -> None:
    """Make the names in the journal's directory durable."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _require_sqlite(path: Path) -> None:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise JournalError(path, "open it", f"SQLite is {sqlite3.sqlite_version}, needed is {oldest}")


def _damage_at_start(path: Path, check_s: float) -> str:
    if path.is_dir():
        raise JournalError(path, "open it", "it is a directory")
    if path.exists():
        return examine(path, None if beside(path, ".suspect").exists() else check_s)
    if beside(path, "-wal").exists():
        return "its -wal was there without it"
    return ""


def _carry_over(path: Path, damage: str, aside: Path, connection: sqlite3.Connection) -> str:
    copied = salvage(aside, connection) if aside.exists() else {}
    rows = ", ".join(f"{count} of {table}" for table, count in copied.items()) or "none"
    return f"journal {path} was damaged ({damage}) and put aside as {aside.name}; rows carried over: {rows}"


def _stamp(now_ms: int) -> str:
    # Not fromtimestamp(): that ends in 2038 on a 32-bit board, and the platform may say any time.
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now_ms)
    return at.strftime("%Y%m%dT%H%M%SZ")


def refuse_foreign(path: Path, connection: sqlite3.Connection) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != schema.APPLICATION_ID:
        why = f"it is an SQLite database of something else (application id {application_id:#x})"
        raise JournalError(path, "open it", why)
    found = schema.version_of(connection)
    ours = len(schema.MIGRATIONS)
    if found > ours and schema.compatible_from(connection) > ours:
        raise JournalTooNew(path, found, schema.compatible_from(connection), ours)


def _quick_check(connection: sqlite3.Connection, limit_s: float | None) -> str:
    with _interrupted_after(limit_s, connection):
        try:
            faults = [fault for (fault,) in connection.execute("PRAGMA quick_check(3)")]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                return ""
            raise
    return "" if faults == ["ok"] else "; ".join(faults)


@contextlib.contextmanager
def _interrupted_after(limit_s: float | None, connection: sqlite3.Connection) -> Iterator[None]:
    """Every ``limit_s`` again, as SQLite forgets an interrupt that comes before the statement runs."""
    is_over = threading.Event()

    def interrupt() -> None:
        while not is_over.wait(limit_s):
            connection.interrupt()

    thread = threading.Thread(target=interrupt, name="check limit")
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()  # an interrupt must not reach the statement after this one


def _copy_rows(source: sqlite3.Connection, journal: sqlite3.Connection, table: str, columns: str) -> int:
    values = ", ".join("?" * len(columns.split(",")))
    insert = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({values})"
    copied = 0
    for row in _readable_rows(source, f"SELECT {columns} FROM {table}"):
        try:
            copied += journal.execute(insert, row).rowcount
        except sqlite3.IntegrityError:
            continue  # the page was readable, its content is not what we wrote
    return copied


def _readable_rows(source: sqlite3.Connection, select: str) -> Iterator[tuple[object, ...]]:
    try:
        yield from source.execute(select)
    except sqlite3.DatabaseError:
        return


def _keep_sequences(source: sqlite3.Connection, journal: sqlite3.Connection) -> None:
    """A number that was given is never given again, even if its row is lost."""
    for name, last in list(_readable_rows(source, "SELECT name, seq FROM sqlite_sequence")):
        (ours,) = journal.execute("SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = ?", (name,)).fetchone()
        if isinstance(last, int) and last > ours:
            journal.execute("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
            journal.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, last))


def _recount_records(journal: sqlite3.Connection) -> None:
    """What was counted may be lost, or be more than is left; a type whose count is lost goes on behind its last one."""
    journal.execute("""
        INSERT INTO record_counts (type, stored, last)
        SELECT type, count(*), max(sequence) FROM records WHERE true GROUP BY type
        ON CONFLICT (type) DO UPDATE SET stored = excluded.stored, last = max(last, excluded.last)
    """)
    journal.execute("UPDATE record_counts SET stored = 0 WHERE type NOT IN (SELECT type FROM records)")

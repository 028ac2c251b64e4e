"""A journal read by a tool, beside a running agent or without one: no data is written, nobody is held up."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.journal import schema, storage
from agent.journal.database import Database
from agent.journal.errors import JournalError


@contextmanager
def reading(path: Path) -> Iterator[Database]:
    """The journal at ``path``, to read. Raises ``JournalError``: there is none, it is too new, it is damaged."""
    if not path.is_file():
        raise JournalError(path, "open it", "there is no journal here")
    try:
        connection = storage.connect(path, _mode(path))
    except sqlite3.Error as error:
        raise JournalError(path, "open it", str(error)) from error
    database = Database(path, connection)
    try:
        with database.errors_named("open it"):
            storage.refuse_foreign(path, connection)
            _refuse_older(path, connection)
        yield database
    finally:
        connection.close()


def _mode(path: Path) -> str:
    """SQLite wants to put a -shm beside the file. Where we may not, and no agent has one there, nothing changes it."""
    may_write = os.access(path.parent, os.W_OK)
    return "ro" if may_write or storage.beside(path, "-wal").exists() else "ro&immutable=1"


def _refuse_older(path: Path, connection: sqlite3.Connection) -> None:
    found, ours = schema.version_of(connection), len(schema.MIGRATIONS)
    if found < ours:
        why = f"its schema is {found}, this release reads {ours}; a start of the agent migrates it"
        raise JournalError(path, "open it", why)

"""The journal's SQLite connection: transactions, and errors that say what could not be done."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.journal import storage
from agent.journal.errors import JournalError


class Database:
    """One connection, used by the thread that opened it. Every method raises ``JournalError`` with ``doing`` in it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes of the block, on disk when it ends; none of them if it, or the disk, fails."""
        if self.connection.in_transaction:
            raise RuntimeError("a journal transaction is open already; compose the writes in one")
        self.rows("begin a transaction", "BEGIN IMMEDIATE")
        try:
            yield
            self.rows("commit", "COMMIT")
        except BaseException:
            if self.connection.in_transaction:  # SQLite itself rolls back when the disk is full
                self.rows("roll back", "ROLLBACK")
            raise

    def write(self, doing: str, sql: str, *values: object) -> sqlite3.Cursor:
        """What ``rowcount`` and ``lastrowid`` tell. Outside a transaction SQLite would commit each statement alone."""
        if not self.connection.in_transaction:
            raise RuntimeError(f"cannot {doing} outside a journal transaction")
        try:  # not errors_named, here and in rows: it takes as long as a short statement
            return self.connection.execute(sql, values)
        except sqlite3.Error as error:
            raise self._named(doing, error) from error

    def rows(self, doing: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self.connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._named(doing, error) from error

    def each(self, doing: str, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Row after row, however many there are: only one is in memory."""
        with self.errors_named(doing):
            yield from self.connection.execute(sql, values)

    def close(self) -> None:
        with self.errors_named("close it"):
            self.connection.close()

    @contextmanager
    def errors_named(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._named(doing, error) from error

    def _named(self, doing: str, error: sqlite3.Error) -> JournalError:
        if storage.is_damage(error):
            storage.mark_suspect(self.path)
        return JournalError(self.path, doing, str(error))

"""The journal's face: inbox, outbox, state and records, changed together or not at all.

    with journal.transaction():
        journal.record_command(key, 101, line, now_ms)
        journal.put("gun/1", {"order": "…"})
        journal.records.add(3, now_ms, 1, "", "4,current flows")
        journal.enqueue(topic, reply, now_ms)
        journal.record_outcome(key, 1, "")
    # on disk from here on: acknowledge to the broker

Reading needs no transaction. ``JournalError`` means the transaction did not happen and the journal is as before it.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from agent.journal import storage
from agent.journal.database import Database
from agent.journal.errors import JournalError
from agent.journal.records import DAY_MS, PRUNE_BATCH, Records, Retention
from agent.journal.values import JsonValue, decoded, stored_value

CHECK_S = 5.0  # what checking the file may cost a start


@dataclass(frozen=True, slots=True)
class FirstOutcome:
    """What a command was answered: ``result`` and ``body`` of protocol §4; result ``None`` when not yet."""

    result: int | None
    body: str


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message to deliver; ``id`` grows with the order of enqueueing and is never used again."""

    id: int
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows a prune removed: commands, and records by type."""

    inbox: int
    records: Mapping[int, int]

    @property
    def is_done(self) -> bool:
        """No table gave as many as one prune may take, so there is nothing more to forget now."""
        return PRUNE_BATCH not in (self.inbox, *self.records.values())


class Journal:
    """One open journal, owned by the process and used by the thread that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock_fd: int, notices: list[str]) -> None:
        self.path = path
        self.notices = notices
        self._database = Database(path, connection)
        self._lock_fd = lock_fd
        self.records = Records(self._database)

    @classmethod
    def open(cls, path: Path, now_ms: int, check_s: float = CHECK_S) -> "Journal":
        """Open the journal at ``path`` after checking it for at most ``check_s`` seconds; create it if there is none.

        ``now_ms`` (epoch) names a damaged file that is put aside; ``notices`` then says what happened, in sentences.
        Raises ``JournalBusy``, ``JournalTooNew`` or another ``JournalError``.
        """
        lock_fd = storage.lock(path)
        try:
            connection, notices = storage.open_checked(path, now_ms, check_s)
        except (sqlite3.Error, OSError) as error:
            os.close(lock_fd)
            raise JournalError(path, "open it", str(error)) from error
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(path, connection, lock_fd, notices)

    def close(self) -> None:
        """Fold the WAL into the file and give up ownership; an open transaction is rolled back."""
        try:
            self._database.close()
        finally:
            os.close(self._lock_fd)

    def transaction(self) -> AbstractContextManager[None]:
        """All writes of the block, on disk when it ends; none of them if it, or the disk, fails."""
        return self._database.transaction()

    # Inbox

    def seen(self, key: bytes) -> FirstOutcome | None:
        """What the command with this key was answered so far; ``None`` for one never recorded (or pruned)."""
        rows = self._database.rows("look up a command", "SELECT result, body FROM inbox WHERE key = ?", key)
        return FirstOutcome(rows[0][0], rows[0][1] or "") if rows else None

    def record_command(self, key: bytes, command: int, line: bytes | None, now_ms: int) -> None:
        """Remember a command before it is acknowledged to the broker. Ask ``seen`` first: a second time is a bug.

        ``line`` is ``None`` where it must not be kept because it may hold a password.
        """
        sql = "INSERT INTO inbox (key, command, at_ms, line) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
        if self._database.write("record a command", sql, key, command, now_ms, line).rowcount == 0:
            raise RuntimeError(f"command {key.hex()} is in the journal already")

    def record_outcome(self, key: bytes, result: int, body: str) -> None:
        """Remember a reply: ACCEPTED and DEFERRED (1, 2) replace each other, the first final one stands for good.

        With the final reply the command's line goes: it is not needed any more. A command that is not there is left
        so: a damaged journal may have lost it and kept what it began.
        """
        sql = """
            UPDATE inbox SET result = ?1, body = ?2, line = CASE WHEN ?1 IN (1, 2) THEN line END
            WHERE key = ?3 AND (result IS NULL OR result IN (1, 2))
        """
        self._database.write("record an outcome", sql, result, body, key)

    # Outbox

    def enqueue(self, topic: str, payload: bytes, now_ms: int) -> int:
        """Put a message behind all others; its id."""
        sql = "INSERT INTO outbox (topic, payload, at_ms) VALUES (?, ?, ?)"
        row_id = self._database.write("enqueue a message", sql, topic, payload, now_ms).lastrowid
        assert row_id is not None
        return row_id

    def pending(self, after_id: int, limit: int) -> list[OutboxRow]:
        """The next messages behind ``after_id`` in the order they were enqueued."""
        sql = "SELECT id, topic, payload FROM outbox WHERE id > ? ORDER BY id LIMIT ?"
        return [OutboxRow(*row) for row in self._database.rows("read the outbox", sql, after_id, limit)]

    def last_message(self) -> int:
        """The id of the last message that still waits; 0: none does."""
        ((last,),) = self._database.rows("read the outbox", "SELECT coalesce(max(id), 0) FROM outbox")
        return int(last)

    def rewrite(self, row_id: int, payload: bytes) -> None:
        """Put another payload in the place of a message's."""
        self._database.write("rewrite a message", "UPDATE outbox SET payload = ? WHERE id = ?", payload, row_id)

    def delivered(self, ids: Iterable[int]) -> None:
        """Remove what the broker has acknowledged. It may wait for a later transaction: a crash then repeats it."""
        for row_id in ids:
            self._database.write("remove a delivered message", "DELETE FROM outbox WHERE id = ?", row_id)

    def outbox_size(self) -> int:
        ((size,),) = self._database.rows("count the outbox", "SELECT count(*) FROM outbox")
        return int(size)

    # State

    def put(self, key: str, value: JsonValue) -> None:
        """Keep ``value`` under ``key``; an unchanged value costs no write."""
        sql = """
            INSERT INTO state (key, value) VALUES (?, ?)
            ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value
        """
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self._database.write(f"store {key}", sql, key, text)

    def get(self, key: str) -> JsonValue:
        """The value under ``key``; ``None`` if there is none."""
        return stored_value(self._database, key)

    def delete(self, key: str) -> None:
        """Forget ``key``; one that is not there is forgotten already."""
        self._database.write(f"delete {key}", "DELETE FROM state WHERE key = ?", key)

    def items(self, prefix: str) -> list[tuple[str, JsonValue]]:
        """Every key that starts with ``prefix`` and its value, in the order of the keys."""
        sql = "SELECT key, value FROM state WHERE substr(key, 1, ?) = ? ORDER BY key"
        rows = self._database.rows(f"read {prefix}*", sql, len(prefix), prefix)
        return [(key, decoded(self._database, key, value)) for key, value in rows]

    # Retention

    def prune(
        self,
        now_ms: int,
        records: Mapping[int, Retention],
        inbox_days: int = 30,
        inbox_rows: int = 10_000,
        inbox_least: int = 1_000,
    ) -> Pruned:
        """Forget finished commands (beyond the newest ``inbox_rows``, or older than ``inbox_days``) and old records by
        type, a bounded number of each.

        Unfinished commands stay. So do the newest ``inbox_least`` commands whatever their age: one recorded while the
        clock said 1970 looks old, and forgetting it would let it act twice. The outbox has its own copy of what is not
        yet delivered, so a record may go although the broker has not taken it.
        """
        return Pruned(
            self._prune_inbox(now_ms - inbox_days * DAY_MS, inbox_rows, inbox_least),
            {kind: self.records.prune(kind, retention, now_ms) for kind, retention in records.items()},
        )

    def _prune_inbox(self, oldest_ms: int, rows: int, least: int) -> int:
        # An unanswered command's result is NULL, and NULL NOT IN (…) is not true. The newest rows are told by id; with
        # fewer rows than asked for the subquery is NULL and nothing is older than it.
        sql = """
            DELETE FROM inbox WHERE id IN (
                SELECT id FROM inbox
                WHERE result NOT IN (1, 2) AND (
                    id <= (SELECT id FROM inbox ORDER BY id DESC LIMIT 1 OFFSET ?1)
                    OR at_ms < ?2 AND id <= (SELECT id FROM inbox ORDER BY id DESC LIMIT 1 OFFSET ?3))
                ORDER BY id LIMIT ?4)
        """
        return self._database.write("prune the inbox", sql, rows, oldest_ms, least, PRUNE_BATCH).rowcount

"""The records of the pile (docs/protocol.md, 104): four types, each numbered by itself without a gap.

How many there are and which came last stands in a table of its own, so that asking costs the same whether there is one
record or a million. Records are removed from their old end only, so what is left of a type is without a gap too (but
where a damaged file lost some).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from agent.journal.database import Database

DAY_MS = 24 * 3600 * 1000
PRUNE_BATCH = 1000  # records of one type in one prune(): its commit holds up the loop
LEAST = 1000  # so many of the newest stay whatever their age: one written while the clock said 1970 looks old

COLUMNS = "type, sequence, at_ms, gun, order_number, body"


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record. ``body``: the wire fields that have no column here (agent/protocol/records.py)."""

    type: int
    sequence: int
    at_ms: int  # epoch
    gun: int  # 0: the pile
    order: str  # empty: it belongs to none
    body: str


@dataclass(frozen=True, slots=True)
class Extent:
    """How many records of a type are stored, and the sequence of the last one ever given."""

    count: int
    last: int


@dataclass(frozen=True, slots=True)
class Retention:
    """How many records of a type are kept, and for how long."""

    rows: int
    days: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records ``find`` gives; ``None`` asks for no matter which."""

    type: int | None = None
    order: str | None = None
    gun: int | None = None
    since_ms: int | None = None


class Records:
    """The records in a journal; ``add`` and ``prune`` belong in a transaction of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, record_type: int, at_ms: int, gun: int, order: str, body: str) -> int:
        """Its sequence: one more than the last one's of that type, whatever was rolled back or pruned meanwhile."""
        count = """
            INSERT INTO record_counts (type, stored, last) VALUES (?, 1, 1)
            ON CONFLICT (type) DO UPDATE SET stored = stored + 1, last = last + 1
        """
        self._database.write("count a record", count, record_type)
        sequence = self.extent(record_type).last
        insert = f"INSERT INTO records ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
        self._database.write("add a record", insert, record_type, sequence, at_ms, gun, order or None, body)
        return sequence

    def extent(self, record_type: int) -> Extent:
        sql = "SELECT stored, last FROM record_counts WHERE type = ?"
        rows = self._database.rows("count the records", sql, record_type)
        return Extent(*rows[0]) if rows else Extent(0, 0)

    def after(self, record_type: int, sequence: int, limit: int) -> list[StoredRecord]:
        """The next records of that type behind ``sequence``."""
        sql = f"SELECT {COLUMNS} FROM records WHERE type = ? AND sequence > ? ORDER BY sequence LIMIT ?"
        return [_record(row) for row in self._database.rows("read the records", sql, record_type, sequence, limit)]

    def postpone(self, record_type: int, after: int, before_ms: int, by_ms: int) -> None:
        """Records behind ``after`` that are filed under a time before ``before_ms`` become so much later."""
        sql = "UPDATE records SET at_ms = at_ms + ? WHERE type = ? AND sequence > ? AND at_ms < ?"
        self._database.write("stamp the records anew", sql, by_ms, record_type, after, before_ms)

    def rewrite(self, record_type: int, sequence: int, at_ms: int, body: str) -> None:
        """Put another time and body in the place of a record's."""
        sql = "UPDATE records SET at_ms = ?, body = ? WHERE type = ? AND sequence = ?"
        self._database.write("rewrite a record", sql, at_ms, body, record_type, sequence)

    def find(self, wanted: Wanted, limit: int) -> Iterator[StoredRecord]:
        """The newest ``limit`` of what is wanted, oldest first, one by one."""
        conditions = {
            "type = ?": wanted.type,
            "order_number = ?": wanted.order,
            "gun = ?": wanted.gun,
            "at_ms >= ?": wanted.since_ms,
        }
        given = {condition: value for condition, value in conditions.items() if value is not None}
        where = f"WHERE {' AND '.join(given)}" if given else ""
        sql = f"""
            SELECT {COLUMNS} FROM (
                SELECT {COLUMNS} FROM records {where} ORDER BY at_ms DESC, type DESC, sequence DESC LIMIT ?)
            ORDER BY at_ms, type, sequence
        """
        yield from map(_record, self._database.each("read the records", sql, *given.values(), limit))

    def prune(self, record_type: int, retention: Retention, now_ms: int) -> int:
        """Forget the oldest records beyond the retention, at most ``PRUNE_BATCH``; how many."""
        sql = "SELECT sequence, at_ms FROM records WHERE type = ? ORDER BY sequence LIMIT ?"
        oldest = self._database.rows("read the oldest records", sql, record_type, PRUNE_BATCH)
        stored = self.extent(record_type).count
        gone = 0
        while gone < len(oldest) and _is_over(retention, stored - gone, oldest[gone][1], now_ms):
            gone += 1
        if gone:
            delete = "DELETE FROM records WHERE type = ? AND sequence <= ?"
            self._database.write("prune the records", delete, record_type, oldest[gone - 1][0])
            count = "UPDATE record_counts SET stored = stored - ? WHERE type = ?"
            self._database.write("count the records", count, gone, record_type)
        return gone


def _is_over(retention: Retention, stored: int, at_ms: int, now_ms: int) -> bool:
    """Whether the oldest of so many has had its time."""
    return stored > retention.rows or (stored > LEAST and at_ms < now_ms - retention.days * DAY_MS)


def _record(row: tuple[int, int, int, int, str | None, str]) -> StoredRecord:
    record_type, sequence, at_ms, gun, order, body = row
    return StoredRecord(record_type, sequence, at_ms, gun, order or "", body)

"""Records and messages that were stamped without knowing the time, put right once it is known (docs/adr/0013-time.md).

Such a stamp counts from the kernel's boot. Only those behind the last mark are this boot's; an older boot's stay as
they are, as nobody can say any more when it was.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

from agent.journal import Journal, OutboxRow, StoredRecord
from agent.protocol.codec import Codec, outcome_text
from agent.protocol.commands import ChargingRecord, Segment
from agent.protocol.records import RecordBody, body_of, read_record
from agent.protocol.results import RecordType
from agent.version import RELEASED_MS
from cext.message import MessageError

KEY = "stamps"
BATCH = 500
TIMES = ("at_ms", "start_ms", "end_ms")
Stamped = TypeVar("Stamped", bound=RecordBody | Segment)


class Stamps:
    """Works inside the caller's transaction."""

    def __init__(self, journal: Journal, codec: Codec) -> None:
        self._journal = journal
        self._codec = codec

    def mark(self) -> None:
        """From here on the time is not known."""
        last = {str(one.value): self._journal.records.extent(one).last for one in RecordType}
        self._journal.put(KEY, {"records": last, "message": self._journal.last_message()})

    def put_right(self, by_ms: int) -> None:
        """What was stamped since then becomes so much later: records, and messages the broker has not taken yet."""
        mark: Any = self._journal.get(KEY)
        if mark is None:  # a damaged journal may have lost it
            return
        for kind in RecordType:
            self._put_records_right(kind, mark["records"][str(kind.value)], by_ms)
        for message in self._messages(mark["message"]):
            with contextlib.suppress(MessageError):
                self._journal.rewrite(message.id, later_line(self._codec, message.payload, by_ms))

    def _put_records_right(self, kind: RecordType, after: int, by_ms: int) -> None:
        if kind is RecordType.CHARGING:
            for one in self._bills(after):
                self._put_bill_right(one, by_ms)
        else:
            self._journal.records.postpone(kind, after, RELEASED_MS, by_ms)

    def _put_bill_right(self, one: StoredRecord, by_ms: int) -> None:
        with contextlib.suppress(MessageError):  # in the form of a newer release: it stays as it is
            bill = read_record(self._codec, RecordType.CHARGING, one.sequence, one.order, one.gun, one.at_ms, one.body)
            bill = later(bill, by_ms)
            self._journal.records.rewrite(one.type, one.sequence, one.at_ms + by_ms, body_of(bill))

    def _bills(self, after: int) -> Iterator[StoredRecord]:
        while rows := self._journal.records.after(RecordType.CHARGING, after, BATCH):
            yield from (row for row in rows if row.at_ms < RELEASED_MS)
            after = rows[-1].sequence

    def _messages(self, after: int) -> Iterator[OutboxRow]:
        while rows := self._journal.pending(after, BATCH):
            yield from rows
            after = rows[-1].id


def later_line(codec: Codec, line: bytes, by_ms: int) -> bytes:
    """A message of ours, its own stamp and those of the record in it moved where they are not known."""
    reply = codec.decode_reply(line)
    if reply.timestamp >= RELEASED_MS:
        return line
    stamp_ms = reply.timestamp + by_ms
    if isinstance(reply.body, RecordBody):
        outcome = outcome_text(reply.command, reply.result, later(reply.body, by_ms), reply.pile)
        return codec.encode_reply(
            reply.ip, reply.version, reply.command, stamp_ms, reply.pile, reply.request_timestamp, outcome
        )
    ip, version, command, _, rest = line.split(b",", 4)
    return b",".join((ip, version, command, str(stamp_ms).encode(), rest))


def later(record: Stamped, by_ms: int) -> Stamped:
    """The record, its stamps moved where they are not known."""
    stamps = {name: getattr(record, name) for name in TIMES if name in record._fields}
    moved: dict[str, Any] = {name: stamp + by_ms for name, stamp in stamps.items() if stamp < RELEASED_MS}
    if isinstance(record, ChargingRecord):
        moved["segments"] = tuple(later(row, by_ms) for row in record.segments)
    anew: Any = record._replace(**moved)
    return anew  # type: ignore[no-any-return]

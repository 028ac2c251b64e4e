"""Records (104) between the journal and the wire.

What a record is filed under (sequence, time, gun, order) the journal has in columns; ``body`` is the rest of its wire
fields, as text. Where those columns stand on the wire the record's class says (agent/protocol/commands.py).
"""

from functools import cache

from agent.protocol.codec import Codec, outcome_text
from agent.protocol.commands import (
    RECORDS,
    AlarmRecord,
    ChargingRecord,
    EventRecord,
    ProcessRecord,
    RecordsSummary,
)
from agent.protocol.fields import fields_of
from agent.protocol.results import RecordType, Result

RecordBody = ChargingRecord | ProcessRecord | EventRecord | AlarmRecord

_NUMBERS = ("type", "number", "total")  # its place in the answer, at the front of every record
_COLUMNS = ("sequence", "order", "gun", "at_ms")


def body_of(record: RecordBody) -> str:
    """The wire fields that the journal has no columns for. Raises ``MessageError`` for a value the wire can't carry."""
    filed = len(_filed(RecordType(record.type)))
    return outcome_text(104, Result.OK, record, "").split(",", 1 + len(_NUMBERS) + filed)[-1]


def record_outcome(
    record_type: RecordType, number: int, total: int, sequence: int, order: str, gun: int, at_ms: int, body: str
) -> str:
    """Result and body of a record's message: the ``number``\\ th of ``total`` in the answer."""
    columns = {"sequence": sequence, "order": order, "gun": gun, "at_ms": at_ms}
    filed = (columns[name] for name in _filed(record_type))
    return ",".join(map(str, (Result.OK.value, record_type.value, number, total, *filed, body)))


def summary_outcome(result: Result, record_type: RecordType, total: int) -> str:
    """Result and body of the first answer to a 104."""
    return outcome_text(104, result, RecordsSummary(record_type.value, total), "")


@cache
def _filed(record_type: RecordType) -> tuple[str, ...]:
    """The columns as they stand on the wire, behind the numbers and before the body."""
    names = list(fields_of(RECORDS[record_type]))[len(_NUMBERS) :]
    count = next(count for count, name in enumerate(names) if name not in _COLUMNS)
    return tuple(names[:count])


def read_record(
    codec: Codec, record_type: RecordType, sequence: int, order: str, gun: int, at_ms: int, body: str
) -> RecordBody:
    """A kept record as its class. Raises ``MessageError`` when a newer release has written it in another form."""
    outcome = record_outcome(record_type, 1, 1, sequence, order, gun, at_ms, body)
    record: RecordBody = codec.decode_reply(f"-,-,104,0,-,0,{outcome}".encode()).body
    return record

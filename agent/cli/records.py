"""``pile-agent records``: what the journal keeps of charges, events and alarms, with a running agent or without one."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from agent.cli.exits import FAILED, OK
from agent.cli.rows import print_csv, print_json
from agent.cli.times import local
from agent.config import load_config
from agent.journal import JournalError, Records, StoredRecord, Wanted, reading
from agent.protocol.codec import Codec
from agent.protocol.commands import RECORDS, STOP_REASONS, AlarmRecord, ChargingRecord, EventRecord, ProcessRecord
from agent.protocol.fields import fields_of
from agent.protocol.jsonform import values_of
from agent.protocol.records import RecordBody, read_record
from agent.protocol.results import RecordType
from cext.message import MessageError

ALL = -1  # SQLite's word for no limit
FILED = ("type", "sequence", "time", "at_ms", "gun", "order")  # what every record has, whatever its type
NUMBERS = ("number", "total")  # of an answer to 104, which this is not


@dataclass(frozen=True)
class Asked:
    """What the command line asks for; ``form`` is table, json or csv, ``limit`` 0 all."""

    type: str | None
    order: str | None
    gun: int | None
    since: datetime | None
    limit: int
    form: str


class Row:
    """One record, to be shown. ``zone`` is the pile's local time."""

    def __init__(self, stored: StoredRecord, codec: Codec, zone: timezone) -> None:
        self.stored = stored
        self.time = local(stored.at_ms, zone).isoformat(timespec="seconds")
        self.type = RecordType(stored.type).name.lower()
        self._codec = codec

    def values(self) -> dict[str, Any]:
        """Every field by name; of a record that this release can't read only the text that is kept."""
        stored = self.stored
        filed = (self.type, stored.sequence, self.time, stored.at_ms, stored.gun, stored.order)
        known = dict(zip(FILED, filed, strict=True))
        record = self._record()
        body = values_of(record) if record is not None else {"body": stored.body}
        return known | {name: value for name, value in body.items() if name not in known and name not in NUMBERS}

    def words(self) -> str:
        record = self._record()
        return _words(record) if record is not None else self.stored.body

    def _record(self) -> RecordBody | None:
        one = self.stored
        try:
            return read_record(self._codec, RecordType(one.type), one.sequence, one.order, one.gun, one.at_ms, one.body)
        except MessageError:
            return None


def records(path: Path, asked: Asked) -> int:
    """Print what is asked for; the exit code."""
    config = load_config(path)
    zone = timezone(timedelta(seconds=config.utc_offset_s))
    codec = Codec(config.utc_offset_s)
    try:
        with reading(config.journal) as database:
            found = Records(database).find(_wanted(asked, zone), asked.limit or ALL)
            _PRINTERS[asked.form]((Row(record, codec, zone) for record in found), asked)
    except JournalError as error:
        print(error, file=sys.stderr)
        return FAILED
    return OK


def _wanted(asked: Asked, zone: timezone) -> Wanted:
    since_ms = None
    if asked.since is not None:
        since = asked.since if asked.since.tzinfo else asked.since.replace(tzinfo=zone)
        since_ms = round(since.timestamp() * 1000)
    record_type = RecordType[asked.type.upper()].value if asked.type else None
    return Wanted(record_type, asked.order, asked.gun, since_ms)


def _print_table(rows: Iterable[Row], _asked: Asked) -> None:
    for cells in _table(rows):
        time, kind, sequence, gun, order, words = cells
        print(f"{time:<25}  {kind:<8}  {sequence:>8}  {gun:>3}  {order:<20}  {words}".rstrip())


def _table(rows: Iterable[Row]) -> Iterator[tuple[str, ...]]:
    yield "time", "type", "number", "gun", "order", "what"
    for row in rows:
        stored = row.stored
        yield row.time, row.type, str(stored.sequence), str(stored.gun or "-"), stored.order or "-", row.words()


def _print_json(rows: Iterable[Row], _asked: Asked) -> None:
    print_json(row.values() for row in rows)


def _print_csv(rows: Iterable[Row], asked: Asked) -> None:
    """Of one type every field is a column; of several only what they have in common, and the words."""
    if asked.type is None:
        print_csv((row.values() | {"what": row.words()} for row in rows), (*FILED, "what"))
        return
    own = (name for name in fields_of(RECORDS[RecordType[asked.type.upper()]]) if name not in (*FILED, *NUMBERS))
    print_csv((row.values() for row in rows), (*FILED, *own))


_PRINTERS = {"table": _print_table, "json": _print_json, "csv": _print_csv}


def _words(record: RecordBody) -> str:
    """What it says, for people."""
    match record:
        case ChargingRecord():
            reason = STOP_REASONS.get(record.stop_reason, str(record.stop_reason))
            return f"{record.energy_wh / 1000:.3f} kWh, {_yuan(record.total_fen)}, {reason}"
        case ProcessRecord():
            volts, amperes = record.voltage_dv / 10, record.current_da / 10
            return (
                f"{volts:.1f} V, {amperes:.1f} A, {record.power_w} W, {record.soc_pct} %, "
                f"{record.temperature_dc / 10:.1f} °C, {record.energy_wh} Wh, {_yuan(record.total_fen)}"
            )
        case EventRecord():
            return record.text
        case AlarmRecord():
            return f"{'raised' if record.raised else 'cleared'}: {record.text}"


def _yuan(fen: int) -> str:
    return f"{fen // 100}.{fen % 100:02} yuan"

"""``pile-agent bill``: an order's bill, recomputed from its segments with the arithmetic written out."""

import json
import sys
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path

from agent.cli.exits import FAILED, OK
from agent.cli.times import local
from agent.config import Config, load_config
from agent.journal import JournalError, Records, Wanted, reading, stored_value
from agent.pile.durable import GUN_PREFIX
from agent.pile.ledger import Ledger
from agent.pile.money import amount_fen
from agent.pile.parts import from_json
from agent.pile.state import Session
from agent.protocol.codec import Codec
from agent.protocol.commands import STOP_REASONS, ChargingRecord, Segment
from agent.protocol.jsonform import values_of
from agent.protocol.records import read_record
from agent.protocol.results import RecordType


def bill(path: Path, order: str, as_json: bool) -> int:
    """Print the bill of ``order``; the exit code says whether it adds up."""
    config = load_config(path)
    try:
        record = _record_of(config.journal, Codec(config.utc_offset_s), order)
        running = _running(config, order) if record is None else ""
    except JournalError as error:
        print(error, file=sys.stderr)
        return FAILED
    if record is None:
        print(f"order {order}: {running or f'there is no bill in {config.journal}'}", file=sys.stderr)
        return FAILED
    faults = faults_of(record)
    zone = timezone(timedelta(seconds=config.utc_offset_s))
    if as_json:
        print(json.dumps(values_of(record) | {"faults": faults}, ensure_ascii=False))
    else:
        print("\n".join(written_out(record, zone)))
        print("\n".join(faults) if faults else "it adds up")
    return FAILED if faults else OK


def faults_of(record: ChargingRecord) -> list[str]:
    """Every sum or product of the bill that comes out differently when done again."""
    rows = record.segments
    checks = [
        ("energy_wh", record.energy_wh, sum(row.energy_wh for row in rows)),
        ("electricity_fen", record.electricity_fen, sum(row.electricity_fen for row in rows)),
        ("service_fen", record.service_fen, sum(row.service_fen for row in rows)),
        ("total_fen", record.total_fen, record.electricity_fen + record.service_fen),
    ]
    for number, row in enumerate(rows):
        where = f"segments[{number}]"
        checks.append((f"{where}.electricity_fen", row.electricity_fen, amount_fen(row.energy_wh, row.price)))
        checks.append((f"{where}.service_fen", row.service_fen, amount_fen(row.energy_wh, row.service_fee)))
    return [f"{name} = {billed}: expected {again}" for name, billed, again in checks if billed != again]


def written_out(record: ChargingRecord, zone: timezone) -> Iterator[str]:
    """The bill with its arithmetic, a line a part."""
    began, ended = _time(record.start_ms, zone), _time(record.end_ms, zone)
    reason = STOP_REASONS.get(record.stop_reason, str(record.stop_reason))
    yield f"order {record.order}: gun {record.gun}, account {record.account or '-'}, tariff {record.template or '-'}"
    yield f"{began} to {ended}, ended: {reason}"
    yield f"meter {record.meter_start_wh} to {record.meter_end_wh} Wh, billed {record.energy_wh} Wh"
    for row in record.segments:
        yield f"  {_time(row.start_ms, zone)} to {_time(row.end_ms, zone)}  {row.energy_wh} Wh"
        yield from _products(row)
    total = f"{record.electricity_fen} + {record.service_fen} = {record.total_fen} fen"
    yield f"total {total}, {record.free_used_fen} of it free"


def _products(row: Segment) -> Iterator[str]:
    """Wh x 1e-5 yuan per kWh is 1e-6 fen; each product is rounded half up to fen, once."""
    for name, price, fen in (
        ("electricity", row.price, row.electricity_fen),
        ("service", row.service_fee, row.service_fen),
    ):
        exact = row.energy_wh * price
        yield f"    {name:<11} {row.energy_wh} x {price} / 1000000 = {exact / 1e6:.6f}, rounded {fen} fen"


def _record_of(journal: Path, codec: Codec, order: str) -> ChargingRecord | None:
    wanted = Wanted(RecordType.CHARGING.value, order, None, None)
    with reading(journal) as database:
        for one in Records(database).find(wanted, 1):
            record = read_record(codec, RecordType.CHARGING, one.sequence, one.order, one.gun, one.at_ms, one.body)
            return record if isinstance(record, ChargingRecord) else None
    return None


def _running(config: Config, order: str) -> str:
    """What a charge that has no bill yet has come to, in words; empty where no gun has the order."""
    with reading(config.journal) as database:
        for gun in range(1, config.pile.guns + 1):
            session: Session | None = from_json(Session, stored_value(database, f"{GUN_PREFIX}{gun}"))
            if session is not None and session.order == order:
                return f"no bill yet, gun {gun} is {session.phase.value}{_so_far(session.ledger)}"
    return ""


def _so_far(ledger: Ledger | None) -> str:
    return f"; at the last checkpoint {ledger.energy_wh} Wh, {ledger.total_fen} fen" if ledger is not None else ""


def _time(at_ms: int, zone: timezone) -> str:
    return local(at_ms, zone).isoformat(sep=" ", timespec="seconds")

"""``pile-agent updates``: the upgrades (113, 114) that are over, and the one under way, read from the journal."""

import sys
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

from agent.cli.exits import FAILED, OK
from agent.cli.rows import print_csv, print_json
from agent.cli.times import local
from agent.config import Config, load_config
from agent.journal import JournalError, reading, stored_value
from agent.pile.firmware import PastUpgrade, Upgrade
from agent.pile.parts import from_json

COLUMNS = (
    "record_id", "kind", "version", "state", "ordered", "ended", "ordered_ms", "ended_ms", "result", "text",
)  # fmt: skip


def updates(path: Path, form: str) -> int:
    """Print them, oldest first, as table, json or csv; the exit code."""
    config = load_config(path)
    zone = timezone(timedelta(seconds=config.utc_offset_s))
    try:
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in _rows(config, zone)]
    except JournalError as error:
        print(error, file=sys.stderr)
        return FAILED
    if form == "json":
        print_json(rows)
    elif form == "csv":
        print_csv(rows, COLUMNS)
    else:
        print("\n".join(map(_words, rows)) or "there was no upgrade")
    return OK


def _rows(config: Config, zone: timezone) -> Iterator[tuple[Any, ...]]:
    with reading(config.journal) as database:
        past = from_json(tuple[PastUpgrade, ...], stored_value(database, "past_upgrades") or [])
        current = from_json(Upgrade, stored_value(database, "upgrade"))
    for one in past:
        times = _time(one.ordered_ms, zone), _time(one.ended_ms, zone), one.ordered_ms, one.ended_ms
        yield one.record_id, one.kind, one.version, one.result.name, *times, one.result.value, one.text
    if current is not None and not current.is_over:
        kind = current.image.kind.value if current.image is not None else ""
        times = _time(current.ordered_ms, zone), "", current.ordered_ms, ""
        yield current.ticket.record_id, kind, current.version, current.stage.value, *times, "", ""


def _words(row: dict[str, Any]) -> str:
    when = row["ordered"].replace("T", " ")
    what = f"{row['kind'] or 'firmware'} {row['version']}"
    return f"{when}  record {row['record_id']}: {what}: {row['state']}{f': {text}' if (text := row['text']) else ''}"


def _time(at_ms: int, zone: timezone) -> str:
    return local(at_ms, zone).isoformat(timespec="seconds")

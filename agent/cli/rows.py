"""Rows of named values as JSON or CSV, for every subcommand that has ``--json`` and ``--csv``."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def print_json(rows: Iterable[Row]) -> None:
    """An object a line."""
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))


def print_csv(rows: Iterable[Row], names: Sequence[str]) -> None:
    """A header, then of each row the values called ``names``: one it has not is empty, a list stands as JSON."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(_cell(row.get(name, "")) for name in names)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value

"""The journal's values by key, as a reader beside the agent sees them too."""

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from agent.journal.database import Database
from agent.journal.errors import JournalError

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"


def stored_value(database: Database, key: str) -> JsonValue:
    """The value under ``key``; ``None`` if there is none."""
    rows = database.rows(f"read {key}", "SELECT value FROM state WHERE key = ?", key)
    return decoded(database, key, rows[0][0]) if rows else None


def decoded(database: Database, key: str, text: str) -> JsonValue:
    """What was stored as ``text``. Raises ``JournalError`` for what is no JSON."""
    try:
        value: JsonValue = json.loads(text)
    except ValueError as error:
        raise JournalError(database.path, f"read {key}", f"its value is no JSON: {error}") from error
    return value

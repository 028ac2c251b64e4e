"""What the agent must not forget: commands (so that each acts once), replies not yet delivered, settings, records.

One SQLite file, one connection, one thread; tools read beside it. docs/adr/0004-journal.md says why.
"""

from agent.journal.errors import JournalBusy, JournalError, JournalTooNew
from agent.journal.journal import FirstOutcome, Journal, OutboxRow, Pruned
from agent.journal.reader import reading
from agent.journal.records import Extent, Records, Retention, StoredRecord, Wanted
from agent.journal.values import JsonValue, stored_value

__all__ = [
    "Extent",
    "FirstOutcome",
    "Journal",
    "JournalBusy",
    "JournalError",
    "JournalTooNew",
    "JsonValue",
    "OutboxRow",
    "Pruned",
    "Records",
    "Retention",
    "StoredRecord",
    "Wanted",
    "reading",
    "stored_value",
]

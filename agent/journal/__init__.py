"""What the agent must not forget: commands (so that each acts once), replies not yet delivered, settings, events.

One SQLite file, one connection, one thread. docs/adr/0004-journal.md says why.
"""

from agent.journal.errors import JournalBusy, JournalError, JournalTooNew
from agent.journal.journal import Event, FirstOutcome, Journal, JsonValue, OutboxRow, Pruned

__all__ = [
    "Event",
    "FirstOutcome",
    "Journal",
    "JournalBusy",
    "JournalError",
    "JournalTooNew",
    "JsonValue",
    "OutboxRow",
    "Pruned",
]

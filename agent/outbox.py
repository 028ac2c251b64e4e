"""From the journal's outbox to the link: in order, a window at a time, removed once the broker has them."""

import contextlib
from collections.abc import Callable

from agent.journal import Journal, JournalError, OutboxRow
from agent.uplink import Uplink

DELIVERED_BATCH = 20  # as many deliveries are recorded in one commit: each costs flash


class Outbox:
    """Feeds the link from the journal. ``on_empty`` is called whenever the last message has been delivered."""

    def __init__(self, journal: Journal, link: Uplink, on_empty: Callable[[], None]) -> None:
        self._journal = journal
        self._link = link
        self._on_empty = on_empty
        self._window = -1
        self._sent_up_to = 0
        self._delivered: set[int] = set()  # not yet removed from the journal; a crash would repeat them
        self._waiting = journal.outbox_size()

    @property
    def waiting(self) -> int:
        """How many messages the broker has not taken yet."""
        return self._waiting

    def enqueue(self, topic: str, payload: bytes, now_ms: int) -> None:
        """Put a message behind the others, inside the caller's transaction; ``enqueued`` follows its commit."""
        self._journal.enqueue(topic, payload, now_ms)

    def enqueued(self, count: int) -> None:
        """``count`` messages were committed."""
        self._waiting += count
        self.pump()

    def pump(self) -> None:
        """Publish what the link has room for; what can't be read now is for the next time."""
        window = self._link.state.window
        if window != self._window:  # what was in flight is ours again
            self._window, self._sent_up_to = window, 0
        is_more = self._waiting > 0
        while is_more and (room := self._link.room) > 0:
            most = room + len(self._delivered)
            rows = self._next_rows(most)
            for row in rows:
                if row.id not in self._delivered and not self._link.publish(row.id, row.topic, row.payload):
                    return
                self._sent_up_to = row.id
            is_more = len(rows) == most

    def _next_rows(self, most: int) -> list[OutboxRow]:
        with contextlib.suppress(JournalError):
            return self._journal.pending(self._sent_up_to, most)
        return []

    def delivered(self, row_id: int) -> None:
        """The broker has taken a message."""
        if row_id in self._delivered:
            return
        self._delivered.add(row_id)
        self._waiting -= 1
        if len(self._delivered) >= DELIVERED_BATCH:
            with contextlib.suppress(JournalError):  # the next delivery tries again; a crash until then repeats them
                self.flush()
        self.pump()
        if self._waiting == 0:
            self._on_empty()

    def flush(self) -> None:
        """Remove from the journal what was delivered."""
        if self._delivered:
            with self._journal.transaction():
                self._journal.delivered(self._delivered)
            self._delivered = set()

"""Sends the records a 104 asked for: from the journal, a few at a time, at a bounded rate, behind everything else.

Which replay runs, and how far it is, is the core's state; each delivery is reported to it. A record goes out only while
the outbox is empty, so bills and replies come first. After a lost link or a restart the replay goes on behind the last
record that the broker has taken.
"""

import logging
import math
from collections import deque

from agent.desk import Desk
from agent.journal import Journal, JournalError, StoredRecord
from agent.outbox import Outbox
from agent.pile.events import Replayed
from agent.pile.state import Replay, Request
from agent.protocol.records import record_outcome
from agent.uplink import Uplink

log = logging.getLogger(__name__)

BATCH = 50  # records read ahead: all that is in memory, beside those in flight
RETRY_S = 1.0  # when the journal could not be read or written


class Replayer:
    """Feeds the link; ``now`` is monotonic seconds. Its row ids are negative, the outbox has the others."""

    def __init__(self, desk: Desk, journal: Journal, link: Uplink, outbox: Outbox, per_s: int) -> None:
        self._desk = desk
        self._journal = journal
        self._link = link
        self._outbox = outbox
        self._pause_s = 1 / per_s
        self._next_at = 0.0
        self._request: Request | None = None  # the one served
        self._window = -1  # the link's, in which it is served
        self._ahead: deque[StoredRecord] = deque()
        self._read_up_to = 0  # sequence
        self._is_all_read = False
        self._sent = 0
        self._taken = 0
        self._reached = 0  # sequence of the last one taken, with all before it
        self._in_flight: dict[int, int] = {}  # row id to sequence, in the order sent
        self._acknowledged: set[int] = set()  # of those, while one before them is not
        self._last_row_id = 0

    def next_deadline(self) -> float:
        """When ``pump`` has something to do; infinite while it waits for the link, the outbox or an acknowledgement."""
        replay = self._replay()
        is_waiting = replay is None or self._link.room == 0 or self._outbox.waiting > 0
        return math.inf if is_waiting or (self._is_all_read and not self._ahead) else self._next_at

    def pump(self, now: float) -> None:
        """Send the next record if it is due and there is room."""
        replay = self._replay()
        if replay is None:
            return
        window = self._link.state.window
        if replay.request != self._request or window != self._window:
            self._begin(replay, window)
        if now < self._next_at or self._outbox.waiting > 0 or self._link.room == 0:
            return
        try:
            self._send_next(replay, now)
        except JournalError as error:
            log.debug("the replay waits: %s", error)  # the desk says what is wrong with the journal
            self._next_at = now + RETRY_S

    def delivered(self, row_id: int) -> None:
        """The broker has taken a record; one of a replay that was given up is no concern."""
        replay = self._replay()
        if replay is None or replay.request != self._request or row_id not in self._in_flight:
            return
        self._acknowledged.add(row_id)
        while self._in_flight and (first := next(iter(self._in_flight))) in self._acknowledged:
            self._acknowledged.remove(first)
            self._reached = self._in_flight.pop(first)
            self._taken += 1
        self._report(replay)

    # ---- one replay ----

    def _replay(self) -> Replay | None:
        replay = self._desk.state.replay
        return replay if replay is not None and not replay.is_over else None

    def _begin(self, replay: Replay, window: int) -> None:
        """From behind the last record taken."""
        self._request, self._window = replay.request, window
        self._sent = self._taken = replay.delivered
        self._reached = self._read_up_to = replay.reached
        self._is_all_read = False
        for what in (self._ahead, self._in_flight, self._acknowledged):
            what.clear()

    def _send_next(self, replay: Replay, now: float) -> None:
        if not self._ahead and not self._is_all_read:
            self._read(replay)
        if self._ahead:
            self._send(replay, self._ahead[0], now)
        elif not self._in_flight:
            self._end(replay, now)

    def _read(self, replay: Replay) -> None:
        """The next records of those that were there when the 104 came."""
        records = self._journal.records.after(replay.type, self._read_up_to, BATCH)
        self._ahead.extend(record for record in records if record.sequence <= replay.last)
        self._is_all_read = len(self._ahead) < BATCH
        if self._ahead:
            self._read_up_to = self._ahead[-1].sequence

    def _send(self, replay: Replay, record: StoredRecord, now: float) -> None:
        outcome = record_outcome(
            replay.type,
            self._sent + 1,
            replay.total,
            record.sequence,
            record.order,
            record.gun,
            record.at_ms,
            record.body,
        )
        self._last_row_id -= 1
        topic, line = self._desk.line(replay.request.command, replay.request.timestamp, outcome)
        self._in_flight[self._last_row_id] = record.sequence  # before: a broker may answer at once
        if not self._link.publish(self._last_row_id, topic, line):
            del self._in_flight[self._last_row_id]
            return
        self._ahead.popleft()
        self._sent += 1
        self._next_at = now + self._pause_s

    def _end(self, replay: Replay, now: float) -> None:
        """All that is left has been taken. Retention may have removed the last ones while they waited, and what the
        core could not write down of the end is told again."""
        self._reached = replay.last
        self._report(replay)
        self._next_at = now + RETRY_S

    def _report(self, replay: Replay) -> None:
        self._desk.happened(Replayed(replay.request, self._taken, self._reached))

"""A desk with a real journal, outbox and replay, between a link and a bus of the test's; time is an argument."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.config import load_config
from agent.desk import Desk
from agent.journal import Journal
from agent.outbox import Outbox
from agent.pile.actions import Record
from agent.pile.durable import durable_keys, restore
from agent.pile.events import Delivered, Ticked
from agent.pile.state import Now
from agent.protocol.codec import Codec, Reply
from agent.protocol.events import EventCode
from agent.protocol.results import RecordType
from agent.replay import Replayer

PILE = "0000012345"
NOW_MS = 1_795_305_600_000
CODEC = Codec()

CONFIG = """
[pile]
number = "0000012345"
data_dir = "{folder}"
socket = "{folder}/control.sock"
[broker]
host = "127.0.0.1"
[[line]]
port = "{folder}/tty"
[[line.device]]
guns = [1, 2]
"""


@dataclass
class FakeLink:
    """Takes up to ``size`` messages in flight; the broker has them once ``take`` says so, in any order."""

    on_delivered: Callable[[int], None] = lambda _row_id: None
    size: int = 20
    windows: int = 0
    sent: list[bytes] = field(default_factory=list)  # everything ever published
    in_flight: dict[int, bytes] = field(default_factory=dict)

    @property
    def state(self) -> SimpleNamespace:
        return SimpleNamespace(window=self.windows)

    @property
    def room(self) -> int:
        return max(self.size - len(self.in_flight), 0)

    def publish(self, row_id: int, topic: str, payload: bytes) -> bool:
        assert row_id not in self.in_flight, "a row was sent twice in one window"
        if not self.room:
            return False
        self.sent.append(payload)
        self.in_flight[row_id] = payload
        return True

    def report(self, topic: str, payload: bytes) -> bool:
        return True

    def take(self, row_ids: Iterable[int] | None = None) -> None:
        """The broker acknowledges these, or all that is in flight."""
        for row_id in list(self.in_flight if row_ids is None else row_ids):
            del self.in_flight[row_id]
            self.on_delivered(row_id)

    def lose(self, size: int = 20) -> None:
        """The connection is lost and found again: what was in flight is the caller's."""
        self.in_flight.clear()
        self.windows += 1
        self.size = size


class Office:
    """The rooms of an agent around its desk, as the loop puts them together. ``at`` is monotonic seconds."""

    def __init__(self, folder: Path, per_s: int = 20) -> None:
        config_file = folder / "pile.toml"
        config_file.write_text(CONFIG.format(folder=folder), encoding="utf-8")
        self.config = load_config(config_file)
        self.path = folder / "journal.db"
        self.per_s = per_s
        self.at = 1000.0
        self.start()

    def start(self) -> None:
        self.journal = Journal.open(self.path, NOW_MS)
        parts = {key: self.journal.get(key) for key in durable_keys()}
        self.link = cast(Any, FakeLink(self._delivered))
        self.desk = Desk(self.config, restore(self.config.pile, parts, Now(NOW_MS, 0)), self.journal, Bus())  # type: ignore[arg-type]
        self.outbox = Outbox(self.journal, self.link, partial(self.desk.happened, Delivered()))
        self.desk.connect(self.link, self.outbox)
        self.replayer = Replayer(self.desk, self.journal, self.link, self.outbox, self.per_s)

    def close(self) -> None:
        self.journal.close()

    def kill(self) -> None:
        """Everything in memory is gone; the next agent starts from the file."""
        self.journal.close()
        self.start()

    # ---- doing

    def keep(self, *records: Record) -> None:
        """The core wants these kept, in one turn."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("agent.desk.handle", lambda _config, state, _event, _now: (state, records))
            self.desk.happened(Ticked())

    def keep_events(self, count: int) -> None:
        for number in range(count):
            self.keep(event(f"number {number}"))

    def command(self, number: int, data: str = "", timestamp: int = NOW_MS) -> bool:
        line = f"10.0.0.1,API:2.0.2,{number},{timestamp},{PILE}" + (f",{data}" if data else "")
        return self.desk.message_came(line.encode())

    def deliver(self) -> None:
        """The broker takes all that waits in the outbox; nothing of it is of interest."""
        while self.outbox.waiting:
            self.outbox.pump()
            self.link.take()
        self.link.sent.clear()

    def turn(self, seconds: float = 0.0) -> None:
        """One turn of the loop, so many seconds later."""
        self.at += seconds
        self.outbox.pump()
        self.replayer.pump(self.at)

    def run(self, seconds: float, step_s: float = 0.01) -> None:
        """Turn for so long; the broker takes at once what it gets."""
        for _ in range(round(seconds / step_s)):
            self.turn(step_s)
            self.link.take()

    def _delivered(self, row_id: int) -> None:
        (self.outbox if row_id > 0 else self.replayer).delivered(row_id)

    # ---- looking

    def sent(self) -> list[Reply]:
        """Every message published since the last look."""
        lines, self.link.sent[:] = [*self.link.sent], []
        return [CODEC.decode_reply(line) for line in lines]


class Bus:
    def do(self, order: object) -> None:
        raise AssertionError(f"no job was expected: {order}")


def event(text: str, order: str = "", at_ms: int = NOW_MS) -> Record:
    return Record(RecordType.EVENT, at_ms, 0, order, f"{EventCode.AGENT_STARTED.value},{text}")


def alarm(text: str, at_ms: int = NOW_MS) -> Record:
    return Record(RecordType.ALARM, at_ms, 1, "", f"103,1,{text}")

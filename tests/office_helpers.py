"""A desk with a real journal, outbox and replay, a real bus whose threads are not started, and a link of the test's.
Time is an argument."""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from core_helpers import CAP_FEN, CODEC, METER_WH, MONO_MS, PILE, WALL_MS
from core_helpers import CONFIG as PILE_CONFIG

from agent.bridge import Bridge
from agent.config import Config, load_config
from agent.desk import Desk
from agent.journal import Journal, OutboxRow
from agent.outbox import Outbox
from agent.pile.actions import Record, StartGun
from agent.pile.board import BoardState, GunReading
from agent.pile.durable import restore
from agent.pile.events import Delivered, Event, JobDone, Measured, Ticked
from agent.pile.state import Now, PileConfig
from agent.power.bus import Bus, Order
from agent.protocol.codec import Reply
from agent.protocol.events import EventCode
from agent.protocol.results import RecordType, Result
from agent.replay import Replayer

TOPIC = f"klc/reply/qik/{PILE}"
CONFIG = """
[pile]
number = "0000012345"
ip = "10.9.8.7"
data_dir = "{folder}"
socket = "{folder}/control.sock"
[broker]
host = "broker.example"
[[line]]
port = "/dev/there-is-no-such-port"
[[line.device]]
guns = [1, 2]
"""
NO_BRIDGE = Bridge(None, None, None, None, None)  # type: ignore[arg-type]


def config(folder: Path, **changes: Any) -> Config:
    file = folder / "pile.toml"
    file.write_text(CONFIG.format(folder=folder), encoding="utf-8")
    return replace(load_config(file), **{"pile": PILE_CONFIG} | changes)


class Clock:
    """The desk's clock."""

    now = Now(WALL_MS, MONO_MS)


class DeskClock:
    """In the place of ``agent.clock.Clock``: it shows what a test says, whatever it hears."""

    def now(self) -> Now:
        return Clock.now

    def heard(self, sent_ms: int) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(Clock, "now", Now(WALL_MS, MONO_MS))
    return Clock


class RecordingBus(Bus):
    """A whole bus but for its threads: what it is told stays in its queues, and is written down here."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.lines, lambda _event: None, lambda _error: None, DeskClock())  # type: ignore[arg-type]
        self.orders: list[Order] = []

    def do(self, order: Order) -> None:
        self.orders.append(order)
        super().do(order)


@dataclass
class FakeLink:
    """In the link's place, which has its own tests against real brokers: takes up to ``size`` messages in flight, and
    the broker has them once ``take`` says so, in any order."""

    on_delivered: Callable[[int], None] = lambda _row_id: None
    size: int = 20
    windows: int = 0
    sent: list[bytes] = field(default_factory=list)  # everything ever published
    in_flight: dict[int, bytes] = field(default_factory=dict)
    reports: list[bytes] = field(default_factory=list)

    @property
    def state(self) -> SimpleNamespace:
        return SimpleNamespace(window=self.windows, connected=True)

    @property
    def room(self) -> int:
        return max(self.size - len(self.in_flight), 0)

    def publish(self, row_id: int, topic: str, payload: bytes) -> bool:
        assert topic == TOPIC
        assert row_id not in self.in_flight, "a row was sent twice in one window"
        if not self.room:
            return False
        self.sent.append(payload)
        self.in_flight[row_id] = payload
        return True

    def report(self, topic: str, payload: bytes) -> bool:
        self.reports.append(payload)
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
    """The rooms of an agent around its desk, as the loop puts them together. ``at`` is the replay's monotonic time in
    seconds. ``close`` and a new office on the same folder are a restart; so is ``kill``."""

    def __init__(self, folder: Path, per_s: int = 20, bridge: Bridge = NO_BRIDGE, **changes: Any) -> None:
        self.config = config(folder, **changes)
        self.bridge = bridge
        self.per_s = per_s
        self.at = 1000.0
        self.times_empty = 0
        self.open()

    def open(self) -> None:
        self.journal = Journal.open(self.config.journal, WALL_MS)
        self.is_closed = False
        self.bus = RecordingBus(self.config)
        self.link = cast(Any, FakeLink(self._delivered))
        state = restore(self.pile, dict(self.journal.items("")), Clock.now)
        self.desk = Desk(self.config, state, self.journal, self.bus, self.bridge, DeskClock())  # type: ignore[arg-type]
        self.outbox = Outbox(self.journal, self.link, self._emptied)
        self.desk.connect(self.link, self.outbox)
        self.replayer = Replayer(self.desk, self.journal, self.link, self.outbox, self.per_s)

    def close(self) -> None:
        if not self.is_closed:
            self.journal.close()
        self.is_closed = True

    def kill(self) -> None:
        """Everything in memory is gone; the next agent starts from the file."""
        self.close()
        self.open()

    @property
    def pile(self) -> PileConfig:
        return self.config.pile

    def _emptied(self) -> None:
        self.times_empty += 1
        self.desk.happened(Delivered())

    def _delivered(self, row_id: int) -> None:
        (self.outbox if row_id > 0 else self.replayer).delivered(row_id)

    # ---- what comes

    def command(self, number: int, data: str = "", timestamp: int = WALL_MS, header: str = "1.2.3.4,API:2.0.2") -> bool:
        """Whether the message may be acknowledged."""
        line = f"{header},{number},{timestamp},{PILE}" + (f",{data}" if data else "")
        return self.desk.message_came(line.encode())

    def start(self, order: str = "A1", gun: int = 1, timestamp: int = WALL_MS) -> bool:
        return self.command(101, f"1,{PILE},{gun},ACC,{CAP_FEN},0,0,{order}", timestamp)

    def stop(self, order: str = "A1", gun: int = 1) -> bool:
        return self.command(101, f"2,{PILE},{gun},ACC,0,0,0,{order}")

    def measured(self, state: str = "plugged", order: str = "", used_wh: int = 0) -> None:
        energy_wh = METER_WH + used_wh
        at_ms = Clock.now.mono_ms
        self.happened(Measured(GunReading(1, at_ms, BoardState(state), True, order=order, energy_wh=energy_wh)))

    def happened(self, event: Event) -> None:
        self.desk.happened(event)

    def charge(self, order: str = "A1") -> None:
        self.measured("plugged")
        assert self.start(order)
        self.happened(JobDone(StartGun(1, order, 10_008, 320), Result.OK))
        self.measured("charging", order)

    def keep(self, *records: Record) -> None:
        """The core wants these kept, in one turn."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("agent.desk.handle", lambda _config, state, _event, _now: (state, records))
            self.desk.happened(Ticked())

    def keep_events(self, count: int) -> None:
        for number in range(count):
            self.keep(event(f"number {number}"))

    # ---- time, and a broker that takes what it gets

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

    # ---- what is there

    def sent(self) -> list[Reply]:
        """Every message published since the last look."""
        lines, self.link.sent[:] = [*self.link.sent], []
        return [CODEC.decode_reply(line) for line in lines]

    @property
    def rows(self) -> list[OutboxRow]:
        return self.journal.pending(0, 1000)

    @property
    def replies(self) -> list[str]:
        """Command, request timestamp, result and body of every message in the outbox, but for the records."""
        lines = [told(row.payload.decode()) for row in self.rows]
        return [line for line in lines if not line.startswith("104,0,")]

    @property
    def sqlite(self) -> sqlite3.Connection:
        """The journal's own connection, to spoil it."""
        return self.journal._database.connection

    def forbid_writing(self) -> None:
        """From now on every write of the journal fails; reading does not."""
        self.sqlite.execute("PRAGMA query_only = ON")

    def allow_writing(self) -> None:
        self.sqlite.execute("PRAGMA query_only = OFF")


def told(line: str) -> str:
    """A line of ours without what every one has: ip, version, our time and the pile."""
    fields = line.split(",")
    return ",".join([fields[2], *fields[5:]])


def event(text: str, order: str = "", at_ms: int = WALL_MS) -> Record:
    return Record(RecordType.EVENT, at_ms, 0, order, f"{EventCode.AGENT_STARTED.value},{text}")


def alarm(text: str, at_ms: int = WALL_MS) -> Record:
    return Record(RecordType.ALARM, at_ms, 1, "", f"103,1,{text}")

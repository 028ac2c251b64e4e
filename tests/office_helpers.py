"""A desk with a real journal, a real bus whose threads are not started, and a broker that takes what it is told to."""

import sqlite3
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from core_helpers import CAP_FEN, CONFIG, METER_WH, MONO_MS, PILE, WALL_MS

from agent.config import Config, load_config
from agent.desk import Desk
from agent.journal import Journal, OutboxRow
from agent.outbox import Outbox
from agent.pile.actions import StartGun
from agent.pile.board import BoardState, GunReading
from agent.pile.durable import restore
from agent.pile.events import Delivered, Event, JobDone, Measured
from agent.pile.state import Now, PileConfig
from agent.power.bus import Bus, Order
from agent.protocol.results import Result

TOPIC = f"klc/reply/qik/{PILE}"
TOML = """
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


def config(folder: Path, **changes: Any) -> Config:
    file = folder / "pile.toml"
    file.write_text(TOML.format(folder=folder), encoding="utf-8")
    return replace(load_config(file), **{"pile": CONFIG} | changes)


class RecordingBus(Bus):
    """A whole bus but for its threads: what it is told stays in its queues, and is written down here."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.lines, lambda _event: None, lambda _error: None)
        self.orders: list[Order] = []

    def do(self, order: Order) -> None:
        self.orders.append(order)
        super().do(order)


@dataclass
class BrokerState:
    window: int = 1
    connected: bool = True


@dataclass
class Broker:
    """In the link's place. The link has its own tests against real brokers; here windows must open, fill and be lost at
    a moment of the test's choosing."""

    room: int = 0
    state: BrokerState = field(default_factory=BrokerState)
    in_flight: list[tuple[int, str]] = field(default_factory=list)  # row and line
    reports: list[str] = field(default_factory=list)

    def publish(self, row_id: int, topic: str, payload: bytes) -> bool:
        assert topic == TOPIC
        if self.room == 0:
            return False
        self.room -= 1
        self.in_flight.append((row_id, payload.decode()))
        return True

    def report(self, topic: str, payload: bytes) -> bool:
        self.reports.append(payload.decode())
        return True

    def reconnect(self, room: int) -> None:
        """A new window: what was in flight is the caller's again."""
        self.state = BrokerState(self.state.window + 1)
        self.in_flight.clear()
        self.room = room


class Office:
    """A desk and what stands around it. ``close`` and a new office on the same folder are a restart."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.config = config(folder, **changes)
        self.journal = Journal.open(folder / "journal.db", WALL_MS)
        self.bus = RecordingBus(self.config)
        self.broker = Broker()
        parts = dict(self.journal.items(""))
        self.desk = Desk(self.config, restore(self.pile, parts, Clock.now), self.journal, self.bus)
        self.outbox = Outbox(self.journal, self.broker, self.emptied)  # type: ignore[arg-type]
        self.desk.connect(self.broker, self.outbox)  # type: ignore[arg-type]
        self.times_empty = 0
        self.is_closed = False

    @property
    def pile(self) -> PileConfig:
        return self.config.pile

    def emptied(self) -> None:
        self.times_empty += 1
        self.desk.happened(Delivered())

    def close(self) -> None:
        if not self.is_closed:
            self.journal.close()
        self.is_closed = True

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

    # ---- what is there

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


class Clock:
    """The desk's clock."""

    now = Now(WALL_MS, MONO_MS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(Clock, "now", Now(WALL_MS, MONO_MS))
    monkeypatch.setattr("agent.desk.now", lambda: Clock.now)
    return Clock

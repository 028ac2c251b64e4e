"""A pile for the core's tests: it holds configuration, state and both clocks, takes events and hands back what the core
wants done. Nothing waits: time passes when a test says so."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from agent.pile.actions import Action, Job, RebootBoards, RebootGun, Record, Reply, Report, StartGun, StopGun
from agent.pile.board import BoardState, GunReading, order_context
from agent.pile.core import handle
from agent.pile.durable import changed_parts, restore
from agent.pile.events import Commanded, Event, JobDone, Measured, Resumed, Silenced, Ticked
from agent.pile.firmware import NO_BOOT, Boot
from agent.pile.money import Price
from agent.pile.state import Gun, Now, PileConfig, PileState, Request, Session, new_state
from agent.pile.status import status_of
from agent.protocol.codec import Codec
from agent.protocol.commands import ChargingRecord
from agent.protocol.events import AlarmCode, EventCode
from agent.protocol.records import record_outcome
from agent.protocol.results import RecordType, Result
from agent.states_page import edges

PILE = "0000012345"
WALL_MS = 1_795_305_600_000
MONO_MS = 5_000_000
CODEC = Codec()
CHANGES = {(before, to) for before, to, _ in edges()}

# 1 yuan per kWh in all, 0.1 fen per Wh: 1000 fen buy 10,008 Wh, for 600.48 and 400.32 fen are rounded down.
PRICE = Price(60_000, 40_000)
CAP_FEN, CAP_WH = 1000, 10_008
METER_WH = 500_000
# Any step of the meter is believed here; test_meter.py says which are not.
CONFIG = PileConfig(pile=PILE, guns=2, price=PRICE, current_limit_da=320, max_power_w=10**15, version="0.1.0")


@dataclass
class Done:
    """What one event made the core want, told apart."""

    actions: tuple[Action, ...]

    @property
    def replies(self) -> list[str]:
        """Result and body of each reply, as on the wire."""
        return [action.outcome for action in self.actions if isinstance(action, Reply)]

    @property
    def answers(self) -> list[tuple[str, str]]:
        """Each reply with the key of the request it answers."""
        return [(action.request.key, action.outcome) for action in self.actions if isinstance(action, Reply)]

    @property
    def reports(self) -> list[str]:
        return [f"{action.command}:{action.outcome}" for action in self.actions if isinstance(action, Report)]

    @property
    def ends(self) -> list[str]:
        """The ends of charges that are told unasked."""
        return [report.removeprefix("101:") for report in self.reports if report.startswith("101:")]

    @property
    def jobs(self) -> list[Job]:
        return [action for action in self.actions if isinstance(action, StartGun | StopGun | RebootGun | RebootBoards)]

    @property
    def records(self) -> list[Record]:
        return [action for action in self.actions if isinstance(action, Record)]

    @property
    def bills(self) -> list[ChargingRecord]:
        """The charging records, as the platform reads them."""
        return [
            CODEC.decode_reply(f"ip,v,104,1,{PILE},0,".encode() + _outcome(record).encode()).body
            for record in self.records
            if record.type is RecordType.CHARGING
        ]

    @property
    def notes(self) -> list[str]:
        """The codes of the events, as words."""
        codes = [record.body.split(",")[0] for record in self.records if record.type is RecordType.EVENT]
        return [EventCode(int(code)).name.lower().replace("_", "-") for code in codes]

    @property
    def alarms(self) -> list[str]:
        """The codes of the alarms, as words behind + when raised and - when cleared."""
        fields = [record.body.split(",") for record in self.records if record.type is RecordType.ALARM]
        return ["-+"[int(raised)] + AlarmCode(int(code)).name.lower().replace("_", "-") for code, raised, _ in fields]

    def __contains__(self, action: Action) -> bool:
        return action in self.actions


def _outcome(record: Record) -> str:
    return record_outcome(record.type, 1, 1, 1, record.order, record.gun, record.at_ms, record.body)


@dataclass
class Pile:
    """The core with a memory, as the desk runs it."""

    config: PileConfig = CONFIG
    state: PileState = field(default_factory=lambda: new_state(CONFIG, Now(WALL_MS, MONO_MS)))
    wall_ms: int = WALL_MS
    mono_ms: int = MONO_MS
    trusted: bool = True
    is_estimate: bool = False
    boot: str = "boot 1"
    stored: dict[str, Any] = field(default_factory=dict)  # what the journal would have

    def __post_init__(self) -> None:
        if self.config.guns != len(self.state.guns):
            self.state = new_state(self.config, self.now)

    @property
    def now(self) -> Now:
        return Now(self.wall_ms, self.mono_ms, self.trusted, self.is_estimate, self.boot)

    def gun(self, number: int = 1) -> Gun:
        return self.state.guns[number]

    def session(self, number: int = 1) -> Session:
        session = self.gun(number).session
        assert session is not None
        return session

    # ---- events

    def take(self, event: Event) -> Done:
        old = self.state
        self.state, actions = handle(self.config, old, event, self.now)
        self._check_states(old, event)
        self.stored |= json.loads(json.dumps(changed_parts(old, self.state)))
        return Done(actions)

    def _check_states(self, old: PileState, event: Event) -> None:
        """No gun changes from one state to another that docs/states.md does not know."""
        for number, gun in self.state.guns.items():
            before, after = status_of(old.guns[number], self.mono_ms), status_of(gun, self.mono_ms)
            assert (before, after) in CHANGES, f"{before.name} to {after.name} by {event}"

    def command(self, number: int, data: str = "", timestamp: int | None = None, key: str = "") -> Done:
        """A command as it stands on the wire, sent just now."""
        sent = self.wall_ms if timestamp is None else timestamp
        line = f"10.0.0.1,API:2.0.2,{number},{sent},{PILE}" + (f",{data}" if data else "")
        message = CODEC.decode(line.encode())
        return self.take(Commanded(message, Request(number, message.timestamp_text, key or f"{number} at {sent}")))

    def start(
        self,
        order: str = "A1",
        gun: int = 1,
        *,
        balance: int = CAP_FEN,
        prepaid: int = 0,
        free: int = 0,
        timestamp: int | None = None,
        key: str = "",
    ) -> Done:
        data = f"1,{PILE},{gun},ACC,{balance},{prepaid},{free},{order}"
        return self.command(101, data, timestamp, key or f"start {order}")

    def stop(
        self, order: str = "A1", gun: int = 1, *, kind: int = 2, timestamp: int | None = None, key: str = ""
    ) -> Done:
        return self.command(101, f"{kind},{PILE},{gun},ACC,0,0,0,{order}", timestamp, key or f"stop {order}")

    def measured(self, state: str = "plugged", gun: int = 1, **values: Any) -> Done:
        """A poll. The plug sits unless the state is idle, and the meter stands still unless a value is given."""
        reading = GunReading(gun, self.mono_ms, BoardState(state), state != "idle", order="", energy_wh=METER_WH)
        return self.take(Measured(replace(reading, **values)))

    def charging(self, used_wh: int = 0, power_w: int = 0, order: str = "A1", gun: int = 1, **values: Any) -> Done:
        values = {"order": order_context(order), "energy_wh": METER_WH + used_wh, "power_w": power_w} | values
        return self.measured("charging", gun, **values)

    def silenced(self, gun: int = 1) -> Done:
        return self.take(Silenced(gun))

    def job_done(self, job: Job, result: Result = Result.OK, text: str = "in words") -> Done:
        return self.take(JobDone(job, result, text))

    def tick(self) -> Done:
        return self.take(Ticked())

    def after(self, seconds: float) -> Done:
        """So much time passes, and then the clock ticks."""
        self.pass_time(seconds)
        return self.tick()

    def pass_time(self, seconds: float) -> None:
        self.wall_ms += round(seconds * 1000)
        self.mono_ms += round(seconds * 1000)

    def restart(self, seconds: float = 2, boot: Boot = NO_BOOT) -> Done:
        """Killed, and back after so many seconds with what the journal has."""
        self.pass_time(seconds)
        self.mono_ms += 7  # a process's monotonic clock means nothing to the next one
        self.state = restore(self.config, self.stored, self.now)
        return self.take(Resumed(boot))


def plugged_pile(**config: Any) -> Pile:
    """Every gun answers and has a car plugged in; the tick's heartbeat and feeding are behind us."""
    pile = Pile(replace(CONFIG, **config))
    for gun in pile.state.guns:
        pile.measured("plugged", gun)
    pile.tick()
    return pile


def starting_pile(order: str = "A1", **config: Any) -> Pile:
    pile = plugged_pile(**config)
    pile.start(order)
    pile.job_done(start_job(order))
    return pile


def charging_pile(order: str = "A1", **config: Any) -> Pile:
    pile = starting_pile(order, **config)
    pile.charging(order=order)
    return pile


def stopping_pile(order: str = "A1", **config: Any) -> Pile:
    pile = charging_pile(order, **config)
    pile.stop(order)
    return pile


def start_job(order: str = "A1", gun: int = 1) -> StartGun:
    return StartGun(gun, order, CAP_WH, 320)

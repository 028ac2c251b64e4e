"""The core against a board, a line, a driver and a power switch that do what they want, in any order.

Once they calm down, everything must be in order: current flows only for an order that is charging, every command has
its one final reply, and no order was started twice. A seed replays exactly.
"""

import random
from collections import Counter
from collections.abc import Callable

import pytest
from core_helpers import METER_WH, Done, Pile

from agent.pile.actions import Job, RebootBoards, RebootGun, Reply, StartGun, StopGun
from agent.pile.board import BoardState
from agent.pile.events import Delivered
from agent.protocol.results import Result

SEEDS, AT_ONCE, STEPS = 1500, 100, 50
ACTIVE = (BoardState.STARTING, BoardState.CHARGING, BoardState.STOPPING)


class Board:
    """Gun 1, as far as the core can tell."""

    def __init__(self) -> None:
        self.state = BoardState.IDLE
        self.order = ""
        self.meter_wh = METER_WH
        self.heard: Counter[str] = Counter()

    def obey(self, job: Job) -> Result:
        if isinstance(job, StartGun):
            if self.state in ACTIVE:
                return Result.OK if self.order == job.order else Result.DEVICE_REFUSED
            if self.state is BoardState.IDLE:
                return Result.DEVICE_REFUSED
            self.state, self.order = BoardState.STARTING, job.order
            self.heard[job.order] += 1
        elif isinstance(job, StopGun):
            self.state = BoardState.ENDED if self.state in ACTIVE else self.state
        else:
            self.restart()
        return Result.OK

    def forget(self) -> None:
        """It does not know the order any more, so a restarted agent can't know either that it was begun."""
        self.heard[self.order] = 0
        self.order = ""

    def restart(self) -> None:
        self.forget()
        self.state = BoardState.IDLE if self.state is BoardState.IDLE else BoardState.PLUGGED


class Bus:
    """The jobs on their way: a stop takes a queued start out, and goes first."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def add(self, job: Job) -> None:
        if isinstance(job, StopGun):
            self.jobs = [other for other in self.jobs if not isinstance(other, StartGun | StopGun)]
            self.jobs.insert(0, job)
        else:
            self.jobs.append(job)


class World:
    """One run. ``log`` tells what happened, for a run that fails."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pile = Pile()
        self.board = Board()
        self.bus = Bus()
        self.is_cut = False
        self.orders = 1
        self.finals: Counter[str] = Counter()
        self.asked: set[str] = set()
        self.polled: list[tuple[str, str, int, int]] = []  # readings on their way to the core
        self.log: list[str] = []

    def step(self) -> None:
        act = self.random.choices(*zip(*self.acts().items(), strict=True))[0]
        self.log.append(act.__name__)
        act()
        self.check()

    def acts(self) -> dict[Callable[[], None], int]:
        """What may happen next, and how often it does."""
        weights = (
            (10, (self.start, self.stop, self.plug, self.contactor_closes, self.tick)),
            (25, (self.poll, self.transaction)),
            (4, (self.energy_flows, self.mend, self.late_reading, self.kill)),
            (2, (self.start_again, self.delivered, self.unplug)),
            (1, (self.stop_another, self.reboot, self.local_start, self.local_stop, self.board_restarts, self.cut)),
        )
        return {act: weight for weight, acts in weights for act in acts}

    def done(self, done: Done) -> None:
        for job in done.jobs:
            self.bus.add(job)
        for action in done.actions:
            if isinstance(action, Reply) and action.result.is_final:
                self.finals[action.request.key] += 1

    def new_key(self, what: str) -> str:
        key = f"{what} {len(self.asked)}"
        self.asked.add(key)
        return key

    # ---- the platform

    def start(self) -> None:
        self.orders += 1
        self.done(self.pile.start(f"A{self.orders}", key=self.new_key("start")))

    def start_again(self) -> None:
        self.done(self.pile.start(f"A{self.orders}", key=self.new_key("start")))

    def stop(self) -> None:
        session = self.pile.gun().session
        order = session.order if session is not None else f"A{self.orders}"
        self.done(self.pile.stop(order, key=self.new_key("stop")))

    def stop_another(self) -> None:
        self.done(self.pile.stop("A0", key=self.new_key("stop")))

    def reboot(self) -> None:
        self.done(self.pile.command(108, self.random.choice("01"), key=self.new_key("reboot")))

    def delivered(self) -> None:
        self.done(self.pile.take(Delivered()))

    # ---- the driver and the board

    def plug(self) -> None:
        if self.board.state is BoardState.IDLE:
            self.board.state = BoardState.PLUGGED

    def unplug(self) -> None:
        self.board.state = BoardState.IDLE

    def local_start(self) -> None:
        if self.board.state in (BoardState.PLUGGED, BoardState.ENDED):
            self.board.forget()
            self.board.state = BoardState.STARTING

    def local_stop(self) -> None:
        if self.board.state in ACTIVE:
            self.board.state = BoardState.ENDED

    def contactor_closes(self) -> None:
        if self.board.state is BoardState.STARTING:
            self.board.state = BoardState.CHARGING

    def energy_flows(self) -> None:
        if self.board.state is BoardState.CHARGING:
            self.board.meter_wh += self.random.randrange(12_000)

    def board_restarts(self) -> None:
        self.board.restart()

    # ---- the line

    def cut(self) -> None:
        self.is_cut = True

    def mend(self) -> None:
        self.is_cut = False

    def poll(self) -> None:
        self.reading_arrives()
        if self.is_cut:
            self.done(self.pile.silenced())
            return
        self.late_reading()
        self.reading_arrives()

    def late_reading(self) -> None:
        """It is taken now and reaches the core later: something may come in between."""
        if not self.is_cut and not self.polled:
            board = self.board
            self.polled.append((board.state.value, board.order, board.meter_wh, self.pile.mono_ms))
            self.pile.pass_time(0.01)

    def reading_arrives(self) -> None:
        while self.polled:
            state, order, meter_wh, at_ms = self.polled.pop()
            self.done(self.pile.measured(state, order=order, energy_wh=meter_wh, at_ms=at_ms))

    def transaction(self) -> None:
        if not self.bus.jobs:
            return
        self.reading_arrives()  # the line's thread reports in order
        job = self.bus.jobs.pop(0)
        result = Result.DEVICE_SILENT if self.is_cut else self.board.obey(job)
        if self.random.random() < 0.1:
            result = Result.DEVICE_SILENT  # done, but its answer was lost
        self.done(self.pile.job_done(job, result))

    # ---- time and power

    def lose_or_find_time(self) -> None:
        """Sure, at least so late, or not known."""
        self.pile.trusted, self.pile.is_estimate = self.random.choice(((True, False), (True, True), (False, False)))

    def tick(self) -> None:
        if self.random.random() < 0.1:
            self.lose_or_find_time()
        self.done(self.pile.after(self.random.choice((0, 1, 1, 1, 5, 5, 31, 61, 301))))

    def kill(self) -> None:
        self.bus.jobs.clear()
        self.polled.clear()
        self.pile.wall_ms += self.random.choice((0, 0, 0, 86_400_000, -86_400_000))
        self.pile.boot = self.random.choice((self.pile.boot, "boot 1", "boot 2"))
        self.lose_or_find_time()
        self.done(self.pile.restart(self.random.choice((0, 2, 90))))

    # ---- what must hold

    def check(self) -> None:
        for key, count in self.finals.items():
            assert count <= (2 if key.startswith("reboot") else 1), f"{key} was answered {count} times"
        assert all(count <= 1 for order, count in self.board.heard.items() if order), "an order was started twice"

    def calm_down(self) -> None:
        """Nobody does anything any more: what is under way comes to its end."""
        self.is_cut = False
        self.polled.clear()
        for _ in range(20):
            self.done(self.pile.take(Delivered()))
            while self.bus.jobs:
                job = self.bus.jobs.pop(0)
                self.done(self.pile.job_done(job, self.board.obey(job)))
            self.poll()
            self.done(self.pile.after(5))
        self.check()
        session, pending = self.pile.gun().session, self.pile.state.pending_reboot
        deferred = {pending.request.key} if pending is not None and session is not None else set()
        assert self.asked - set(self.finals) == deferred, "a command got no final reply"
        assert (session is not None) == (self.board.state in ACTIVE), "current without an order, or the reverse"
        if session is not None:
            assert (session.order, self.board.state) == (self.board.order, BoardState.CHARGING)


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_whatever_happens_ends_in_order(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        world = World(seed)
        try:
            for _ in range(STEPS):
                world.step()
            world.calm_down()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}; after {' '.join(world.log)}") from error


def test_a_seed_replays_exactly() -> None:
    one, other = World(7), World(7)
    for world in (one, other):
        for _ in range(STEPS):
            world.step()
    assert (one.log, one.pile.state) == (other.log, other.pile.state)


def test_the_model_restarts_by_every_kind_of_reboot() -> None:
    for job in (RebootGun(1), RebootBoards()):
        board = Board()
        board.state, board.order = BoardState.CHARGING, "A1"
        board.obey(job)
        assert (board.state, board.order) == (BoardState.PLUGGED, "")

"""The running agent: the rooms put together, and the loop that turns them."""

import contextlib
import gc
import logging
import random
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from agent.bridge import Bridge
from agent.clock import Clock
from agent.config import Config
from agent.journal import Journal, JournalError
from agent.notify import notify
from agent.pile.durable import GUN_PREFIX, durable_keys, restore
from agent.pile.events import Delivered, FromBoard, FromBridge, LinkChanged, Resumed, ServerTried, Ticked
from agent.pile.parameters import Server
from agent.pile.parts import from_json
from agent.pile.state import KnownTime, PileState
from agent.poller import Poller
from agent.power.bus import Bus

if TYPE_CHECKING:
    from agent.link.link import LinkState

log = logging.getLogger(__name__)

TICK_S = 1.0
PRUNE_S = 3600.0
GOODBYE_S = 3.0
FIRST_LOOK_S = 3.0


class TrialFailedError(Exception):
    """This release is on trial and does not work as the one before did."""


class Agent:
    """One agent. ``run`` returns when ``stop`` was called (a signal) and raises what the process can't live with.

    The boards are asked first: at 9600 baud their answers take 150 ms, in which all other rooms are loaded.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._poller = Poller()
        self._failure: BaseException | None = None
        self._is_stopping = False
        self._clock = Clock()
        self._journal = Journal.open(config.journal, self._clock.now().wall_ms)
        self._bus = Bus(config.lines, self._post_event, self._post_failure, self._clock)
        self._bus.start()  # behind the journal: a second agent does not get there
        self._furnish(config)
        self._has_looked = False
        self._look_until = time.monotonic() + FIRST_LOOK_S
        self._next_tick = 0.0
        self._next_prune = time.monotonic() + PRUNE_S

    def _furnish(self, config: Config) -> None:
        """The other rooms. What the boards say meanwhile waits for the loop."""
        from agent.control import ControlServer
        from agent.desk import Desk
        from agent.outbox import Outbox
        from agent.replay import Replayer
        from agent.status import snapshot
        from agent.uplink import Callbacks, Uplink

        self._bridge = Bridge(config.firmware, self._clock, self._poller, self._firmware_said, self._restart)
        self._desk = Desk(config, self._restored_state(), self._journal, self._bus, self._bridge, self._clock)
        callbacks = Callbacks(
            self._message_came, self._desk.others_came, self._row_delivered, self._link_changed, self._server_tried
        )
        self._link = Uplink(
            config.link, self._desk.state.server, config.servers, callbacks,
            self._poller, time.monotonic, random.Random(),
        )  # fmt: skip
        self._outbox = Outbox(self._journal, self._link, partial(self._desk.happened, Delivered()))
        self._desk.connect(self._link, self._outbox)
        self._replayer = Replayer(self._desk, self._journal, self._link, self._outbox, config.replay_per_s)

        def status() -> dict[str, object]:
            return snapshot(config, self._desk, self._link.state, self._outbox.waiting, self._bus.status())

        self._control = ControlServer(config.socket, self._poller, status)

    def run(self) -> None:
        """Work until ``stop``."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda caught, _frame: self._poller.post(partial(self._told_to_stop, caught)))
        for notice in self._journal.notices:
            log.error("%s", notice)
        self._desk.happened(Resumed(self._bridge.boot()))
        self._link.start(self._clock.has_just_booted())
        gc.collect()  # while the boards answer: what is left now stays, and no later collection goes through it
        gc.freeze()
        notify("READY=1")
        log.info(
            "pile %s, version %s, %d guns", self._config.pile.pile, self._config.pile.version, self._config.pile.guns
        )
        try:
            while not self._is_stopping:
                self._turn()
        finally:
            self._close()
        if self._failure is not None:
            raise self._failure

    def _restart(self, fault: str) -> None:
        """End; whoever started the agent starts it again. A ``fault`` ends it as a failure."""
        if fault:
            self._failure = TrialFailedError(fault)
        self.stop()

    def stop(self) -> None:
        self._is_stopping = True

    def _told_to_stop(self, number: int) -> None:
        log.info("ends by %s", signal.Signals(number).name)
        self.stop()

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._next_tick:
            self._tick(now)
        if not self._has_looked:
            self._look(now)
        if now >= self._link.next_deadline():  # not at each turn: in the shared mode most are other piles' messages
            self._link.tick(now)
        self._replayer.pump(time.monotonic())
        next_deadline = min(self._next_tick, self._link.next_deadline(), self._replayer.next_deadline())
        self._poller.wait(next_deadline - time.monotonic())

    def _look(self, now: float) -> None:
        """Until every gun has been measured, or could have been, no command is taken, and nothing is said of the guns:
        a start that waits at the broker for an agent to come back must not be refused for a board that nobody has
        asked yet."""
        if now >= self._look_until or all(gun.reading is not None for gun in self._desk.state.guns.values()):
            self._has_looked = True
            self._link_changed(self._link.state)
            self._link.take_messages()

    def _tick(self, now: float) -> None:
        self._next_tick = now + TICK_S
        self._desk.happened(Ticked())
        self._bridge.tick()
        self._link.tick(now)
        timeout_s = float(self._desk.state.settings.report_timeout_s)
        self._link.delivery_timeout_s = min(self._config.link.delivery_timeout_s, timeout_s)
        with contextlib.suppress(JournalError):  # kept for the next tick; the desk says what is wrong with the journal
            self._outbox.pump()
            self._outbox.flush()
            if now >= self._next_prune:
                self._prune(now)
        self._control.push()
        if self._bus.is_alive():
            notify("WATCHDOG=1")

    def _prune(self, now: float) -> None:
        """A step of it: the next follows with the next tick while there is more to forget."""
        self._next_prune = now + PRUNE_S
        with self._journal.transaction():
            pruned = self._journal.prune(self._clock.now().wall_ms, self._config.retention)
        if not pruned.is_done:
            self._next_prune = now

    def _close(self) -> None:
        notify("STOPPING=1")
        self._link.stop(GOODBYE_S)
        self._bridge.stop()
        self._bus.stop()
        self._control.close()
        with contextlib.suppress(JournalError):
            self._outbox.flush()
        self._journal.close()

    # ---- what the other threads and rooms report ----

    def _post_event(self, event: FromBoard) -> None:
        self._poller.post(lambda: self._desk.happened(event))  # looked up then: the desk may not be there yet

    def _post_failure(self, error: BaseException) -> None:
        """A thread has died of a bug: the process goes too, and comes back whole."""

        def fail() -> None:
            self._failure = error
            self.stop()

        self._poller.post(fail)

    def _firmware_said(self, event: FromBridge) -> None:
        self._desk.happened(event)

    def _message_came(self, payload: bytes) -> bool | None:
        return self._desk.message_came(payload) if self._has_looked else None

    def _row_delivered(self, row_id: int) -> None:
        if row_id > 0:
            self._outbox.delivered(row_id)
        else:
            self._replayer.delivered(row_id)

    def _link_changed(self, state: "LinkState") -> None:
        if self._has_looked and state.connected != self._desk.state.connected:
            self._desk.happened(LinkChanged(state.connected))
        self._outbox.pump()

    def _server_tried(self, server: Server, is_reached: bool, reason: str) -> None:
        self._desk.happened(ServerTried(server, is_reached, reason))

    def _restored_state(self) -> PileState:
        parts = {key: self._journal.get(key) for key in durable_keys()} | dict(self._journal.items(GUN_PREFIX))
        self._clock.recall(from_json(KnownTime, parts["time"]))
        return restore(self._config.pile, parts, self._clock.now())

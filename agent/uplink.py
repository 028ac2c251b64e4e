"""The way to the platform: one link to one broker, which a 106 can move to another.

A new server is tried beside the link in use, with the same login and TLS files. It is reached once it has granted the
subscription; then the link in use says goodbye and everything, what was not delivered yet too, goes over the new one.
A broker that is the same one under another name throws the old link out, for both have one client id: a link in use
that is lost during a trial rests until the trial is over, so that the two do not throw each other out in turns.

The server of a 106 goes before the configuration file's. While one of the two can't be reached for ``fallback_s`` the
other is used, and the other way round: a pile is never out of reach for an address that was right once.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from agent.link.config import LinkConfig, ServerTiming
from agent.link.load import load_paho
from agent.pile.parameters import Server
from agent.poller import Poller

if TYPE_CHECKING:
    from agent.link.link import Link, LinkState

log = logging.getLogger(__name__)

GOODBYE_S = 1.0  # the loop waits for it, and the boards' watchdogs with it


@dataclass(frozen=True)
class Callbacks:
    """A link's own, told of the link in use; ``on_message`` and ``on_others`` also of one that is tried. ``on_tried``
    is posted."""

    on_message: Callable[[bytes], bool | None]
    on_others: Callable[[int], None]
    on_delivered: Callable[[int], None]
    on_state: "Callable[[LinkState], None]"
    on_tried: Callable[[Server, bool, str], None]  # server, whether it was reached, else why not


@dataclass
class _Trial:
    server: Server
    link: "Link | None"  # None: it is the link in use that is waited for
    until: float
    is_reached: bool = False


class Uplink:
    """What a ``Link`` is to its caller, whatever broker is in use. All methods run in the poller's thread."""

    def __init__(
        self,
        config: LinkConfig,
        stored: Server | None,
        timing: ServerTiming,
        callbacks: Callbacks,
        poll: Poller,
        now: Callable[[], float],
        rng: Random,
    ) -> None:
        """``stored``: what a 106 has set."""
        self._config = config
        self._timing = timing
        self._callbacks = callbacks
        self._poll = poll
        self._now = now
        self._rng = rng
        self._delivery_timeout_s = config.delivery_timeout_s
        self._own = Server(config.host, config.port)
        self._preferred = stored or self._own
        self._server = self._preferred
        self._link = self._new_link(self._server)
        self._windows_before = 0  # of the links before this one
        self._lost_at: float | None = None  # since when the server in use is not reached; None: it is, or was not tried
        self._trial: _Trial | None = None
        self._is_moving = False

    # ---- as a link ----

    @property
    def state(self) -> "LinkState":
        state = self._link.state
        return replace(state, window=self._windows_before + state.window)

    @property
    def room(self) -> int:
        return 0 if self._is_moving else self._link.room

    @property
    def delivery_timeout_s(self) -> float:
        return self._delivery_timeout_s

    @delivery_timeout_s.setter
    def delivery_timeout_s(self, seconds: float) -> None:
        self._delivery_timeout_s = self._link.delivery_timeout_s = seconds

    def publish(self, row_id: int, topic: str, payload: bytes) -> bool:
        return not self._is_moving and self._link.publish(row_id, topic, payload)

    def report(self, topic: str, payload: bytes) -> bool:
        return not self._is_moving and self._link.report(topic, payload)

    def start(self, after_boot: bool = False) -> None:
        """``after_boot``: of the board. All around it are dialling now, so the first dial waits for a random time."""
        self._lost_at = self._now()
        delay_s = self._rng.uniform(0.0, self._config.boot_spread_s) if after_boot else 0.0
        if delay_s:
            log.info("the board has just started: broker %s is dialled in %.1f s", self._server, delay_s)
        self._link.start(delay_s)

    def take_messages(self) -> None:
        self._link.take_messages()
        if self._trial is not None and self._trial.link is not None:
            self._trial.link.take_messages()

    def stop(self, timeout_s: float) -> None:
        self._end_trial()
        self._link.stop(timeout_s)

    def tick(self, now: float) -> None:
        if not self._is_resting():
            self._link.tick(now)
        if self._trial is not None:
            self._watch_trial(self._trial, now)
        elif self._must_fall_back(now):
            self._fall_back()

    def next_deadline(self) -> float:
        deadlines = [] if self._is_resting() else [self._link.next_deadline()]
        if self._trial is not None and not self._trial.is_reached:
            deadlines.append(self._trial.until)
        if self._trial is not None and self._trial.link is not None:
            deadlines.append(self._trial.link.next_deadline())
        if self._trial is None and self._lost_at is not None and self._server_after() != self._server:
            deadlines.append(self._lost_at + self._timing.fallback_s)
        return min(deadlines)

    # ---- another server ----

    def try_server(self, server: Server) -> None:
        """See whether ``server`` can be used; ``on_tried`` tells."""
        self._end_trial()
        is_other = server != self._server
        self._trial = _Trial(server, self._new_link(server) if is_other else None, self._now() + self._timing.trial_s)
        if self._trial.link is not None:
            self._trial.link.start()
        elif self._link.state.connected:
            self._reached(self._trial)

    def use_server(self, server: Server) -> None:
        """Everything goes over ``server`` from now on: nothing is sent any more until the move, in the next round."""
        self._is_moving = True
        self._poll.post(partial(self._move, server))

    def _move(self, server: Server) -> None:
        self._preferred = server
        trial, self._trial = self._trial, None
        if server != self._server:
            link = trial.link if trial is not None and trial.server == server else None
            self._replace(server, link)
        self._is_moving = False
        self._callbacks.on_state(self.state)

    def _replace(self, server: Server, link: "Link | None") -> None:
        """Say goodbye to the link in use, which tells what it still delivers, and take ``link``, or a new one."""
        log.info("from broker %s to %s", self._server, server)
        self._link.stop(GOODBYE_S if self._link.state.connected else 0.0)
        self._windows_before += self._link.state.window + 1
        self._server = server
        self._link = link or self._new_link(server)
        self._lost_at = None if self._link.state.connected else self._now()
        self._link.delivery_timeout_s = self._delivery_timeout_s
        if link is None:
            self._link.start()

    def _watch_trial(self, trial: _Trial, now: float) -> None:
        if trial.link is not None:
            trial.link.tick(now)
        if not trial.is_reached and now >= trial.until:
            reason = (trial.link or self._link).state.reason
            self._end_trial()
            self._poll.post(partial(self._callbacks.on_tried, trial.server, False, reason))

    def _reached(self, trial: _Trial) -> None:
        trial.is_reached = True
        self._poll.post(partial(self._callbacks.on_tried, trial.server, True, ""))

    def _end_trial(self) -> None:
        trial, self._trial = self._trial, None
        if trial is not None and trial.link is not None:
            trial.link.stop(GOODBYE_S if trial.link.state.connected else 0.0)

    def _is_resting(self) -> bool:
        """The link in use is lost while another server is tried."""
        has_link = self._trial is not None and self._trial.link is not None
        return has_link and self._link.state.phase == "waiting"

    # ---- when the server in use is out of reach ----

    def _server_after(self) -> Server:
        return self._own if self._server == self._preferred else self._preferred

    def _must_fall_back(self, now: float) -> bool:
        is_lost = self._lost_at is not None and now - self._lost_at >= self._timing.fallback_s
        return is_lost and self._server_after() != self._server

    def _fall_back(self) -> None:
        log.warning("broker %s is out of reach for %g s: %s", self._server, self._timing.fallback_s, self.state.reason)
        self._replace(self._server_after(), None)

    # ---- links ----

    def _new_link(self, server: Server) -> "Link":
        load_paho(with_tls=self._config.tls is not None)
        from agent.link.link import Link

        config = replace(self._config, host=server.host, port=server.port)
        told = partial(self._state_told, server)
        calls = self._callbacks
        return Link(
            config, calls.on_message, calls.on_others, calls.on_delivered, told, self._poll, self._now, self._rng
        )

    def _state_told(self, server: Server, state: "LinkState") -> None:
        """A link has something to say; of one that is tried only whether it is connected matters."""
        trial = self._trial
        if trial is not None and trial.server == server and state.connected and not trial.is_reached:
            self._reached(trial)
        if server != self._server:
            return
        if state.connected:
            self._lost_at = None
        elif self._lost_at is None:
            self._lost_at = self._now()
        self._callbacks.on_state(self.state)

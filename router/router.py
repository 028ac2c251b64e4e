"""The router: takes from its queue, hands on per pile, acknowledges what is confirmed.

Nothing is remembered. A message is acknowledged when the broker has confirmed it at its new place; what was on its way
when a connection or this process ends is given out again, to the next instance: a repetition is possible, a loss is
not. One consumer at a time has the queue (x-single-active-consumer), and one message of a pile is on its way at a time,
so a pile's first receipt of its commands is in their order.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from random import Random

from pika.adapters.select_connection import IOLoop
from pika.spec import Basic, BasicProperties

from agent.reach import TlsFilesError
from router.amqp import SEQUENCE_HEADER, Session
from router.config import AmqpOutputConfig, Config
from router.counters import Counters
from router.mqtt import MqttOutput, Outcome
from router.routing import Unroutable, pile_in, pile_key, pile_topic
from router.window import Job, Window

log = logging.getLogger(__name__)

_RECONNECT_FIRST_S = 0.5
_FAREWELL_S = 1.0  # for the broker to say that it has heard our goodbye
_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 5.0
_RENEW_AFTER_S, _RENEW_EVERY_S = 5.0, 60.0
_KEPT_PROPERTIES = ("content_type", "content_encoding", "message_id", "timestamp", "expiration", "type")


class Router:
    """All methods run in the thread of ``loop``."""

    def __init__(self, config: Config, loop: IOLoop, counters: Counters, rng: Random) -> None:
        self._config = config
        self._loop = loop
        self._counters = counters
        self._rng = rng
        self._attempts = 0
        self._said: set[str] = set()
        self._is_stopping = False
        self._on_stopped: Callable[[], None] = lambda: None
        self._session: Session | None = None
        self._mqtt: MqttOutput | None = None
        self._refusals: dict[str, _Refusals] = {}  # by pile, over all connections
        self._renewed_at = -_RENEW_EVERY_S
        self._forget()

    def start(self) -> None:
        self._dial()

    def stop(self, on_stopped: Callable[[], None], timeout_s: float) -> None:
        """Take no more, wait for what is on its way, disconnect."""
        self._is_stopping = True
        self._on_stopped = on_stopped
        self._loop.call_later(timeout_s, self._end)
        self._loop.call_later(timeout_s + _FAREWELL_S, on_stopped)
        if self._session is None:
            self._end()
        else:
            self._session.cancel(self._end_when_settled)

    # --- connections: the output's first, then the input's; the loss of one is the loss of both ---

    def _dial(self) -> None:
        if self._is_stopping:
            return
        if isinstance(self._config.output, AmqpOutputConfig):
            self.output_ready()
        else:
            self._mqtt = MqttOutput(self._config.output, self._loop.add_callback_threadsafe, self)

    def output_ready(self) -> None:
        hosts = self._config.input.hosts
        try:
            self._session = Session(self._config.input, hosts[self._attempts % len(hosts)], self._loop, self)
        except TlsFilesError as error:
            self._lose(str(error))

    def session_ready(self) -> None:
        self._attempts = 0
        self._said.clear()
        self._counters.connections += 1
        self._counters.is_connected = True
        log.info("consuming %s, or standing by for the instance that does", self._config.input.queue)

    def session_blocked(self, reason: str) -> None:
        """What is on its way waits, and what was taken is not acknowledged: nothing is lost by it."""
        self._counters.is_blocked = bool(reason)
        if reason:
            log.warning("%s", reason)
        else:
            log.info("the broker takes messages again")

    def session_lost(self, reason: str) -> None:
        self._lose(reason)

    def output_lost(self, reason: str) -> None:
        self._lose(reason)

    def _lose(self, reason: str) -> None:
        self._counters.losses += self._counters.is_connected
        self._disconnect()
        if self._is_stopping:
            self._end()
            return
        if reason not in self._said:  # several hosts may each have one
            self._said.add(reason)
            log.warning("%s", reason)
        longest = min(self._config.input.reconnect_max_s, _RECONNECT_FIRST_S * 2 ** min(self._attempts, 16))
        self._attempts += 1
        self._loop.call_later(self._rng.uniform(0, longest), self._dial)

    def _disconnect(self, on_closed: Callable[[], None] = lambda: None) -> None:
        self._counters.is_connected = self._counters.is_blocked = False
        session, self._session = self._session, None
        mqtt, self._mqtt = self._mqtt, None
        self._forget()
        if mqtt is not None:
            mqtt.close()
        if session is not None:
            session.close(on_closed)
        else:
            on_closed()

    def _forget(self) -> None:
        """What is on its way is the broker's again."""
        self._window = Window()
        self._sent: dict[int, _Sent] = {}  # by number of publish, in order
        self._counters.in_flight = 0

    def _end(self) -> None:
        on_stopped, self._on_stopped = self._on_stopped, lambda: None
        self._disconnect(on_stopped)

    # --- messages ---

    def message_came(self, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        self._counters.received += 1
        self._counters.redelivered += bool(method.redelivered)
        pile: str | Unroutable = pile_in(body)
        if SEQUENCE_HEADER in (properties.headers or {}):
            pile = Unroutable.LOOP
        kept = {name: getattr(properties, name) for name in _KEPT_PROPERTIES}
        job = Job(method.delivery_tag, pile if isinstance(pile, str) else "", body, kept)
        first = self._window.take(job)
        self._counters.in_flight = len(self._window)
        if isinstance(pile, Unroutable):
            self._park(job, pile)
        elif first is not None:
            self._send(first)

    def _send(self, job: Job) -> None:
        output = self._config.output
        if isinstance(output, AmqpOutputConfig):
            self._publish(job, output.exchange, pile_key(job.pile), BasicProperties(**job.properties))
        elif self._mqtt is not None:
            self._mqtt.publish(job, pile_topic(output.topic_prefix, job.pile))

    def _park(self, job: Job, why: Unroutable) -> None:
        properties = BasicProperties(**job.properties)
        properties.headers = {
            "x-pile-router-reason": why.value,
            "x-pile-router-pile": job.pile,
            "x-pile-router-at": int(time.time()),
        }
        self._publish(job, "", self._config.input.parked_queue, properties, why)

    def _publish(
        self, job: Job, exchange: str, key: str, properties: BasicProperties, parked_for: Unroutable | None = None
    ) -> None:
        if self._session is not None:  # else lost meanwhile: the broker gives the message out again
            sequence = self._session.publish(exchange, key, job.body, properties)
            self._sent[sequence] = _Sent(job, parked_for)

    # --- what became of them ---

    def publish_returned(self, sequence: int) -> None:
        self._sent[sequence].has_returned = True

    def publish_answered(self, sequence: int, multiple: bool, is_taken: bool) -> None:
        answered = list(takewhile(lambda number: number <= sequence, self._sent)) if multiple else [sequence]
        window = self._window
        for number in answered:
            self._answered(self._sent.pop(number), is_taken)
            if self._window is not window:
                return  # the connection was given up
        self._acknowledge()

    def output_answered(self, job: Job, outcome: Outcome) -> None:
        if outcome is Outcome.NOBODY:
            self._park(job, Unroutable.NO_SESSION)
        elif outcome is Outcome.REFUSED:
            self._retry(_Sent(job))
        else:
            self._forwarded(job)
            self._acknowledge()

    def _answered(self, sent: "_Sent", is_taken: bool) -> None:
        if not is_taken:
            self._retry(sent)
        elif sent.has_returned and sent.parked_for is not None:
            self._lose(f"queue {self._config.input.parked_queue} was deleted")  # it is declared at the next connection
        elif sent.has_returned:
            self._park(sent.job, Unroutable.NO_QUEUE)
        elif sent.parked_for is not None:
            self._parked(sent.job, sent.parked_for)
        else:
            self._forwarded(sent.job)

    def _retry(self, sent: "_Sent") -> None:
        """Again after a pause, for a while; then it is parked, so that it does not hold up its pile for ever."""
        self._counters.refused += 1
        job, now = sent.job, time.monotonic()
        refusals = self._refusals.get(job.pile)
        if (
            refusals is None or now - refusals.last > 3 * _RETRY_MAX_S
        ):  # those of long ago were another instance's to end
            refusals = self._refusals[job.pile] = _Refusals(now)
        pause_s = min(_RETRY_MAX_S, _RETRY_FIRST_S * 2 ** min(refusals.tries, 16))
        refusals.tries, refusals.last = refusals.tries + 1, now
        refused_s = now - refusals.since
        if refused_s >= _RENEW_AFTER_S and now - self._renewed_at >= _RENEW_EVERY_S:
            self._renew(job.pile)
            return
        reason = sent.parked_for or (Unroutable.REFUSED if refused_s >= self._config.output.retry_s else None)
        self._loop.call_later(pause_s, partial(self._again, self._window, job, reason))

    def _renew(self, pile: str) -> None:
        """Connect anew: RabbitMQ's channels look for a quorum queue's leader once, at their first message to it, and
        one that found a node that had just died refuses all for that queue, for good."""
        self._renewed_at = time.monotonic()
        self._lose(f"messages for pile {pile or '?'} are refused: a new connection may find their queue's new leader")

    def _again(self, window: Window, job: Job, reason: Unroutable | None) -> None:
        if window is not self._window:
            return  # of a connection that is gone
        if reason is not None:
            self._park(job, reason)
        else:
            self._send(job)

    def _forwarded(self, job: Job) -> None:
        self._counters.forwarded += 1
        self._settle(job)

    def _parked(self, job: Job, reason: Unroutable) -> None:
        count = self._counters.parked[reason] = self._counters.parked[reason] + 1
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th … time
            log.warning("parked in %s, %d so far: %s", self._config.input.parked_queue, count, reason.value)
        self._settle(job)

    def _settle(self, job: Job) -> None:
        self._refusals.pop(job.pile, None)
        following = self._window.settle(job)
        if following is not None:
            self._send(following)

    def _acknowledge(self) -> None:
        if self._session is not None:
            for ack in self._window.acks():
                self._session.acknowledge(ack.tag, ack.multiple)
        self._counters.in_flight = len(self._window)
        self._end_when_settled()

    def _end_when_settled(self) -> None:
        if self._is_stopping and not self._window:
            self._end()


@dataclass
class _Sent:
    """A message published and not confirmed."""

    job: Job
    parked_for: Unroutable | None = None  # it is on its way to the parking queue
    has_returned: bool = False  # no queue takes it


@dataclass
class _Refusals:
    """Of a pile's message, one after another."""

    since: float
    last: float = 0.0
    tries: int = 0

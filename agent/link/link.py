"""The pile's link to its broker: always trying, never blocking, in order.

Order and loss. Rows of the outbox belong to the caller. ``publish`` puts up to ``window`` of them in flight;
``on_delivered`` says which the broker has taken. When the connection is lost, and when the broker refuses a row, a new
window begins (``LinkState.window`` counts them): what was in flight is then the caller's again, and it starts anew at
its oldest undelivered row. Nothing is ever resent behind its back. So rows reach the broker in their order, except that
the last ``window`` of them may be repeated after a loss, and none is skipped.

Commands. ``on_message`` stores the command and returns True, then it is acknowledged, each before the next is read.
When it returns False or raises, nothing is acknowledged and the connection is given up, so that the broker redelivers
from that very command. When it returns None, that command and all behind it wait for ``take_messages``. Of other piles'
messages (in the shared mode) most come as their number alone, to ``on_others``, and are acknowledged; a few come to
``on_message``.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from random import Random

from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.link import reasons
from agent.link.backoff import Backoff
from agent.link.config import LinkConfig
from agent.link.connection import Connection
from agent.link.dial import Dialled, Dialler
from agent.link.window import InFlight, Window
from agent.poller import Poller

logger = logging.getLogger(__name__)

_IDLE_S = 60.0  # while a dial runs there is nothing to do
_PROBE_S = 3.0  # RabbitMQ acknowledges in milliseconds; commands wait meanwhile
_RESERVED = 1  # of the publishes a broker allows in flight (MQTT 5): "offline" is said also beside a full window


class Phase(Enum):
    STOPPED = "stopped"
    WAITING = "waiting"  # for the back-off to end
    DIALLING = "dialling"  # the dial thread has the client
    LOGGING_IN = "logging in"  # CONNECT sent
    PROBING = "probing"  # after a drop at SUBSCRIBE: a message first, to learn what it is that the broker can't bear
    SUBSCRIBING = "subscribing"  # SUBSCRIBE sent; stored commands may come already
    READY = "ready"


@dataclass
class Counters:
    dials: int = 0
    logins: int = 0  # good ones, with the subscription granted
    losses: int = 0  # of connections that were ready
    received: int = 0
    not_stored: int = 0
    delivered: int = 0
    refused: int = 0  # publishes the broker said no to (MQTT 5 only)


@dataclass(frozen=True)
class LinkState:
    connected: bool  # logged in and subscribed
    since: float  # when `connected` last changed, on the clock given
    reason: str  # what is wrong, in words; "" when nothing is
    attempts: int  # tries that failed since the last connection that was stable
    broker: str  # host:port
    window: int  # grows whenever what was in flight is the caller's again
    phase: str
    counters: Counters


class Link:
    """One broker connection after another, for ever. All methods and callbacks run in the poller's thread.

    The callbacks may call ``publish`` and ``report``. An exception in one of them is logged; it never ends the link.
    """

    def __init__(
        self,
        config: LinkConfig,
        on_message: Callable[[bytes], bool | None],
        on_others: Callable[[int], None],
        on_delivered: Callable[[int], None],
        on_state: Callable[[LinkState], None],
        poll: Poller,
        now: Callable[[], float],
        rng: Random,
    ) -> None:
        self.delivery_timeout_s = config.delivery_timeout_s  # may be changed while it runs
        self._config = config
        self._on_message = on_message
        self._on_others = on_others
        self._on_delivered = on_delivered
        self._on_state = on_state
        self._poll = poll
        self._now = now
        self._backoff = Backoff(config.backoff_first_s, config.backoff_max_s, rng)
        self._dialler = Dialler(config, poll, self._dialled, self._dial_failed)
        self._window = Window(config.window)
        self._connection: Connection | None = None
        self._phase = Phase.STOPPED
        self._since = now()
        self._reason = "not connected yet"
        self._logged = ""
        self._connected_is_logged = False
        self._windows = 0
        self._short_lives = 0
        self._has_delivered = False  # on this connection
        self._probes = False  # the last SUBSCRIBE was answered by a drop
        self._due_at = 0.0  # when this phase is over: the dial, the broker's answer, the end of a pause
        self._tended_at = 0.0
        self._counters = Counters()

    # --- the caller's side ---

    @property
    def state(self) -> LinkState:
        return LinkState(
            connected=self._phase is Phase.READY,
            since=self._since,
            reason=self._reason,
            attempts=self._backoff.attempts,
            broker=self._config.broker,
            window=self._windows,
            phase=self._phase.value,
            counters=replace(self._counters),
        )

    @property
    def room(self) -> int:
        """How many rows ``publish`` would take now."""
        return self._window.room if self._may_publish() else 0

    def start(self, delay_s: float = 0.0) -> None:
        """Dial after ``delay_s``, and again for ever until ``stop``. A link is started once."""
        self._phase, self._due_at = Phase.WAITING, self._now() + delay_s
        self.tick(self._now())

    def publish(self, row_id: int, topic: str, payload: bytes) -> bool:
        """Put an outbox row in flight; False when it can't be now: not connected, window full, or paused by a refusal.

        Rows must come in their order, from the oldest undelivered one in each new window.
        Raises ValueError for a topic with a wildcard.
        """
        return self.room > 0 and self._send(row_id, topic, payload)

    def report(self, topic: str, payload: bytes) -> bool:
        """Send what is worthless later (a heartbeat), at QoS 1; False when ``publish`` would say so: it is dropped."""
        return self.room > 0 and self._send(None, topic, payload)

    def take_messages(self) -> None:
        """Offer ``on_message`` anew what it did not take yet."""
        if self._connection is not None:
            self._connection.take_messages()

    def tick(self, now: float) -> None:
        """Do what is due: dial, give up on a silent broker, ping. Call it at ``next_deadline`` or earlier."""
        if self._phase is Phase.WAITING and now >= self._due_at:
            self._dial()
        elif self._phase is Phase.LOGGING_IN and now >= self._due_at:
            self._lose(reasons.no_login_answer(self._config))
        elif self._phase is Phase.PROBING and now >= self._due_at:
            self._lose(reasons.takes_nothing(self._config))
        elif self._phase is Phase.SUBSCRIBING and now >= self._due_at:
            self._lose(reasons.no_subscription_answer(self._config))
        elif self._phase is Phase.READY:
            self._judge_lifetime()
            self._watch_delivery(now)
        if self._connection is not None:
            self._tended_at = now
            self._connection.tend()

    def next_deadline(self) -> float:
        """When ``tick`` is to be called at the latest, on the clock given."""
        deadlines = [self._now() + _IDLE_S]
        waits = (Phase.WAITING, Phase.LOGGING_IN, Phase.PROBING, Phase.SUBSCRIBING)
        if self._phase in waits or self._is_paused():
            deadlines.append(self._due_at)
        if self._connection is not None:
            deadlines.append(self._tended_at + self._config.keepalive_s / 4)
        oldest = self._window.oldest
        if oldest is not None:
            deadlines.append(oldest.sent_at + self.delivery_timeout_s)
        return min(deadlines)

    def stop(self, timeout_s: float) -> None:
        """Say "offline", wait for what is in flight, disconnect: all within the timeout.

        Rows acknowledged meanwhile are still told to ``on_delivered``; commands that come meanwhile stay at the broker.
        No callback comes after this returns.
        """
        deadline = self._now() + timeout_s
        was_ready, self._phase = self._phase is Phase.READY, Phase.STOPPED
        if self._connection is not None:
            self._say_goodbye(self._connection, was_ready, deadline)
        self._dialler.abandon(deadline - self._now())
        self._since = self._now() if was_ready else self._since
        self._set_reason("stopped")

    # --- dialling ---

    def _dial(self) -> None:
        self._phase = Phase.DIALLING
        self._counters.dials += 1
        try:
            self._dialler.dial()
        except RuntimeError as error:  # no thread to be had: as transient as a missing network
            self._dial_failed(f"cannot dial {self._config.broker}: {error}")

    def _dial_failed(self, reason: str) -> None:
        if self._phase is Phase.DIALLING:
            self._retry_later(reason)

    def _dialled(self, dialled: Dialled) -> None:
        if self._phase is not Phase.DIALLING:
            return  # stopped meanwhile; the client closes its socket when it goes out of use
        self._connection = Connection(dialled, self._poll, self)
        self._await_answer(Phase.LOGGING_IN)

    def _subscribe(self, connection: Connection) -> None:
        """Whatever the broker says of a kept session: its subscription may be gone, or its rights have changed."""
        self._await_answer(Phase.SUBSCRIBING)
        connection.subscribe(self._config.command_topic)

    def _await_answer(self, phase: Phase, most_s: float = math.inf) -> None:
        self._phase = phase
        self._due_at = self._now() + min(self._config.connect_timeout_s, most_s)
        self._tended_at = self._now()

    # --- what the connection tells (ConnectionEvents) ---

    def login_answered(self, code: ReasonCode, properties: Properties | None) -> None:
        if code.is_failure:
            self._lose(reasons.login_refused(self._config, code.getName(), _said(properties)))
        elif self._phase is Phase.LOGGING_IN and self._connection is not None:
            self._window.size = _allowed(self._config.window, properties)
            self._window.clear()
            if self._probes:
                self._await_answer(Phase.PROBING, _PROBE_S)
                self._send(None, self._config.status_topic, b"offline", retain=True)  # what the will has just said
            else:
                self._subscribe(self._connection)

    def subscription_answered(self, codes: list[ReasonCode], properties: Properties | None) -> None:
        code = codes[0]
        if code.is_failure:
            self._lose(reasons.subscription_refused(self._config, code.getName(), _said(properties)))
        elif code.value == 0:
            self._lose(reasons.subscription_refused(self._config, "it grants QoS 0 only, which loses commands", ""))
        elif self._phase is Phase.SUBSCRIBING:
            self._become_ready()

    def message_came(self, payload: bytes) -> bool | None:
        if self._phase is Phase.STOPPED:
            return False
        try:
            is_stored = self._on_message(payload)
        except Exception:
            logger.exception("a command could not be handled")
            is_stored = False
        if is_stored is None:
            return None
        self._counters.received += 1
        if not is_stored:
            self._counters.not_stored += 1
            self._lose(reasons.not_stored(self._config))
        return is_stored

    def others_came(self, count: int) -> None:
        self._counters.received += count
        self._on_others(count)

    def publish_answered(self, packet_id: int, code: ReasonCode, properties: Properties | None) -> None:
        publish = self._window.take(packet_id)
        if publish is None:
            return  # of a window that was given up: the caller sends the row again
        if self._phase is Phase.PROBING and self._connection is not None:
            self._subscribe(self._connection)
            return
        if code.is_failure:
            reason = reasons.publish_refused(self._config, publish.topic, code.getName(), _said(properties))
            self._publish_refused(publish, reason)
            return
        self._has_delivered = True
        if publish.row_id is not None:
            self._row_delivered(publish.row_id)

    def connection_lost(self, by_broker: bool, code: ReasonCode, properties: Properties | None) -> None:
        if self._phase is Phase.STOPPED:
            self._connection = None
            return
        self._judge_lifetime()
        self._lose(self._why_lost(by_broker, code.getName(), _said(properties)))

    def connection_broken(self, error: Exception) -> None:
        logger.debug("reading from the broker failed", exc_info=error)
        self._lose(reasons.unreadable(self._config, error))

    # --- while ready ---

    def _become_ready(self) -> None:
        self._phase = Phase.READY
        self._probes = False
        self._since = self._now()
        self._due_at = self._since
        self._counters.logins += 1
        self._has_delivered = False
        self._send(None, self._config.status_topic, b"online", retain=True)
        self._reason = ""
        self._log_connected()
        self._tell_state()

    def _begin_window(self) -> None:
        self._window.clear()
        self._windows += 1

    def _may_publish(self) -> bool:
        return self._phase is Phase.READY and not self._is_paused()

    def _is_paused(self) -> bool:
        return self._phase is Phase.READY and self._now() < self._due_at

    def _send(self, row_id: int | None, topic: str, payload: bytes, retain: bool = False) -> bool:
        connection = self._connection
        if connection is None:
            return False
        packet_id = connection.publish(topic, payload, retain)
        if self._connection is not connection:
            return False  # it was lost in the attempt
        self._window.add(packet_id, InFlight(row_id, topic, self._now()))
        return True

    def _row_delivered(self, row_id: int) -> None:
        self._counters.delivered += 1
        try:
            self._on_delivered(row_id)
        except Exception as error:
            logger.exception("delivery of row %d could not be recorded", row_id)
            self._lose(reasons.delivery_not_stored(self._config, error))
            return
        self._set_reason("")  # rows pass again after a refusal

    def _publish_refused(self, publish: InFlight, reason: str) -> None:
        """Keep the connection, for commands still come; give back what is in flight and let no row pass for a while."""
        self._counters.refused += 1
        if publish.row_id is not None:
            self._begin_window()
            self._due_at = self._now() + self._config.refused_pause_s
        self._reason = reason
        self._log_reason()
        self._tell_state()

    def _watch_delivery(self, now: float) -> None:
        oldest = self._window.oldest
        if oldest is not None and now - oldest.sent_at >= self.delivery_timeout_s:
            self._lose(reasons.stalled(self._config, oldest.topic, self.delivery_timeout_s))

    # --- losing and trying again ---

    def _lose(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._phase is Phase.READY:
            self._judge_lifetime()
            self._begin_window()
            self._counters.losses += 1
            self._since = self._now()
            self._reason = ""  # so that the state is told, also when the reason is the one before
        if self._phase is not Phase.STOPPED:
            self._retry_later(reason)

    def _judge_lifetime(self) -> None:
        """A connection that lasted clears the memory of the bad ones before it."""
        if self._phase is Phase.READY and self._now() - self._since >= self._config.stable_s:
            self._backoff.reset()
            self._short_lives = 0
            self._logged = ""

    def _retry_later(self, reason: str) -> None:
        self._phase = Phase.WAITING
        self._due_at = self._now() + self._backoff.next_delay_s()
        self._set_reason(reason)

    def _why_lost(self, by_broker: bool, code: str, said: str) -> str:
        config, error_text = self._config, self._connection.error_text if self._connection else ""
        if by_broker:
            return reasons.disconnected_by_broker(config, code, said)
        if code == "Keep alive timeout":
            return reasons.keepalive_missed(config)
        if code == "Protocol error":
            return reasons.not_mqtt(config) if self._phase is Phase.LOGGING_IN else reasons.unreadable(config)
        if self._phase is Phase.LOGGING_IN:
            return reasons.dropped_at_login(config, error_text)
        if self._phase is Phase.PROBING:
            return reasons.takes_nothing(config)
        if self._phase is Phase.SUBSCRIBING:
            takes_messages, self._probes = self._probes, True
            return reasons.dropped_after_subscribe(config, takes_messages)
        return self._why_closed(error_text)

    def _why_closed(self, error_text: str) -> str:
        """A ready connection just ended: what it was doing, and how often it happens, is all there is to go by."""
        oldest = self._window.oldest
        if oldest is not None and not self._has_delivered:
            return reasons.dropped_after_publish(self._config, oldest.topic)
        if self._now() - self._since < self._config.stable_s:
            self._short_lives += 1
        if self._short_lives >= 2:
            return reasons.short_lived(self._config)
        return reasons.closed(self._config, error_text)

    def _say_goodbye(self, connection: Connection, was_ready: bool, deadline: float) -> None:
        if was_ready:
            self._send(None, self._config.status_topic, b"offline", retain=True)
            connection.drain(lambda: self._window.oldest is None, deadline - self._now())
        connection.disconnect(deadline - self._now())
        self._connection = None

    # --- saying it once ---

    def _set_reason(self, reason: str) -> None:
        if reason == self._reason:
            return
        self._reason = reason
        self._log_reason()
        self._tell_state()

    def _log_reason(self) -> None:
        """Each sentence once until another takes its place; a link that flaps for one reason says it once."""
        if self._reason and self._reason != self._logged and self._phase is not Phase.STOPPED:
            self._logged = self._reason
            self._connected_is_logged = False
            logger.warning("%s", self._reason)

    def _log_connected(self) -> None:
        if not self._connected_is_logged:
            self._connected_is_logged = True
            logger.info("connected to %s, listening on %s", self._config.broker, self._config.command_topic)

    def _tell_state(self) -> None:
        try:
            self._on_state(self.state)
        except Exception:
            logger.exception("the change of the link's state could not be handled")


def _said(properties: Properties | None) -> str:
    """The broker's own explanation, which only MQTT 5 has."""
    return str(getattr(properties, "ReasonString", ""))


def _allowed(window: int, properties: Properties | None) -> int:
    """MQTT 5: a broker ends the connection of a client that has more in flight than its Receive Maximum."""
    receive_maximum: int = getattr(properties, "ReceiveMaximum", 65535)
    return max(min(window, receive_maximum - _RESERVED), 1)

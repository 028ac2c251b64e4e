"""One AMQP connection, from the dial to its end: own queue declared and bound, consumed, published to with confirms."""

import logging
from collections.abc import Callable
from typing import Any, Protocol

import pika
import pika.exceptions
from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from agent.reach import alert, client_context, dial_fault
from router.config import InputConfig, Tls

# pika tells each failure several times over, with a traceback; ours is one sentence.
logging.getLogger("pika").setLevel(logging.CRITICAL + 1)

CONNECT_TIMEOUT_S = 10
_decode = BasicProperties.decode


def _decode_what_can_be(properties: BasicProperties, encoded: bytes, offset: int = 0) -> BasicProperties:
    """Where pika raises, what it has read so far.

    A header it can't read, such as a time after the year 9999, would else end the connection, and the next one too, as
    the message comes again: nobody would get any command any more.
    """
    try:
        return _decode(properties, encoded, offset)
    except Exception:
        return properties


BasicProperties.decode = _decode_what_can_be


class SessionEvents(Protocol):
    """What a session tells its owner. After ``session_lost`` it tells nothing more."""

    def session_ready(self) -> None: ...
    def session_blocked(self, reason: str) -> None: ...  # the broker takes nothing for now; "": it does again
    def message_came(self, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None: ...
    def publish_returned(self, sequence: int) -> None: ...  # no queue takes it; its confirm follows
    def publish_answered(self, sequence: int, multiple: bool, is_taken: bool) -> None: ...
    def session_lost(self, reason: str) -> None: ...


SEQUENCE_HEADER = "x-pile-router"  # on all that a router hands on: tells a loop, and which message came back


class Session:
    """Runs in the thread of ``loop``; used once."""

    def __init__(self, config: InputConfig, address: tuple[str, int], loop: IOLoop, events: SessionEvents) -> None:
        self._config = config
        self._address = address
        self._events: SessionEvents | None = events
        self._on_closed: Callable[[], None] = lambda: None
        self._channel: Channel | None = None
        self._published = 0
        self._consumer = ""
        self._connection = SelectConnection(
            parameters(config, address),
            on_open_callback=self._opened,
            on_open_error_callback=lambda _, error: self._lost(error),
            on_close_callback=lambda _, error: self._closed(error),
            custom_ioloop=loop,
        )

    def publish(self, exchange: str, key: str, body: bytes, properties: BasicProperties) -> int:
        """Send, to be confirmed; the number by which ``publish_answered`` names it."""
        assert self._channel is not None
        self._published += 1
        properties.headers = {**(properties.headers or {}), SEQUENCE_HEADER: self._published}
        properties.delivery_mode = 2
        self._channel.basic_publish(exchange, key, body, properties, mandatory=True)
        return self._published

    def acknowledge(self, tag: int, multiple: bool) -> None:
        if self._channel is not None and self._channel.is_open:
            self._channel.basic_ack(tag, multiple)

    def cancel(self, on_cancelled: Callable[[], None]) -> None:
        """Take no more: another instance may. What is on its way may still be settled and acknowledged."""
        if self._channel is None or not self._channel.is_open:
            on_cancelled()
        else:
            self._channel.basic_cancel(self._consumer, callback=lambda _: on_cancelled())

    def close(self, on_closed: Callable[[], None] = lambda: None) -> None:
        """End it without a word to the owner; what was not acknowledged is given out again.

        ``on_closed``: all that was acknowledged is written, and the broker has said goodbye.
        """
        self._events = None
        if self._connection.is_open or self._connection.is_closing:
            self._on_closed = on_closed
            if self._connection.is_open:
                self._connection.close()
        else:
            on_closed()  # if it is opening it will close when it is open: pika can't bear to be stopped before

    # --- one after the other, until messages come ---

    def _opened(self, connection: Any) -> None:
        if self._events is None:
            connection.close()
            return
        connection.add_on_connection_blocked_callback(self._blocked)
        connection.add_on_connection_unblocked_callback(lambda *_: self._tell(lambda to: to.session_blocked("")))
        connection.channel(on_open_callback=self._channel_opened)

    def _channel_opened(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(lambda _, error: self._lost(error))
        channel.add_on_cancel_callback(lambda _: self._lost(RuntimeError(f"queue {self._config.queue} was deleted")))
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._answered, callback=lambda _: self._declare(channel))

    def _declare(self, channel: Channel) -> None:
        config = self._config
        kind: dict[str, Any] = {} if config.queue_type == "classic" else {"x-queue-type": config.queue_type}
        # A queue that was asked for by other arguments is refused: nobody's queue is taken over by mistake.
        single = {**kind, "x-single-active-consumer": True}
        channel.queue_declare(config.parked_queue, durable=True, arguments=kind, callback=lambda _: None)
        channel.queue_declare(config.queue, durable=True, arguments=single, callback=lambda _: self._bind(channel))

    def _bind(self, channel: Channel) -> None:
        config = self._config
        channel.queue_bind(config.queue, config.exchange, config.routing_key, callback=lambda _: self._consume(channel))

    def _consume(self, channel: Channel) -> None:
        channel.basic_qos(prefetch_count=self._config.prefetch)
        self._consumer = channel.basic_consume(
            self._config.queue, self._delivered, callback=lambda _: self._tell(lambda to: to.session_ready())
        )

    # --- what the broker says ---

    def _delivered(self, _: Any, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        self._tell(lambda to: to.message_came(method, properties, body))

    def _returned(self, _: Any, method: Basic.Return, properties: BasicProperties, body: bytes) -> None:
        sequence = (properties.headers or {})[SEQUENCE_HEADER]
        self._tell(lambda to: to.publish_returned(sequence))

    def _blocked(self, _: Any, frame: Any) -> None:
        host, port = self._address
        reason = f"{host}:{port}: takes no messages for now: {frame.method.reason}"
        self._tell(lambda to: to.session_blocked(reason))

    def _answered(self, frame: Any) -> None:
        answer = frame.method
        is_taken = isinstance(answer, Basic.Ack)
        self._tell(lambda to: to.publish_answered(answer.delivery_tag, answer.multiple, is_taken))

    def _lost(self, error: BaseException) -> None:
        events, self._events = self._events, None
        if not (self._connection.is_closing or self._connection.is_closed):
            self._connection.close()  # a channel closed by the broker leaves the connection open
        if events is not None:
            host, port = self._address
            events.session_lost(f"{host}:{port}: {reason(self._config, error)}")

    def _closed(self, error: BaseException) -> None:
        self._lost(error)
        self._on_closed()

    def _tell(self, what: Callable[[SessionEvents], None]) -> None:
        if self._events is not None:
            what(self._events)


def reason(config: InputConfig, error: BaseException) -> str:
    """What went wrong, in words; RabbitMQ's own where it has some. No password is in them."""
    error = _innermost(error)
    if isinstance(error, (pika.exceptions.ConnectionClosed, pika.exceptions.ChannelClosed)):
        return str(error.reply_text)
    if isinstance(error, pika.exceptions.ProbableAuthenticationError):
        why = "a wrong password, or no such user" if config.username else "its common name is no user of the broker"
        return f"refused the login of {config.username or 'our certificate'}: {why}"
    if isinstance(error, pika.exceptions.ProbableAccessDeniedError):
        return f"vhost {config.vhost} does not exist, or is not for {config.username or 'our certificate'}"
    if isinstance(error, pika.exceptions.IncompatibleProtocolError):  # in TLS 1.3 a certificate is refused only now
        wants = (
            "does it want a client certificate, or another?" if config.tls is not None else "does this port want TLS?"
        )
        hint = f"is it AMQP 0-9-1? {wants}"
        return alert(str(error)) or f"closed the connection before the login: {hint}"
    if isinstance(error, pika.exceptions.StreamLostError):
        return "the connection was lost"
    if isinstance(error, AMQPConnectorStackTimeout):
        error = TimeoutError()
    return dial_fault(error, CONNECT_TIMEOUT_S, config.tls is not None)


def _innermost(error: BaseException) -> BaseException:
    """pika wraps what failed into which phase, which attempt and which workflow it failed in."""
    wrapped = [*getattr(error, "exceptions", ()), getattr(error, "exception", None), *error.args]
    inner = [one for one in wrapped if isinstance(one, BaseException)]
    return _innermost(inner[-1]) if inner else error


def parameters(config: InputConfig, address: tuple[str, int]) -> pika.ConnectionParameters:
    """How to reach one of the hosts. Raises ``TlsFilesError``."""
    host, port = address
    ssl_options = _ssl_options(config.tls, host) if config.tls is not None else None
    return pika.ConnectionParameters(
        host=host,
        port=port,
        virtual_host=config.vhost,
        credentials=pika.PlainCredentials(config.username, config.password)
        if config.username
        else pika.credentials.ExternalCredentials(),
        ssl_options=ssl_options,
        heartbeat=config.heartbeat_s,
        connection_attempts=1,
        socket_timeout=CONNECT_TIMEOUT_S,
        stack_timeout=CONNECT_TIMEOUT_S,
        client_properties={"connection_name": "pile-router"},
    )


def _ssl_options(tls: Tls, host: str) -> pika.SSLOptions:
    return pika.SSLOptions(client_context(tls.ca_file, tls.cert_file, tls.key_file), host)

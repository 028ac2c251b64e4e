"""One connection: a paho client driven by our poller, from the open socket to its end."""

import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.link.dial import Dialled
from agent.poller import Poller


class ConnectionEvents(Protocol):
    """What a connection tells its owner. The owner may publish and close in any of these."""

    def login_answered(self, code: ReasonCode, properties: Properties | None) -> None: ...
    def subscription_answered(self, codes: list[ReasonCode], properties: Properties | None) -> None: ...
    def message_came(self, payload: bytes) -> bool | None: ...  # True: acknowledge it, now; None: not yet
    def others_came(self, count: int) -> None: ...  # messages of other piles, which were dropped
    def publish_answered(self, packet_id: int, code: ReasonCode, properties: Properties | None) -> None: ...
    def connection_lost(self, by_broker: bool, code: ReasonCode, properties: Properties | None) -> None: ...
    def connection_broken(self, error: Exception) -> None: ...  # paho could not make sense of what came


class Connection:
    """Registered with the poller until ``close`` or until it is lost; used once, never opened again.

    The acknowledgement of a message is queued right after the owner took the message: they leave in the order of the
    messages, and never on another connection.
    """

    def __init__(self, dialled: Dialled, poll: Poller, events: ConnectionEvents) -> None:
        self._client = dialled.client
        self._inbound = dialled.inbound
        self._errors = dialled.errors
        self._poll = poll
        self._events = events
        self._socket = cast(socket.socket, dialled.client.socket())
        self._fd = self._socket.fileno()
        self._interest = select.EPOLLIN
        self._inside_event = False
        self._is_open = True
        self._untaken: deque[MQTTMessage] = deque()
        self._set_callbacks(dialled.client)
        poll.register(self._fd, self._interest, self._on_ready)

    @property
    def error_text(self) -> str:
        """paho's last words about the socket, "" if it had none."""
        return self._errors.text

    def subscribe(self, topic: str) -> None:
        self._client.subscribe(topic, qos=1)
        self._show_interest()

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> int:
        """Send at QoS 1; the packet id. Losing the connection meanwhile is told as an event, before this returns."""
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        self._show_interest()
        return info.mid

    def take_messages(self) -> None:
        """Tell anew of the messages that the owner did not take yet, in their order."""
        self._guarded(self._take_messages)

    def tend(self) -> None:
        """Ping when due. Losing the connection is told as an event."""
        self._guarded(self._client.loop_misc)

    def close(self) -> None:
        """Drop the connection without a DISCONNECT: the broker keeps the session and publishes the will."""
        if self._is_open:
            self._forget()
            self._socket.close()

    def drain(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        """Serve this connection alone until ``is_done``, the connection's end or the timeout."""
        deadline = time.monotonic() + timeout_s
        while self._is_open and not is_done():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return
            writers = [self._fd] if self._client.want_write() else []
            select.select([self._fd], writers, [], 0.0 if self._has_read_ahead() else left_s)
            self._on_ready(0)

    def disconnect(self, timeout_s: float) -> None:
        """Say DISCONNECT, so that the will is not published, and close."""
        if self._is_open:
            self._guarded(self._client.disconnect)
            self.drain(lambda: not self._client.want_write(), timeout_s)
        self.close()

    def _set_callbacks(self, client: Client) -> None:
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect

    def _on_ready(self, _events: int) -> None:
        """Read and write what the socket allows. Also right when it is not ready: then nothing happens."""
        self._guarded(self._read_and_write)
        if self._is_open and self._has_read_ahead():
            self._poll.post(self._read_on)

    def _read_and_write(self) -> None:
        """Together: an acknowledgement that is queued by the reading and written at once changes no interest."""
        self._client.loop_read()
        others = self._inbound.take_dropped()
        if others:
            self._events.others_came(others)
        if self._is_open and self._client.want_write():
            self._client.loop_write()  # TCP's own ACK goes with it
        elif self._is_open:
            # The kernel delays it, unless told not to, every time; a broker with Nagle's algorithm waits for it.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _has_read_ahead(self) -> bool:
        """Whether there are bytes that were read from the socket already, so that epoll knows nothing of them."""
        pending: Callable[[], int] = getattr(self._socket, "pending", int)  # of TLS; a plain socket has none
        return self._inbound.has_more or pending() > 0

    def _read_on(self) -> None:
        if self._is_open:
            self._on_ready(0)

    def _guarded(self, call: Callable[[], Any]) -> None:
        """Whatever paho throws at a malformed packet ends this connection, never the loop."""
        outer, self._inside_event = self._inside_event, True
        try:
            call()
        except Exception as error:
            if self._is_open:
                self._events.connection_broken(error)
        finally:
            self._inside_event = outer
        self._show_interest()

    def _show_interest(self) -> None:
        if not self._is_open or self._inside_event:
            return
        interest = select.EPOLLIN | (select.EPOLLOUT if self._client.want_write() else 0)
        if interest != self._interest:
            self._interest = interest
            self._poll.modify(self._fd, interest)

    def _forget(self) -> None:
        self._is_open = False
        self._poll.unregister(self._fd)

    def _on_connect(
        self, _client: Client, _userdata: Any, _flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if self._is_open:
            self._events.login_answered(code, properties)

    def _on_subscribe(
        self, _client: Client, _userdata: Any, _packet_id: int, codes: list[ReasonCode], properties: Properties | None
    ) -> None:
        if self._is_open:
            self._events.subscription_answered(codes, properties)

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._untaken.append(message)
        self._take_messages()

    def _take_messages(self) -> None:
        while self._is_open and self._untaken:
            message = self._untaken[0]
            is_taken = self._events.message_came(bytes(message.payload))
            if is_taken is None:
                break
            self._untaken.popleft()
            if is_taken:
                self._client.ack(message.mid, message.qos)
        self._inbound.drops = not self._untaken

    def _on_publish(
        self, _client: Client, _userdata: Any, packet_id: int, code: ReasonCode, properties: Properties | None
    ) -> None:
        if self._is_open:
            self._events.publish_answered(packet_id, code, properties)

    def _on_disconnect(
        self, _client: Client, _userdata: Any, flags: DisconnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if self._is_open:
            self._forget()
            self._events.connection_lost(flags.is_disconnect_packet_from_server, code, properties)

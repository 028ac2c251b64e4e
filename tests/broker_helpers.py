"""For the tests of the link: the simplest caller of a Link, a platform, and a broker that says what it is told to."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from agent.link.config import LinkConfig
from agent.link.link import Link, LinkState
from agent.poller import Poller

COMMAND = "klc/command/qik"
REPLY = "klc/reply/qik/32010001"
STATUS = "klc/status/qik/32010001"


def config(port: int, **changes: Any) -> LinkConfig:
    """Pile 32010001 at 127.0.0.1, in a hurry."""
    settings: dict[str, Any] = {
        "host": "127.0.0.1",
        "pile": "32010001",
        "client_id": "32010001",
        "connect_timeout_s": 5.0,
        "backoff_first_s": 0.02,
        "backoff_max_s": 0.1,
    }
    return LinkConfig(**{**settings, "port": port, **changes})


def wait_until(condition: Callable[[], object], timeout_s: float = 8.0) -> None:
    """For what happens in other threads and processes."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not reached"
        time.sleep(0.005)


class Pile:
    """A Link and the simplest caller of it: commands go into a list, the outbox is a dict.

    ``with`` starts and stops it. ``accepts`` may be replaced to refuse a command, and each of the hooks to raise.
    """

    def __init__(self, settings: LinkConfig, now: Callable[[], float] = time.monotonic) -> None:
        self.poll = Poller()
        self.received: list[bytes] = []
        self.offered = 0  # messages, accepted or not
        self.others = 0  # messages of other piles that came as their number alone
        self.outbox: dict[int, bytes] = {}
        self.delivered: list[int] = []
        self.states: list[LinkState] = []
        self.accepts: Callable[[bytes], bool | None] = lambda payload: True
        self.before_delivered: Callable[[int], None] = lambda row_id: None
        self.before_state: Callable[[LinkState], None] = lambda state: None
        self.stop_s = 2.0
        self.topic = settings.reply_topic
        self._now = now
        self._window = 0
        self._cursor = 0
        self.link = Link(
            settings, self._on_message, self._on_others, self._on_delivered, self._on_state, self.poll, now, Random(1)
        )

    @property
    def reasons(self) -> list[str]:
        """What was wrong, in the order it was told."""
        return [state.reason for state in self.states if state.reason]

    def put(self, *payloads: bytes) -> None:
        """Add rows to the outbox, numbered from 1."""
        for payload in payloads:
            self.outbox[len(self.outbox) + len(self.delivered) + 1] = payload

    def turn(self) -> None:
        """One round of the main loop, as the agent does it."""
        now = self._now()
        self.poll.wait(min(self.link.next_deadline() - now, 0.02))
        self.link.tick(self._now())
        self.pump()

    def pump(self) -> None:
        window = self.link.state.window
        if window != self._window:
            self._window, self._cursor = window, 0
        for row_id, payload in self.outbox.items():
            if row_id > self._cursor and not self.link.publish(row_id, self.topic, payload):
                return
            self._cursor = max(self._cursor, row_id)

    def run_until(self, condition: Callable[[], object], timeout_s: float = 8.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not reached: {self.link.state}, {len(self.received)} received"
            self.turn()

    def run_until_ready(self) -> None:
        self.run_until(lambda: self.link.state.connected)

    def cut(self) -> None:
        """Cut the connection from the pile's side, as a dying modem does: the broker learns nothing of it from us."""
        connection = self.link._connection
        assert connection is not None
        connection._socket.shutdown(socket.SHUT_RDWR)

    def _on_message(self, payload: bytes) -> bool | None:
        self.offered += 1
        is_accepted = self.accepts(payload)
        if is_accepted:
            self.received.append(payload)
        return is_accepted

    def _on_others(self, count: int) -> None:
        self.others += count

    def _on_state(self, state: LinkState) -> None:
        self.before_state(state)
        self.states.append(state)

    def _on_delivered(self, row_id: int) -> None:
        self.before_delivered(row_id)
        self.delivered.append(row_id)
        self.outbox.pop(row_id)

    def __enter__(self) -> Self:
        self.link.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.link.stop(self.stop_s)
        self.poll.close()


@dataclass(frozen=True)
class Heard:
    topic: str
    payload: bytes
    retain: bool


class Platform:
    """A client in a thread of its own that publishes commands and hears all else. It finds a restarted broker again.

    ``presence``: the topics of presence it subscribes to. RabbitMQ keeps what is retained from wildcards.
    """

    def __init__(
        self, port: int, username: str | None = None, password: str | None = None, presence: str = "klc/status/#"
    ) -> None:
        self.heard: list[Heard] = []
        self.subscriptions = 0  # one more each time it found the broker
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.username, self._client.password = username, password
        self._client.reconnect_delay_set(0.05, 0.1)  # type: ignore[arg-type]  # paho says int, and takes this
        # QoS 0: each message is written to this socket when it comes, so that none is left in a broker that is killed.
        self._client.on_connect = lambda client, *_: client.subscribe([("klc/reply/#", 0), (presence, 0)])
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)

    def command(self, *payloads: bytes, topic: str = COMMAND) -> None:
        """Publish, and wait until the broker has it."""
        for payload in payloads:
            self._client.publish(topic, payload, qos=1).wait_for_publish(5.0)

    def payloads(self, topic: str) -> list[bytes]:
        return [heard.payload for heard in self.heard if heard.topic == topic]

    def _on_subscribe(self, *_: Any) -> None:
        self.subscriptions += 1

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self.heard.append(Heard(message.topic, bytes(message.payload), message.retain))

    def __enter__(self) -> Self:
        self._client.loop_start()
        wait_until(lambda: self.subscriptions == 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()


CONNECT, PUBLISH, SUBSCRIBE, PINGREQ = 1, 3, 8, 12  # MQTT packet types
CLOSE = None

Answer = bytes | Callable[[bytes], bytes] | None


def puback(packet: bytes) -> bytes:
    """The acknowledgement of a PUBLISH at QoS 1, MQTT 3.1.1."""
    topic_length = int.from_bytes(packet[2:4], "big")
    return b"\x40\x02" + packet[4 + topic_length : 6 + topic_length]


class ScriptedBroker:
    """Answers each packet type with the bytes given; ``CLOSE`` closes the connection; any other type gets no answer."""

    def __init__(self, answers: Mapping[int, Answer], tls: ssl.SSLContext | None = None) -> None:
        self.packets: list[bytes] = []
        self.connections = 0
        self._tls = tls
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with connection, contextlib.suppress(OSError):
                    self._serve_one(self._tls.wrap_socket(connection, server_side=True) if self._tls else connection)

    def _serve_one(self, connection: socket.socket) -> None:
        for packet in _packets(connection):
            self.packets.append(packet)
            answer = self._answers.get(packet[0] >> 4, b"")
            if answer is CLOSE:
                return
            connection.sendall(answer(packet) if callable(answer) else answer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept
        self._listener.close()
        self._thread.join(5.0)


def _packets(connection: socket.socket) -> Iterator[bytes]:
    """Whole packets, as long as none is longer than 127 bytes."""
    while True:
        head = _exactly(connection, 2)
        if len(head) < 2:
            return
        yield head + _exactly(connection, head[1])


def _exactly(connection: socket.socket, count: int) -> bytes:
    """Fewer at the end of the connection."""
    data = b""
    while len(data) < count and (piece := connection.recv(count - len(data))):
        data += piece
    return data

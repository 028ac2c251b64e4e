"""The platform's end of the wire, for ``send`` and the simulator: publishes commands, hears replies. It has a client id
of its own, so that it can run beside the agent."""

import socket
import threading
import uuid
from collections.abc import Callable
from types import TracebackType

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.link.config import LinkConfig

READY_S = 10.0


class PlatformClient:
    """Connected between ``__enter__`` and ``__exit__``. ``heard`` gets every reply's line, ``failed`` a sentence when
    the broker can't be reached or refuses; both are called from paho's thread."""

    def __init__(self, config: LinkConfig, heard: Callable[[bytes], object], failed: Callable[[str], object]) -> None:
        self._config = config
        self._heard = heard
        self._failed = failed
        self._is_ready = threading.Event()
        self._client = self._new_client(config)

    def __enter__(self) -> "PlatformClient":
        try:
            self._client.connect(self._config.host, self._config.port, self._config.keepalive_s)
        except OSError as error:
            self._failed(f"{self._config.broker}: {error.strerror or error}")
            return self
        self._client.loop_start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, line: bytes, timeout_s: float = READY_S) -> None:
        """Publish a command once replies can be heard."""
        self._is_ready.wait(min(timeout_s, READY_S))
        self._client.publish(self._config.command_topic, line, qos=1)

    def _new_client(self, config: LinkConfig) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"platform-{uuid.uuid4().hex[:12]}")
        if config.username:
            client.username_pw_set(config.username, config.password)
        if config.tls is not None:
            client.tls_set(config.tls.ca_file, config.tls.cert_file, config.tls.key_file)
        client.on_socket_open = _without_delay
        client.on_publish = self._published
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_message = self._message_came
        return client

    def _message_came(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        _without_delay(self._client, None, self._client.socket())
        self._heard(bytes(message.payload))

    def _published(
        self, client: mqtt.Client, _userdata: object, _mid: int, _code: ReasonCode, _properties: Properties | None
    ) -> None:
        _without_delay(client, None, client.socket())

    def _connected(
        self, client: mqtt.Client, _userdata: object, _flags: object, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._failed(f"{self._config.broker} refuses the login: {code.getName()}")
        else:
            client.subscribe(self._config.reply_topic, qos=1)

    def _subscribed(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _mid: int,
        codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if codes[0].is_failure:
            self._failed(f"{self._config.broker} refuses the subscription to {self._config.reply_topic}")
        else:
            self._is_ready.set()


def _without_delay(_client: mqtt.Client, _userdata: object, sock: object) -> None:
    """Small packets go at once, and so do our ACKs: a broker that holds a packet back for them costs 40 ms a message.
    The second setting lasts only until the kernel changes its mind, hence after each message."""
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

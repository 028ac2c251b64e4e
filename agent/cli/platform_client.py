"""The platform's end of the wire, for ``send`` and the simulator: publishes commands, hears replies. It has a client id
of its own, so that it can run beside the agent."""

import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.link import reasons
from agent.link.config import LinkConfig

READY_S = 10.0
RECONNECT_MOST_S = 2


class PlatformError(Exception):
    """The broker can't be reached or refuses; the text is the whole sentence."""


class PlatformClient:
    """Connected, and hearing replies, between ``__enter__`` and ``__exit__``; a lost broker is found again.

    ``heard`` gets every reply's line, in paho's thread. A client with a ``session`` name also gets what came while it
    was away.
    """

    def __init__(
        self, config: LinkConfig, heard: Callable[[bytes], object], session: str = "", timeout_s: float = READY_S
    ) -> None:
        self._config = replace(config, client_id=session or f"platform-{uuid.uuid4().hex[:12]}")
        self._heard = heard
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._is_ready = False
        self._refusal = ""
        self._client = self._new_client(keeps_session=bool(session))

    def __enter__(self) -> Self:
        config, client = self._config, self._client
        try:
            if config.tls is not None:
                client.tls_set(config.tls.ca_file, config.tls.cert_file, config.tls.key_file)
            client.connect(config.host, config.port, config.keepalive_s)
        except (OSError, ValueError) as error:  # ValueError: an impossible host name
            raise PlatformError(reasons.dial_failed(config, error)) from error
        client.loop_start()
        try:
            self.wait_until_ready()
        except PlatformError:
            self._disconnect()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._disconnect()

    def publish(self, line: bytes) -> None:
        """Publish a command once replies can be heard. Raises ``PlatformError`` when they can't: nothing was sent."""
        self.wait_until_ready()
        self._client.publish(self._config.command_topic, line, qos=1)

    def wait_until_ready(self) -> None:
        """Until replies can be heard. Raises ``PlatformError``."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ready or self._refusal, self._timeout_s)
            if not self._is_ready:
                raise PlatformError(
                    self._refusal or f"{self._config.broker} did not answer within {self._timeout_s:g} s"
                )

    def _disconnect(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _new_client(self, keeps_session: bool) -> mqtt.Client:
        config = self._config
        is_v5 = config.protocol == "5"
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=config.client_id,
            clean_session=None if is_v5 else not keeps_session,
            protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
        )
        client.username, client.password = config.username, config.password
        client.connect_timeout = min(config.connect_timeout_s, self._timeout_s)
        client.reconnect_delay_set(1, RECONNECT_MOST_S)
        client.on_socket_open = _without_delay
        client.on_publish = self._published
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_message = self._message_came
        return client

    # ---- what paho tells ----

    def _message_came(self, client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        _without_delay(client, None, client.socket())
        self._heard(bytes(message.payload))

    def _published(
        self, client: mqtt.Client, _userdata: object, _mid: int, _code: ReasonCode, _properties: Properties | None
    ) -> None:
        _without_delay(client, None, client.socket())

    def _connected(
        self, client: mqtt.Client, _userdata: object, _flags: object, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._become(refusal=reasons.login_refused(self._config, code.getName(), ""))
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
            self._become(refusal=f"{self._config.broker} refuses the subscription to {self._config.reply_topic}")
        else:
            self._become(is_ready=True)

    def _disconnected(self, *_: object) -> None:
        self._become(refusal=self._refusal)

    def _become(self, is_ready: bool = False, refusal: str = "") -> None:
        with self._changed:
            self._is_ready, self._refusal = is_ready, refusal
            self._changed.notify_all()


def _without_delay(_client: mqtt.Client, _userdata: object, sock: object) -> None:
    """Small packets go at once, and so do our ACKs: a broker that holds a packet back for them costs 40 ms a message.
    The second setting lasts only until the kernel changes its mind, hence after each message."""
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

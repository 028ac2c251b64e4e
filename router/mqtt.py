"""Output to an MQTT 5 broker: paho in a thread of its own, which tells the loop what became of each message."""

import threading
from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, Protocol

from paho.mqtt.client import MQTT_LOG_ERR, Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.reach import alert, client_context, dial_fault, errno_text, last_words
from router.config import MqttOutputConfig
from router.window import Job

_NO_MATCHING_SUBSCRIBERS = 0x10  # MQTT 5, 3.4.2.1: no session, not even one that is offline, wants the message
_CONNECT_TIMEOUT_S = 10
_KEEPALIVE_S = 10  # a broker that hangs is given up within two of them, and the queue left to another instance


class Outcome(Enum):
    TAKEN = "taken"
    NOBODY = "nobody"  # has a session that wants it
    REFUSED = "refused"


class OutputEvents(Protocol):
    """Called in the router's thread. After ``output_lost`` nothing more is told."""

    def output_ready(self) -> None: ...
    def output_answered(self, job: Job, outcome: Outcome) -> None: ...
    def output_lost(self, reason: str) -> None: ...


class MqttOutput:
    """One connection, from the dial to its end; used once. The session is clean: what it had in flight dies with it."""

    def __init__(
        self, config: MqttOutputConfig, post: Callable[[Callable[[], None]], None], events: OutputEvents
    ) -> None:
        """``post`` runs a callable in the router's thread."""
        self._config = config
        self._post = post
        self._events: OutputEvents | None = events
        self._receive_maximum = 0  # what the broker allows in flight: more would end the connection
        self._waiting: deque[tuple[Job, str]] = deque()
        self._in_flight: dict[int, Job] = {}  # by packet id
        self._error = ""  # the latest, in paho's words
        self._client = self._new_client()
        threading.Thread(target=self._run, name="mqtt-output", daemon=True).start()

    def publish(self, job: Job, topic: str) -> None:
        """Send at QoS 1, as soon as the broker allows."""
        self._waiting.append((job, topic))
        self._pump()

    def close(self) -> None:
        self._events = None
        self._waiting.clear()
        self._client.disconnect()

    def _pump(self) -> None:
        while self._waiting and len(self._in_flight) < self._receive_maximum:
            job, topic = self._waiting.popleft()
            self._in_flight[self._client.publish(topic, job.body, qos=1).mid] = job

    def _connected(self, receive_maximum: int) -> None:
        self._receive_maximum = receive_maximum
        if self._events is not None:
            self._events.output_ready()

    def _answered(self, packet_id: int, outcome: Outcome) -> None:
        job = self._in_flight.pop(packet_id)
        if self._events is not None:
            self._events.output_answered(job, outcome)
        self._pump()

    def _lost(self, why: str) -> None:
        events, self._events = self._events, None
        if events is not None:
            events.output_lost(f"{self._config.host}:{self._config.port}: {why}")

    # --- in the thread of paho ---

    def _new_client(self) -> Client:
        config = self._config
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=config.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.max_inflight_messages = 0  # the limit is ours: paho does not follow the broker's
        client.username, client.password = config.username or None, config.password or None
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_socket_close = self._on_socket_close
        client.on_log = self._on_log
        return client

    def _run(self) -> None:
        try:
            if (files := self._config.tls) is not None:
                self._client.tls_set_context(client_context(files.ca_file, files.cert_file, files.key_file))
            self._client.connect(self._config.host, self._config.port, _KEEPALIVE_S, clean_start=True)
            self._client.loop_forever()
        except Exception as error:  # whatever ends this thread is a loss, and must be told
            self._lose(dial_fault(error, _CONNECT_TIMEOUT_S, self._config.tls is not None))

    def _on_connect(self, _: Client, __: Any, ___: Any, code: ReasonCode, properties: Properties | None) -> None:
        if code.is_failure:
            self._lose(f"refused the login: {code.getName()}")
            return
        self._post(partial(self._connected, getattr(properties, "ReceiveMaximum", 65535)))

    def _on_publish(self, _: Client, __: Any, packet_id: int, code: ReasonCode, ___: Any) -> None:
        if code.is_failure:
            outcome = Outcome.REFUSED
        else:
            outcome = Outcome.NOBODY if code.value == _NO_MATCHING_SUBSCRIBERS else Outcome.TAKEN
        self._post(partial(self._answered, packet_id, outcome))

    def _on_disconnect(self, _: Client, __: Any, ___: Any, code: ReasonCode, ____: Any) -> None:
        if code.is_failure and self._error:
            self._lose(alert(self._error) or errno_text(self._error) or self._error)
        else:
            self._lose(f"closed the connection: {code.getName()}")

    def _on_log(self, _: Client, __: Any, level: int, text: str) -> None:
        if level == MQTT_LOG_ERR:  # nothing else tells why a socket failed
            self._error = text

    def _on_socket_close(self, _: Client, __: Any, sock: Any) -> None:
        if self._config.tls is not None:
            self._error = last_words(sock) or self._error

    def _lose(self, why: str) -> None:
        self._post(partial(self._lost, why))

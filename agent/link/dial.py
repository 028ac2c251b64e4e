"""Making a connection: name lookup, TCP and the TLS handshake all block, so a short-lived thread does them."""

import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent import reach
from agent.link import reasons
from agent.link.config import LinkConfig, TlsConfig
from agent.link.inbound import Inbound, InboundClient
from agent.poller import Poller

if TYPE_CHECKING:
    import ssl


class LastError(logging.Handler):
    """Keeps the text of paho's latest error: nothing else tells why a socket failed, on_disconnect only that it did."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


@dataclass(frozen=True)
class Dialled:
    """A paho client whose socket is open, non-blocking, and has sent CONNECT. It has no callbacks yet. ``inbound``:
    what it reads, in the shared mode without TLS; else nothing is in there."""

    client: Client
    inbound: Inbound
    errors: LastError


class DialError(Exception):
    """The broker was not reached; the text is the whole sentence."""


class Dialler:
    """Runs one dial at a time in a thread of its own. The result arrives in the poller's thread.

    Until then the thread alone touches the client, afterwards the poller's thread alone does.
    """

    def __init__(
        self, config: LinkConfig, poll: Poller, on_dialled: Callable[[Dialled], None], on_failed: Callable[[str], None]
    ) -> None:
        self._config = config
        self._poll = poll
        self._on_dialled = on_dialled
        self._on_failed = on_failed
        self._thread: threading.Thread | None = None
        self._abandoned = False
        self._lock = threading.Lock()

    def dial(self) -> None:
        """Raises RuntimeError when no thread can be started."""
        self._thread = threading.Thread(target=self._run, name="mqtt-dial", daemon=True)
        self._thread.start()

    def abandon(self, timeout_s: float) -> None:
        """Nothing is posted after this. Waits a while for a running dial, whose name lookup can't be interrupted."""
        with self._lock:
            self._abandoned = True
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(max(timeout_s, 0.0))

    def _run(self) -> None:
        try:
            dialled = dial(self._config)
        except DialError as error:
            self._hand_over(partial(self._on_failed, str(error)))
        else:
            self._hand_over(partial(self._on_dialled, dialled))

    def _hand_over(self, result: Callable[[], None]) -> None:
        with self._lock:  # an abandoned dial must not reach for a poller that is closed by now
            if not self._abandoned:
                self._poll.post(result)


def dial(config: LinkConfig) -> Dialled:
    """Look up, connect, shake hands, send CONNECT. Blocks; raises DialError."""
    errors = LastError()
    inbound = Inbound(config.pile, config.protocol == "5")
    client = new_client(config, errors, inbound)
    try:
        if config.protocol == "5":
            client.connect(config.host, config.port, config.keepalive_s, clean_start=False, properties=_session(config))
        else:
            client.connect(config.host, config.port, config.keepalive_s)
    except Exception as error:  # OSError, ssl.SSLError, UnicodeError of an impossible host name, ValueError of a port
        raise DialError(reasons.dial_failed(config, error)) from error
    if client.socket() is None:  # paho closed it because CONNECT could not be sent
        raise DialError(reasons.dropped_at_login(config, errors.text))
    return Dialled(client, inbound, errors)


def new_client(config: LinkConfig, errors: LastError, inbound: Inbound) -> Client:
    """A paho client for one connection.

    Each connection has a client of its own, so that nothing of the last one can leak into it: no half-read packet,
    no queue of publishes that paho would resend between ours, no packet id of an acknowledgement that comes too late.
    """
    is_v5 = config.protocol == "5"
    drops = config.tls is None and config.mode == "shared"  # on a topic of its own no other pile's messages come
    new = partial(InboundClient, inbound) if drops else Client
    client = new(
        CallbackAPIVersion.VERSION2,
        client_id=config.client_id,
        clean_session=None if is_v5 else False,
        protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,  # else a refused protocol version makes paho dial again inside loop_read, blocking
        manual_ack=True,
    )
    logger = logging.Logger("paho", logging.ERROR)  # outside the tree: paho's own words reach no log
    logger.addHandler(errors)
    client.enable_logger(logger)
    client.max_inflight_messages = 0  # unlimited: the window is ours, and paho must never queue behind it
    client.connect_timeout = config.connect_timeout_s
    client.username = config.username
    client.password = config.password
    client.will_set(config.status_topic, b"offline", qos=1, retain=True)
    client.on_socket_open = _set_no_delay
    if config.tls is not None:
        client.tls_set_context(_tls_context(config, config.tls))
        client.on_socket_close = partial(_read_last_words, errors)
    return client


def _session(config: LinkConfig) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = config.session_expiry_s
    return properties


def _set_no_delay(_client: Client, _userdata: Any, sock: Any) -> None:
    # Nagle's algorithm and the delayed ACK of the other side cost 40 ms per QoS 1 publish.
    cast(socket.socket, sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _read_last_words(errors: LastError, _client: Client, _userdata: Any, sock: Any) -> None:
    """paho may have had another error since, which tells less."""
    errors.text = reach.last_words(cast(socket.socket, sock)) or errors.text


def _tls_context(config: LinkConfig, files: TlsConfig) -> "ssl.SSLContext":
    try:
        return reach.client_context(files.ca_file, files.cert_file, files.key_file)
    except reach.TlsFilesError as error:
        raise DialError(reasons.tls_files(config, error)) from error

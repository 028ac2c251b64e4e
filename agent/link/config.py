"""What the link needs to know about its broker, and the names of the topics."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class TlsConfig:
    """PEM files; all are read anew at every dial, so that a renewed certificate needs no restart."""

    ca_file: str | None = None  # None: the authorities the system trusts
    cert_file: str | None = None
    key_file: str | None = None  # None: the key is in cert_file


@dataclass(frozen=True)
class ServerTiming:
    """Where another server (106) comes in: how long it is tried, and after what time out of reach the other one of the
    two that are known is used."""

    trial_s: float = 60.0
    fallback_s: float = 600.0


@dataclass(frozen=True)
class LinkConfig:
    host: str
    port: int
    pile: str
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)  # a config that is printed must not tell it
    tls: TlsConfig | None = None
    mode: Literal["shared", "routed"] = "shared"
    topic_prefix: str = "klc"
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    keepalive_s: int = 30
    connect_timeout_s: float = 10.0  # each for: TCP to one address, TLS, the answer to the login, to the subscription
    delivery_timeout_s: float = 20.0  # the oldest publish unacknowledged for longer: the connection is given up
    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    boot_spread_s: float = 10.0  # after a boot of the board the first dial waits any time up to this
    stable_s: float = 30.0  # a connection that lived this long was a good one: back-off and complaints start anew
    refused_pause_s: float = 30.0  # after the broker refused a publish, before the next try
    session_expiry_s: int = 7 * 86400  # MQTT 5; in 3.1.1 the broker decides
    window: int = 20  # publishes in flight

    @property
    def broker(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def command_topic(self) -> str:
        shared = f"{self.topic_prefix}/command/qik"
        return shared if self.mode == "shared" else f"{shared}/{self.pile}"

    @property
    def reply_topic(self) -> str:
        return f"{self.topic_prefix}/reply/qik/{self.pile}"

    @property
    def status_topic(self) -> str:
        return f"{self.topic_prefix}/status/qik/{self.pile}"

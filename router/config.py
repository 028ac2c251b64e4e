"""The router's configuration file: a table of keys, every fault named at once."""

import ipaddress
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from router.routing import COMMAND_KEY, would_loop

PLATFORM_QUEUE = "qik_pricechange"


class ConfigError(Exception):
    """A configuration that can't be used. ``faults``: every reason, each naming key, value and what was expected."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Tls:
    """PEM files, read anew at every connect. Without a user name the certificate is the login."""

    ca_file: str
    cert_file: str
    key_file: str


@dataclass(frozen=True)
class InputConfig:
    hosts: tuple[tuple[str, int], ...]
    vhost: str
    username: str
    password: str = field(repr=False)
    exchange: str
    routing_key: str
    queue: str
    queue_type: Literal["classic", "quorum"]
    parked_queue: str
    prefetch: int
    heartbeat_s: int
    reconnect_max_s: int
    tls: Tls | None


@dataclass(frozen=True)
class AmqpOutputConfig:
    exchange: str
    retry_s: int


@dataclass(frozen=True)
class MqttOutputConfig:
    host: str
    port: int
    client_id: str
    username: str
    password: str = field(repr=False)
    topic_prefix: str
    retry_s: int
    tls: Tls | None


@dataclass(frozen=True)
class Config:
    input: InputConfig
    output: AmqpOutputConfig | MqttOutputConfig
    metrics: tuple[str, int]
    log_level: str


@dataclass(frozen=True)
class _Key:
    kind: type
    default: Any
    low: int = 0
    high: int = 0
    choices: tuple[str, ...] = ()
    needed: bool = False  # an empty text is none

    def fault(self, value: Any) -> str:
        """What was expected instead of ``value``; "" when it is good."""
        kind: type = type(value)
        if kind is not self.kind:
            return {str: "text", int: "an integer", list: "a list of texts"}[self.kind]
        if self.choices and value not in self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is int and not self.low <= value <= self.high:
            return f"an integer {self.low}..{self.high}"
        if self.kind is list and not (value and all(isinstance(one, str) for one in value)):
            return "a list of texts"
        return "text that is not empty" if self.needed and value == "" else ""


_LOGIN = {"username": _Key(str, ""), "password": _Key(str, ""), "password_file": _Key(str, "")}
_TLS = {"ca_file": _Key(str, ""), "cert_file": _Key(str, ""), "key_file": _Key(str, "")}
TABLES: dict[str, dict[str, _Key]] = {
    "input": {
        "hosts": _Key(list, ["127.0.0.1:5672"]),
        "vhost": _Key(str, "/", needed=True),
        **_LOGIN,
        "exchange": _Key(str, "cdz_command_topic_exchange", needed=True),
        "routing_key": _Key(str, COMMAND_KEY, needed=True),
        "queue": _Key(str, "pile_router", needed=True),
        "queue_type": _Key(str, "classic", choices=("classic", "quorum")),
        "parked_queue": _Key(str, "pile_router_parked", needed=True),
        "prefetch": _Key(int, 1000, low=1, high=65535),
        "heartbeat_s": _Key(int, 10, low=1, high=600),
        "reconnect_max_s": _Key(int, 30, low=1, high=600),
    },
    "input.tls": _TLS,
    "output": {
        "kind": _Key(str, "amqp", choices=("amqp", "mqtt")),
        "exchange": _Key(str, "cdz_command_topic_exchange", needed=True),
        # RabbitMQ closes the channel of who has not acknowledged a message in 30 minutes (consumer_timeout).
        "retry_s": _Key(int, 60, low=1, high=1200),
    },
    "output.mqtt": {
        "host": _Key(str, "127.0.0.1", needed=True),
        "port": _Key(int, 1883, low=1, high=65535),
        "client_id": _Key(str, "pile-router", needed=True),
        **_LOGIN,
        "topic_prefix": _Key(str, "klc", needed=True),
    },
    "output.mqtt.tls": _TLS,
    "metrics": {"listen": _Key(str, "127.0.0.1:9108", needed=True)},
    "router": {"log_level": _Key(str, "info", choices=("debug", "info", "warning", "error"))},
}


def load_config(path: Path) -> Config:
    """The configuration in a TOML file. Raises ``ConfigError`` with every fault."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    return _Reader(path, tree).config()


class _Reader:
    """Reads a parsed file, collecting faults instead of stopping at the first."""

    def __init__(self, path: Path, tree: dict[str, Any]) -> None:
        self._path = path
        self._faults: list[str] = []
        self._present: set[str] = set()
        self._values = {name: {key: one.default for key, one in keys.items()} for name, keys in TABLES.items()}
        self._walk("", tree)

    def config(self) -> Config:
        made = Config(
            input=self._input(),
            output=self._mqtt_output() if self._values["output"]["kind"] == "mqtt" else self._amqp_output(),
            metrics=self._loopback(self._values["metrics"]["listen"]),
            log_level=self._values["router"]["log_level"],
        )
        if self._faults:
            raise ConfigError(self._faults)
        return made

    def _walk(self, name: str, table: dict[str, Any]) -> None:
        if name in TABLES:
            self._present.add(name)
        for key, value in table.items():
            inner = f"{name}.{key}" if name else key
            if isinstance(value, dict) and any(known.startswith(inner) for known in TABLES):
                self._walk(inner, value)
            elif name in TABLES and key in TABLES[name]:
                self._set(name, key, value)
            else:
                self._faults.append(f"{self._path}: {inner}: unknown")

    def _set(self, table: str, key: str, value: Any) -> None:
        expected = TABLES[table][key].fault(value)
        if expected:
            self._fault(f"{table}.{key}", "***" if key == "password" else repr(value), expected)
        else:
            self._values[table][key] = value

    def _fault(self, key: str, value: str, expected: str) -> None:
        self._faults.append(f"{self._path}: {key} = {value}, expected {expected}")

    def _input(self) -> InputConfig:
        values = self._values["input"]
        self._check_queues(values)
        password = self._password("input")
        if not (values["username"] or password or self._values["input.tls"]["cert_file"]):
            self._fault("input.username", "''", "a user, or a certificate in input.tls.cert_file")
        return InputConfig(
            hosts=tuple(self._address("input.hosts", host) for host in values["hosts"]),
            vhost=values["vhost"],
            username=values["username"],
            password=password,
            exchange=values["exchange"],
            routing_key=values["routing_key"],
            queue=values["queue"],
            queue_type=cast(Literal["classic", "quorum"], values["queue_type"]),
            parked_queue=values["parked_queue"],
            prefetch=values["prefetch"],
            heartbeat_s=values["heartbeat_s"],
            reconnect_max_s=values["reconnect_max_s"],
            tls=self._tls("input.tls"),
        )

    def _check_queues(self, values: dict[str, Any]) -> None:
        for key in ("queue", "parked_queue"):
            if values[key] == PLATFORM_QUEUE:
                self._fault(f"input.{key}", repr(values[key]), "a queue of the router's own: that one has its consumer")
        if values["queue"] == values["parked_queue"]:
            self._fault("input.parked_queue", repr(values["parked_queue"]), "another queue than input.queue")
        same_exchange = self._values["output"]["kind"] == "amqp" and values["exchange"] == self._exchange_out
        if same_exchange and would_loop(values["routing_key"]):
            what = f"a key that does not match what the router itself publishes, {COMMAND_KEY}.<pile>"
            self._fault("input.routing_key", repr(values["routing_key"]), what)

    @property
    def _exchange_out(self) -> str:
        return cast(str, self._values["output"]["exchange"])

    def _amqp_output(self) -> AmqpOutputConfig:
        for table in sorted(self._present & {"output.mqtt", "output.mqtt.tls"}):
            self._faults.append(f"{self._path}: {table}: only with output.kind = 'mqtt'")
        return AmqpOutputConfig(self._exchange_out, self._values["output"]["retry_s"])

    def _mqtt_output(self) -> MqttOutputConfig:
        values = self._values["output.mqtt"]
        if re.search(r"[+#\x00-\x1f]", values["topic_prefix"]):
            self._fault(
                "output.mqtt.topic_prefix", repr(values["topic_prefix"]), "text without +, # or control character"
            )
        return MqttOutputConfig(
            host=values["host"],
            port=values["port"],
            client_id=values["client_id"],
            username=values["username"],
            password=self._password("output.mqtt"),
            topic_prefix=values["topic_prefix"],
            retry_s=self._values["output"]["retry_s"],
            tls=self._tls("output.mqtt.tls"),
        )

    def _password(self, table: str) -> str:
        values = self._values[table]
        password: str = values["password"]
        if values["password_file"]:
            try:
                password = Path(values["password_file"]).read_text(encoding="utf-8").partition("\n")[0]
            except (OSError, UnicodeDecodeError) as error:
                what = error.strerror if isinstance(error, OSError) else "UTF-8 text"
                self._fault(f"{table}.password_file", repr(values["password_file"]), f"a file with a password: {what}")
        if password and not values["username"]:
            self._fault(f"{table}.username", "''", "the user whose password is given")
        return password

    def _tls(self, table: str) -> Tls | None:
        if table not in self._present:
            return None
        values = self._values[table]
        for key, path in values.items():
            if path and not Path(path).is_file():
                self._fault(f"{table}.{key}", repr(path), "a file that exists")
        return Tls(**values)

    def _address(self, key: str, text: str) -> tuple[str, int]:
        host, _, port = text.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
            self._fault(key, repr(text), "host:port")
            return "", 0
        return host.strip("[]"), int(port)

    def _loopback(self, text: str) -> tuple[str, int]:
        """Counters are nobody's business beyond this machine."""
        host, port = self._address("metrics.listen", text)
        try:
            is_loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_loopback = host == "localhost"
        if host and not is_loopback:
            self._fault("metrics.listen", repr(text), "a loopback address, as 127.0.0.1:9108")
        return host, port

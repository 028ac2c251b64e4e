"""Brokers to try the agent against, each its own process on 127.0.0.1: the embedded one from pip, and mosquitto."""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import pbkdf2_hmac
from pathlib import Path
from types import TracebackType
from typing import Self

SHIPPED = Path(__file__).parents[1] / "brokers"
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")  # of dialled connections: the first port and the last
_LOWEST_PORT = 10_000


class BrokerError(Exception):
    """The broker did not start; the text holds the end of its log."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago, and that no connection dialled meanwhile gets by chance."""
    first_outgoing = int(_OUTGOING.read_text().split()[0])
    while True:
        port = _LOWEST_PORT + secrets.randbelow(first_outgoing - _LOWEST_PORT) if first_outgoing > _LOWEST_PORT else 0
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found: int = probe.getsockname()[1]
            return found


class Broker(ABC):
    """A broker process with its own folder, on the same port for all its life. ``with`` starts and stops it."""

    host = "127.0.0.1"
    ready_s = 10.0  # it starts or stops within this
    stop_s = 5.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def port_v5(self) -> int:
        """Where it speaks MQTT 5; ``port`` is for 3.1.1."""

    @property
    def ports(self) -> tuple[int, ...]:
        """All that must accept connections before it is ready."""
        return (self.port, self.port_v5)

    @property
    def environment(self) -> dict[str, str] | None:
        """Of its process; None: ours."""
        return None

    @abstractmethod
    def _command(self) -> list[str]:
        """Write the configuration; the command that runs it."""

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BrokerError("not running")
        return self._process.pid

    @property
    def log(self) -> str:
        path = self.folder / "broker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> Self:
        """Run it until it accepts connections; raises BrokerError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "broker.log", "ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment,
            )
        deadline = time.monotonic() + self.ready_s
        while not all(self._accepts(port) for port in self.ports):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill9()
                raise BrokerError(f"{type(self).__name__} did not start: {self.log[-500:]}")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """End it in its own time (SIGTERM). Nothing happens when it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self.stop_s)
        except subprocess.TimeoutExpired:
            self.kill9()
        self._process = None

    def kill9(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _accepts(self, port: int) -> bool:
        try:
            with socket.create_connection((self.host, port), timeout=1.0):
                return True
        except OSError:
            return False


_RUMQTTD = """\
id = 0

[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
"""

_RUMQTTD_LISTENER = """
[{version}.1]
name = "{version}"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[{version}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 131072
max_inflight_count = 100
dynamic_filters = true
"""


class EmbeddedBroker(Broker):
    """rumqttd out of the ``iotcore`` wheel: needs no installation and no root. It keeps everything in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._port_v5 = free_port()

    @property
    def port_v5(self) -> int:
        return self._port_v5

    def _command(self) -> list[str]:
        listeners = [("v4", self.port), ("v5", self._port_v5)]  # rumqttd's v4 is MQTT 3.1.1
        config = self.folder / "rumqttd.toml"
        config.write_text(_RUMQTTD + "".join(_RUMQTTD_LISTENER.format(version=v, port=p) for v, p in listeners))
        # It calls each packet an error at ERROR.
        return [sys.executable, "-m", "iotcore", "--config", str(config), "--log-level", "CRITICAL"]


@dataclass(frozen=True)
class ServerTls:
    """PEM files. With ``client_ca_file`` every client must show a certificate of that authority."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None


class Mosquitto(Broker):
    """The real mosquitto: what is stored outlives a stop, and all but the last second outlives ``kill9``."""

    def __init__(
        self,
        folder: Path,
        users: Mapping[str, str] | None = None,
        acl: Sequence[str] | None = None,
        tls: ServerTls | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        """``users``: name → password, no one else gets in. ``acl``, ``extra``: lines of its ACL and config files."""
        super().__init__(folder)
        self._users = users
        self._acl = acl
        self._tls = tls
        self._extra = extra

    @property
    def port_v5(self) -> int:
        return self.port

    @staticmethod
    def program() -> str | None:
        """The path of mosquitto, None where it is not installed. Debian puts it where only root looks."""
        return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

    def _command(self) -> list[str]:
        program = self.program()
        if program is None:
            raise BrokerError("mosquitto is not installed")
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join([*self._config_lines(), *self._extra, ""]))
        return [program, "-c", str(config)]

    def _config_lines(self) -> list[str]:
        return [
            f"user {pwd.getpwuid(os.getuid()).pw_name}",  # root would become "mosquitto", who may not write our folder
            f"listener {self.port} {self.host}",
            "set_tcp_nodelay true",  # with Nagle a QoS 1 round trip takes 44 ms
            "persistence true",
            f"persistence_location {self.folder}/",
            "autosave_interval 1",  # with the next line: save at every change; without them kill -9 loses all
            "autosave_on_changes true",
            "max_queued_messages 1000",
            *self._user_lines(),
            *self._acl_lines(),
            *self._tls_lines(),
        ]

    def _user_lines(self) -> list[str]:
        if self._users is None:
            return ["allow_anonymous true"]
        return ["allow_anonymous false", f"password_file {_password_file(self.folder, self._users)}"]

    def _acl_lines(self) -> list[str]:
        if self._acl is None:
            return []
        path = self.folder / "acl"
        path.write_text("\n".join([*self._acl, ""]))
        return [f"acl_file {path}"]

    def _tls_lines(self) -> list[str]:
        if self._tls is None:
            return []
        lines = [f"certfile {self._tls.cert_file}", f"keyfile {self._tls.key_file}"]
        if self._tls.client_ca_file is not None:
            lines += [f"cafile {self._tls.client_ca_file}", "require_certificate true"]
        return lines


class ShippedMosquitto(Mosquitto):
    """mosquitto on the configuration that is shipped (brokers/mosquitto), on ports and folders of its own."""

    def __init__(
        self,
        folder: Path,
        tls: ServerTls,
        users: Mapping[str, str] | None = None,
        source: Path = SHIPPED / "mosquitto",
    ) -> None:
        """``tls`` names the clients' authority; ``users``: name → password on the listener without TLS.

        ``source``: the folder whose files it runs on; also that of passwords, where no users are given.
        """
        super().__init__(folder, users)
        self._source = source
        self._server_tls = tls
        self.tls_port = free_port()

    @property
    def ports(self) -> tuple[int, ...]:
        return (self.port, self.tls_port)

    def _config_lines(self) -> list[str]:
        if self._users is None:
            shutil.copyfile(self._source / "passwords", self.folder / "passwords")
        else:
            _password_file(self.folder, self._users)
        shutil.copyfile(self._source / "pile.acl", self.folder / "pile.acl")
        text = (self._source / "mosquitto.conf").read_text()
        user = f"user {pwd.getpwuid(os.getuid()).pw_name}"  # as above
        return [user, *shipped_config(text, self._replacements()).splitlines()]

    def _replacements(self) -> dict[str, str]:
        return {
            "/var/lib/mosquitto/": f"{self.folder}/",
            "/etc/mosquitto/pile.acl": str(self.folder / "pile.acl"),
            "/etc/mosquitto/passwords": str(self.folder / "passwords"),
            "/etc/mosquitto/tls/ca.crt": str(self._server_tls.client_ca_file),
            "/etc/mosquitto/tls/broker.crt": str(self._server_tls.cert_file),
            "/etc/mosquitto/tls/broker.key": str(self._server_tls.key_file),
            "listener 1883 127.0.0.1": f"listener {self.port} {self.host}",
            "listener 8883 0.0.0.0": f"listener {self.tls_port} {self.host}",
        }


def _password_file(folder: Path, users: Mapping[str, str]) -> Path:
    path = folder / "passwords"
    path.write_text("".join(f"{name}:{_password_hash(password)}\n" for name, password in users.items()))
    return path


def shipped_config(text: str, replacements: Mapping[str, str]) -> str:
    """A file of brokers/ on other ports and folders. Raises KeyError for what the file does not have in a setting."""
    for shipped, ours in replacements.items():
        lines = text.splitlines()
        if not any(shipped in line for line in lines if not line.startswith("#")):
            raise KeyError(shipped)
        text = "\n".join(line if line.startswith("#") else line.replace(shipped, ours) for line in lines)
    return text


def _password_hash(password: str) -> str:
    """mosquitto's ``$7$`` format: PBKDF2 with SHA-512."""
    salt, iterations = os.urandom(12), 101
    digest = pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return f"$7${iterations}${b64encode(salt).decode()}${b64encode(digest).decode()}"

"""A real RabbitMQ with MQTT, on the configuration that is shipped (brokers/rabbitmq), on its own ports and folders."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from sim.broker import SHIPPED, Broker, BrokerError, ServerTls, free_port, shipped_config

_SHIPPED = SHIPPED / "rabbitmq"
_LIB = Path("/usr/lib/rabbitmq/lib")  # Debian's package; its scripts in /usr/sbin insist on their own user
_TOOL_S = 60.0
_COOKIE = ".erlang.cookie"


class RabbitMq(Broker):
    """RabbitMQ as Debian has it. Durable is what it acknowledged; a start takes 6 to 11 s.

    Its name server (epmd) is a child of ours too, on a port of its own: nothing is left behind, and nothing is shared
    with a RabbitMQ that the machine may run.
    """

    ready_s = 90.0
    stop_s = 30.0

    def __init__(
        self,
        folder: Path,
        tls: ServerTls,
        extra: Sequence[str] = (),
        source: Path = _SHIPPED,
        name: str = "pile",
        beside: "RabbitMq | None" = None,
    ) -> None:
        """``tls`` is for both TLS listeners, and names the clients' authority. ``extra``: lines for rabbitmq.conf.

        ``source``: the folder whose files it runs on. ``name``: of the node. ``beside``: a node of the same cluster,
        that runs for as long as this one does.
        """
        super().__init__(folder)
        self.node = f"{name}@localhost"
        self._source = source
        self._tls = tls
        self._extra = extra
        self.tls_port = free_port()
        self.amqp_port = free_port()
        self.amqps_port = free_port()
        self._beside = beside
        self._epmd_port: int = beside._epmd_port if beside is not None else free_port()
        self._distribution_port = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def port_v5(self) -> int:
        """RabbitMQ 3.10 speaks MQTT 3.1.1 only, and answers a CONNECT of MQTT 5 as it should: unacceptable version."""
        return self.port

    @property
    def ports(self) -> tuple[int, ...]:
        return (self.port, self.tls_port, self.amqp_port, self.amqps_port)

    @staticmethod
    def scripts() -> Path | None:
        """Where ``rabbitmq-server`` and ``rabbitmqctl`` are; None where RabbitMQ is not installed."""
        return max(_LIB.glob("rabbitmq_server-*/sbin"), default=None)

    @property
    def environment(self) -> dict[str, str]:
        """With which the scripts find this node, and nothing else of the machine's."""
        return {
            **os.environ,
            "HOME": str(self.folder),  # where the cookie is
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": self.host,
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the node, so that our child is what we kill
        }

    def start(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / _COOKIE).exists():
            self._share_a_secret()
        if self._epmd is None and self._beside is None:
            epmd = ["epmd", "-port", str(self._epmd_port), "-address", self.host]
            self._epmd = subprocess.Popen(epmd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        super().start()
        return self

    def stop(self) -> None:
        super().stop()
        self._end_epmd()

    def restart(self) -> None:
        super().stop()  # the name server stays, as it does on a machine
        self.start()

    def ctl(self, *arguments: str, stdin: str = "") -> str:
        """What ``rabbitmqctl`` prints; some 2 s. Raises BrokerError."""
        return self.tool("rabbitmqctl", *arguments, stdin=stdin)

    def tool(self, program: str, *arguments: str, stdin: str = "") -> str:
        """The same of another of its programs."""
        command = [str(self._scripts() / program), "--quiet", *arguments]
        done = subprocess.run(
            command, env=self.environment, input=stdin, capture_output=True, text=True, timeout=_TOOL_S, check=False
        )
        if done.returncode:
            raise BrokerError(f"{program} {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def define(self, definitions: Mapping[str, Any]) -> None:
        """Add exchanges, queues, users, policies (RabbitMQ's definitions)."""
        path = self.folder / "more.json"
        path.write_text(json.dumps(definitions))
        self.ctl("import_definitions", str(path))

    def _command(self) -> list[str]:
        config = shipped_config((self._source / "rabbitmq.conf").read_text(), self._replacements())
        (self.folder / "rabbitmq.conf").write_text("\n".join([config, *self._extra, ""]))
        for name in ("enabled_plugins", "definitions.json"):
            shutil.copyfile(self._source / name, self.folder / name)
        return [str(self._scripts() / "rabbitmq-server")]

    def _replacements(self) -> dict[str, str]:
        assert self._tls.client_ca_file is not None
        return {
            "127.0.0.1:5672": f"{self.host}:{self.amqp_port}",
            "0.0.0.0:5671": f"{self.host}:{self.amqps_port}",
            "127.0.0.1:1883": f"{self.host}:{self.port}",
            "0.0.0.0:8883": f"{self.host}:{self.tls_port}",
            "/etc/rabbitmq/tls/ca.crt": str(self._tls.client_ca_file),
            "/etc/rabbitmq/tls/broker.crt": str(self._tls.cert_file),
            "/etc/rabbitmq/tls/broker.key": str(self._tls.key_file),
            "/etc/rabbitmq/definitions.json": str(self.folder / "definitions.json"),
        }

    def _scripts(self) -> Path:
        scripts = self.scripts()
        if scripts is None:
            raise BrokerError("rabbitmq-server is not installed")
        return scripts

    def _share_a_secret(self) -> None:
        """Nodes and tools of one cluster know each other by it."""
        path = self.folder / _COOKIE
        path.write_text((self._beside.folder / _COOKIE).read_text() if self._beside else os.urandom(16).hex())
        path.chmod(0o400)

    def _end_epmd(self) -> None:
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

"""What a fleet lives at: RabbitMQ as it is shipped, two routers, the platform, a few real agents; each a process."""

import contextlib
import multiprocessing
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from router.piles import EXCHANGE
from router.routing import COMMAND_KEY
from sim.authority import FleetAuthority
from sim.broker import ServerTls, free_port
from sim.fleet import Fleet, Login
from sim.rabbit_cluster import RabbitCluster
from sim.rabbit_users import PASSWORD, master, pile_users, router_user
from sim.rabbitmq import RabbitMq

REPLIES = "fleet_replies"
_IMPORT_AT_ONCE = 1000  # piles: rabbitmqctl gets 60 s
_READY_S = 30.0
_TICKS_S = os.sysconf("SC_CLK_TCK")


class FleetSite:
    """Between ``__enter__`` and ``__exit__``; all it starts it stops. Nobody is registered or dials by itself.

    ``with_tls``: the light piles log in by a certificate each; else by password on the listener without TLS.
    ``on_cluster``: three nodes with quorum queues, and the piles spread over them; ``broker`` is the first of them.
    """

    def __init__(
        self, folder: Path, piles: int, agents: int = 0, with_tls: bool = False, on_cluster: bool = False
    ) -> None:
        self.folder = folder
        self.light = [f"{n:010}" for n in range(1, piles + 1)]
        self.agents = [Agent(folder / f"agent{n}", f"{9_000_000_000 + n}") for n in range(agents)]
        self.authority = FleetAuthority(folder / "ca")
        self._running = _brokers(folder / "broker", self.authority.broker_tls(), on_cluster)
        self.nodes = self._running.nodes if isinstance(self._running, RabbitCluster) else [self._running]
        self.broker = self.nodes[0]
        self.routers = (Router(folder, self.nodes), Router(folder, self.nodes))
        self.fleet = Fleet(self._login(with_tls), self.light)
        self._with_tls = with_tls
        self.on_cluster = on_cluster
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        _raise_descriptor_limit(len(self.light))
        self._stack.callback(self.fleet.stop)
        try:
            self._stack.enter_context(self._running)
            for definitions in (master("platform"), router_user(), _replies()):
                self.broker.define(definitions)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _login(self, with_tls: bool) -> Login:
        if with_tls:
            return Login(self.broker.host, [node.tls_port for node in self.nodes], tls=self.authority.context_of)
        return Login(self.broker.host, [node.port for node in self.nodes], PASSWORD)

    @property
    def piles(self) -> list[str]:
        """The numbers of all, real agents last."""
        return [*self.light, *(agent.number for agent in self.agents)]

    def register(self, shared: bool = False) -> None:
        """As ``pile-router piles`` does it, with a password besides."""
        piles = self.piles
        for first in range(0, len(piles), _IMPORT_AT_ONCE):
            self.broker.define(pile_users(piles[first : first + _IMPORT_AT_ONCE], shared, self.on_cluster))

    def certify(self) -> None:
        for pile in self.light if self._with_tls else ():
            self.authority.sign(pile)

    def start_routers(self) -> None:
        """The first one gets the queue, the other stands by."""
        for router in self.routers:
            self._stack.callback(router.stop)
            router.start()
            router.wait()

    def stop_routers(self) -> None:
        for router in self.routers:
            router.stop()

    def start_agents(self) -> None:
        for agent in self.agents:
            self._stack.callback(agent.stop)
            agent.start(self.broker)

    def purge(self, queue: str) -> None:
        with self.platform() as channel:
            channel.queue_purge(queue)

    @contextlib.contextmanager
    def platform(self) -> Iterator[BlockingChannel]:
        """A channel of the platform's."""
        with BlockingConnection(_platform(self.broker.amqp_port)) as connection, connection.channel() as channel:
            yield channel

    def cpu_s(self) -> dict[str, float]:
        """Seconds of CPU used so far; a node's since it was started last."""
        return {
            "broker": sum(cpu_of(node.pid) for node in self.nodes),
            "router": sum(router.cpu_s for router in self.routers),
            "fleet": time.process_time(),
        }

    def publisher(self, lines: Sequence[bytes], per_s: float, confirmed: bool) -> "Publisher":
        return Publisher(self.broker.amqp_port, lines, per_s, confirmed)

    def read_replies(self, tell: Callable[[bytes], None], is_enough: Callable[[], bool], timeout_s: float) -> bool:
        """Hand on each reply that comes, while the fleet goes on; whether it became enough in time."""
        with self.platform() as channel:
            channel.basic_consume(REPLIES, lambda *delivered: tell(delivered[-1]), auto_ack=True)

            def came() -> bool:
                channel.connection.process_data_events(0)
                return is_enough()

            return self.fleet.run_until(came, timeout_s)


class Agent:
    """A real pile-agent, whose power board is missing."""

    def __init__(self, folder: Path, number: str) -> None:
        self.number = number
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, broker: RabbitMq) -> None:
        self._folder.mkdir()
        config = self._folder / "pile.toml"
        config.write_text(self._config(broker))
        command = [sys.executable, "-m", "agent.cli.main", "run", "--config", str(config)]
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(command, stderr=log)

    def stop(self) -> None:
        _end(self._process)

    def _config(self, broker: RabbitMq) -> str:
        return f"""\
[pile]
number = "{self.number}"
data_dir = "{self._folder}"
socket = "{self._folder / "control.sock"}"

[broker]
host = "{broker.host}"
port = {broker.port}
username = "{self.number}"
password = "{PASSWORD}"
mode = "routed"

[[line]]
port = "{self._folder / "no-such-port"}"

[[line.device]]
guns = [1, 2]
"""


class Router:
    """``pile-router run`` in its own process."""

    def __init__(self, folder: Path, nodes: Sequence[RabbitMq]) -> None:
        self._port = free_port()
        self._config = folder / f"router-{self._port}.toml"
        self._log = folder / f"router-{self._port}.log"
        self._hosts = [f"{node.host}:{node.amqp_port}" for node in nodes]
        self._queue_type = "quorum" if len(nodes) > 1 else "classic"
        self._process: subprocess.Popen[bytes] | None = None
        self._spent_s = 0.0  # of CPU, by those that were killed

    def start(self) -> None:
        self._config.write_text(
            f'[input]\nhosts = {self._hosts}\nusername = "router"\npassword = "{PASSWORD}"\n'
            f'queue_type = "{self._queue_type}"\nreconnect_max_s = 1\n[metrics]\nlisten = "127.0.0.1:{self._port}"\n'
        )
        command = [sys.executable, "-m", "router", "run", "--config", str(self._config)]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(command, stderr=log)

    def wait(self) -> None:
        """Until it consumes, or stands by."""
        deadline = time.monotonic() + _READY_S
        while not self.counter("connected"):
            if time.monotonic() > deadline:
                raise TimeoutError(self._log.read_text())
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU, of all that ran here one after another."""
        is_running = self._process is not None and self._process.poll() is None
        return self._spent_s + (cpu_of(self.pid) if is_running else 0.0)

    def counter(self, name: str) -> int:
        """0 while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0
        return next(int(line.split()[1]) for line in lines if line.startswith(f"pile_router_{name} "))

    def kill(self) -> None:
        """As a machine dies."""
        assert self._process is not None
        self._spent_s = self.cpu_s
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        _end(self._process)


class Publisher:
    """The platform as a process: it publishes lines, so many a second or as fast as it can.

    ``confirmed``: each when the broker has confirmed the one before.
    """

    def __init__(self, amqp_port: int, lines: Sequence[bytes], per_s: float, confirmed: bool) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, other = spawn.Pipe()
        self._process = spawn.Process(target=_publish, args=(amqp_port, lines, per_s, confirmed, other), daemon=True)
        self._process.start()

    def is_done(self) -> bool:
        return self._pipe.poll()

    def times_ns(self) -> list[int]:
        """When it published each line, CLOCK_MONOTONIC."""
        times: list[int] = self._pipe.recv()
        self._process.join()
        return times


def _raise_descriptor_limit(piles: int) -> None:
    """For us, and for the broker that inherits it: a socket of each pile, and a file of its queue now and then."""
    needed = 3 * piles // 2 + 1000
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed > most:
        raise OSError(f"{piles} piles need {needed} file descriptors, the hard limit (ulimit -Hn) is {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _brokers(folder: Path, tls: ServerTls, on_cluster: bool) -> RabbitCluster | RabbitMq:
    return RabbitCluster(folder, tls) if on_cluster else RabbitMq(folder, tls)


def _publish(amqp_port: int, lines: Sequence[bytes], per_s: float, confirmed: bool, pipe: Connection) -> None:
    times: list[int] = []
    kept = pika.BasicProperties(delivery_mode=2)
    with BlockingConnection(_platform(amqp_port)) as connection, connection.channel() as channel:
        if confirmed:
            channel.confirm_delivery()
        began_at = time.monotonic()
        for number, line in enumerate(lines):
            if per_s:
                time.sleep(max(0.0, began_at + number / per_s - time.monotonic()))
            times.append(time.monotonic_ns())
            channel.basic_publish(EXCHANGE, COMMAND_KEY, line, kept)
    pipe.send(times)


def _platform(amqp_port: int) -> pika.ConnectionParameters:
    return pika.ConnectionParameters("127.0.0.1", amqp_port, credentials=pika.PlainCredentials("platform", PASSWORD))


def _replies() -> dict[str, Any]:
    """The queue in which the platform finds what piles say."""
    queue = {"name": REPLIES, "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}
    binding = {
        "source": EXCHANGE,
        "vhost": "/",
        "destination": REPLIES,
        "destination_type": "queue",
        "routing_key": "klc.reply.qik.*",
        "arguments": {},
    }
    return {"queues": [queue], "bindings": [binding]}


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a running process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


def _end(process: "subprocess.Popen[bytes] | None") -> None:
    if process is not None:
        process.terminate()
        process.wait(_READY_S)

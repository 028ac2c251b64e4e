"""For the tests of the router: its own process, its counters, and who publishes and listens around it."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from broker_helpers import wait_until
from pika.adapters.blocking_connection import BlockingChannel
from rabbit_helpers import Rabbit

from sim.broker import free_port
from sim.rabbit_users import PASSWORD

ROOT = Path(__file__).parents[1]
EXCHANGE, KEY = "cdz_command_topic_exchange", "klc.command.qik"
QUEUE, PARKED = "pile_router", "pile_router_parked"


def command(pile: str, number: int = 0) -> bytes:
    """A 103, "who holds gun 1": numbered by its timestamp."""
    return b"10.0.0.1,API:2.0.2,103,%d,%s,1" % (1700000000000 + number, pile.encode())


def number_of(line: bytes) -> int:
    return int(line.split(b",")[3]) - 1700000000000


def pile_of(line: bytes) -> str:
    return line.split(b",")[4].decode()


class RouterProcess:
    """``python -m router run`` on its own port of counters. ``with`` starts and stops it."""

    def __init__(self, folder: Path, amqp_port: int, more: str = "", **settings: object) -> None:
        """``settings``: keys of [input]. ``more``: further tables."""
        self.port = free_port()
        self.log_path = folder / f"router-{self.port}.log"
        self._config = folder / f"router-{self.port}.toml"
        keys = {
            "hosts": [f"127.0.0.1:{amqp_port}"],
            "username": "router",
            "password": PASSWORD,
            "reconnect_max_s": 1,
            **settings,
        }
        lines = [f"{key} = {value!r}" for key, value in keys.items()]
        self._config.write_text("\n".join(["[input]", *lines, "[metrics]", f'listen = "127.0.0.1:{self.port}"', more]))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self._config

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def start(self) -> Self:
        with open(self.log_path, "ab") as log:
            command = [sys.executable, "-m", "router", "run", "--config", str(self._config)]
            self._process = subprocess.Popen(command, cwd=ROOT, stderr=log)
        return self

    def run_until_connected(self) -> Self:
        wait_until(lambda: self.is_up() and self.counter("connected") == 1, 20.0)
        return self

    def is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            return bool(self.counters())
        except OSError:
            return False

    def counters(self) -> dict[str, int]:
        """By name, without the prefix they all have."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        pairs = [line.removeprefix("pile_router_").rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: int(value) for name, value in pairs}

    def counter(self, name: str) -> int:
        return self.counters()[name]

    def parked(self, reason: str) -> int:
        return self.counter(f'parked_total{{reason="{reason}"}}')

    def kill9(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(20)

    def __enter__(self) -> Self:
        try:
            return self.start().run_until_connected()
        except BaseException:
            self.kill9()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            assert self.stop() == 0, self.log


@contextmanager
def clean_platform(rabbitmq: Rabbit) -> Iterator[BlockingChannel]:
    """A channel for who publishes. None of the router's queues is left."""
    with rabbitmq.connection() as connection, connection.channel() as channel:
        for queue in (QUEUE, PARKED):
            channel.queue_delete(queue)
        yield channel


def publish(channel: BlockingChannel, lines: Iterable[bytes]) -> None:
    """As the platform does."""
    for line in lines:
        channel.basic_publish(EXCHANGE, KEY, line)


def drain(channel: BlockingChannel, queue: str) -> list[bytes]:
    """All that waits in a queue."""
    found = []
    while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
        found.append(bytes(got[2]))
    return found


def drain_all(channel: BlockingChannel, queue: str, lines: Iterable[bytes], timeout_s: float = 20.0) -> list[bytes]:
    """What waits in a queue, until each of these lines was there.

    An empty queue of the router's and nothing in its hands do not say that it is done: between the two a message is on
    its way to it.
    """
    missing, found = set(lines), []
    deadline = time.monotonic() + timeout_s
    while missing:
        assert time.monotonic() < deadline, f"{len(missing)} missing, {len(found)} came"
        came = drain(channel, queue)
        missing.difference_update(came)
        found += came
    return found


def bound_queue(channel: BlockingChannel, queue: str, key: str, arguments: dict[str, Any] | None = None) -> str:
    """A new, empty queue that hears ``key``."""
    channel.queue_delete(queue)
    channel.queue_declare(queue, durable=True, arguments=arguments or {})
    channel.queue_bind(queue, EXCHANGE, key)
    return queue

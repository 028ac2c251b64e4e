"""What the service manager is told, over the socket it gives us."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from broker_helpers import wait_until

from agent.config import load_config
from agent.loop import Agent
from agent.notify import notify
from agent.power import bus
from agent.power.scheduler import Task, Urgency
from sim.broker import free_port


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Of an agent without broker and board."""
    path = tmp_path / "pile.toml"
    path.write_text(
        f'[pile]\nnumber = "1"\ndata_dir = "{tmp_path}"\nsocket = "{tmp_path}/control.sock"\n'
        f'[broker]\nhost = "127.0.0.1"\nport = {free_port()}\n'
        f'[[line]]\nport = "{tmp_path}/no-port"\n[[line.device]]\nguns = [1]\n'
    )
    return path


def received(manager: socket.socket) -> list[bytes]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(100))
        except BlockingIOError:
            return messages


def test_a_message_is_a_datagram(manager: socket.socket) -> None:
    notify("READY=1")
    notify("WATCHDOG=1")
    assert received(manager) == [b"READY=1", b"WATCHDOG=1"]


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{tmp_path}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path}")
        notify("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_without_a_service_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/none/there")
    notify("READY=1")


def test_a_manager_that_does_not_read_holds_nobody_up(manager: socket.socket) -> None:
    began_at = time.monotonic()
    for _ in range(1000):  # more than the queue of a datagram socket takes
        notify("WATCHDOG=1")
    assert time.monotonic() - began_at < 5
    assert 0 < len(received(manager)) < 1000


def test_an_agent_is_ready_alive_and_stopping(config: Path, manager: socket.socket) -> None:
    manager.settimeout(10)
    agent = subprocess.Popen([sys.executable, "-m", "agent.cli.main", "run", "--config", str(config)])
    assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    agent.terminate()
    assert manager.recv(100) == b"STOPPING=1"
    assert agent.wait(5) == 0


def test_an_agent_with_a_stuck_line_is_alive_no_more(
    config: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service manager restarts it then."""
    monkeypatch.setattr(bus, "ALIVE_WITHIN_S", 1.5)  # the thread goes round once a second at least
    with running_here(config) as agent:
        agent._tick(time.monotonic())
        assert received(manager) == [b"WATCHDOG=1"]

        release = threading.Event()
        agent._bus._lines[0].scheduler.submit(Task(Urgency.STOP, stuck_until(release)))
        wait_until(lambda: not agent._bus.is_alive())
        agent._tick(time.monotonic())
        assert received(manager) == []

        release.set()
        wait_until(agent._bus.is_alive)
        agent._tick(time.monotonic())
        assert received(manager) == [b"WATCHDOG=1"]


@contextmanager
def running_here(config: Path) -> Iterator[Agent]:
    """An agent in this process, whose loop turns when the test says so."""
    agent = Agent(load_config(config))
    try:
        yield agent
    finally:
        agent._close()


def stuck_until(released: threading.Event) -> Iterator[float]:
    released.wait()
    yield 0.0

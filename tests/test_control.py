"""The control socket: its clients can neither hold up the agent nor each other."""

import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.cli.show import NoAgentError, ask
from agent.control import CLIENTS_MOST, ControlServer
from agent.poller import Poller

SNAPSHOT: dict[str, object] = {"pile": "0000012345", "outbox": 0}


class Server:
    """A control server whose loop turns when a test says so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.poller = Poller()
        self.snapshot = SNAPSHOT
        self.control = ControlServer(path, self.poller, lambda: self.snapshot)

    def client(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(5)
        sock.connect(str(self.path))
        return sock

    def turn(self) -> None:
        for _ in range(5):  # accept, read, answer
            self.poller.wait(0.01)

    def asked(self, request: bytes) -> socket.socket:
        """A client that has sent that, and has been served."""
        client = self.client()
        client.sendall(request)
        self.turn()
        return client


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "control.sock")
    yield server
    server.control.close()
    server.poller.close()


def everything(client: socket.socket) -> bytes:
    """What comes until the server closes."""
    with client:
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_status_is_one_snapshot_and_the_end(server: Server) -> None:
    assert everything(server.asked(b"status\n")) == b'{"pile": "0000012345", "outbox": 0}\n'


def test_watch_is_a_snapshot_at_once_and_one_at_each_push(server: Server) -> None:
    with server.asked(b"watch\n") as client, client.makefile() as lines:
        assert json.loads(lines.readline()) == SNAPSHOT
        server.snapshot = {"pile": "0000012345", "outbox": 7}
        server.control.push()
        assert json.loads(lines.readline())["outbox"] == 7


def test_a_request_may_come_in_pieces(server: Server) -> None:
    client = server.asked(b"sta")
    client.sendall(b"tus\n")
    server.turn()
    assert json.loads(everything(client)) == SNAPSHOT


@pytest.mark.parametrize("garbage", [b"\n", b"stop\n", b"\x00\xff\n", b"status\nstatus\n", b"GET / HTTP/1.1\r\n"])
def test_garbage_is_told_what_is_expected(server: Server, garbage: bytes) -> None:
    assert everything(server.asked(garbage)) == b'{"error": "expected status or watch"}\n'


def test_a_request_without_end_is_dropped(server: Server) -> None:
    with server.asked(b"x" * 1000) as client, pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_client_that_hangs_up_is_forgotten(server: Server) -> None:
    for request in (b"", b"sta", b"watch\n"):
        server.asked(request).close()
        server.turn()
    server.control.push()
    assert json.loads(everything(server.asked(b"status\n"))) == SNAPSHOT


def test_a_watcher_that_does_not_read_is_dropped_and_the_others_go_on(server: Server) -> None:
    server.snapshot = {"filling": "x" * 50_000}
    lazy, eager = server.asked(b"watch\n"), server.asked(b"watch\n")
    with eager, eager.makefile() as lines:
        for _ in range(100):  # far more than a socket holds
            server.control.push()
            assert json.loads(lines.readline()) == server.snapshot
    assert everything(lazy).count(b"filling") < 100  # and then the end


def test_more_clients_than_there_may_be_are_refused_in_words(server: Server) -> None:
    clients = [server.asked(b"watch\n") for _ in range(CLIENTS_MOST)]
    assert everything(server.asked(b"")) == b'{"error": "8 clients are connected already"}\n'
    clients.pop().close()
    server.turn()
    assert json.loads(everything(server.asked(b"status\n"))) == SNAPSHOT
    for client in clients:
        client.close()


def test_only_owner_and_group_may_ask(server: Server) -> None:
    assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o660


def test_the_socket_of_a_killed_agent_is_replaced_and_ours_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = Server(path)
    assert json.loads(everything(server.asked(b"status\n"))) == SNAPSHOT
    server.control.close()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match=f"Address already in use: '{path}'"):
        Server(path)
    assert path.read_text() == "data"


def test_asking_an_agent_that_refuses(server: Server) -> None:
    with turning(server), pytest.raises(NoAgentError, match="expected status or watch"):
        list(ask(server.path, "fly"))


def test_asking_an_agent_that_has_hung(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.cli.show.ANSWER_S", 0.05)
    with pytest.raises(NoAgentError, match=r"did not answer in 0\.05 s"):
        list(ask(server.path, "status"))


class turning:  # noqa: N801 - used as a word
    """The server's loop turns in another thread meanwhile."""

    def __init__(self, server: Server) -> None:
        self._is_over = False
        self._thread = threading.Thread(target=self._run, args=(server.turn,))

    def _run(self, turn: Callable[[], None]) -> None:
        while not self._is_over:
            turn()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()


def test_a_socket_that_another_agent_answers_is_left_to_it(tmp_path: Path) -> None:
    """Two agents on two journals, but by mistake with one socket: the first keeps it."""
    path = tmp_path / "control.sock"
    first = ControlServer(path, Poller(), dict)
    with pytest.raises(OSError, match="another agent answers here"):
        ControlServer(path, Poller(), dict)
    assert path.is_socket()
    first.close()
    assert not path.exists()


def test_a_socket_that_has_become_anothers_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    first = ControlServer(path, Poller(), dict)
    path.unlink()
    second = ControlServer(path, Poller(), dict)
    first.close()
    assert path.is_socket()
    second.close()

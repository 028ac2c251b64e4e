"""The Unix socket that ``pile-agent status`` and ``watch`` ask: one line in, JSON lines out."""

import errno
import json
import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.poller import Poller

Snapshot = Callable[[], dict[str, object]]

CLIENTS_MOST = 8
REQUEST_BYTES_MAX = 64


@dataclass
class _Client:
    sock: socket.socket
    request: bytes = b""
    is_watching: bool = False


class ControlServer:
    """Answers ``status`` with one snapshot, ``watch`` with one at each ``push``. It never waits for a client: one that
    does not read is dropped."""

    def __init__(self, path: Path, poller: Poller, snapshot: Snapshot) -> None:
        self._path = path
        self._poller = poller
        self._snapshot = snapshot
        self._clients: dict[int, _Client] = {}
        self._server = _listening(path)
        self._inode = path.stat().st_ino
        poller.register(self._server.fileno(), select.EPOLLIN, self._accept)

    def push(self) -> None:
        """Send a snapshot to those who watch."""
        watching = [client for client in self._clients.values() if client.is_watching]
        if watching:
            line = self._line()
            for client in watching:
                self._send(client, line)

    def close(self) -> None:
        for client in list(self._clients.values()):
            self._drop(client)
        self._poller.unregister(self._server.fileno())
        self._server.close()
        if self._path.exists() and self._path.stat().st_ino == self._inode:  # and not another agent's by now
            self._path.unlink()

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._server.accept()
        except OSError:
            return  # the client has gone already
        sock.setblocking(False)
        client = _Client(sock)
        self._clients[sock.fileno()] = client
        self._poller.register(sock.fileno(), select.EPOLLIN, partial(self._read, client))
        if len(self._clients) > CLIENTS_MOST:
            self._refuse(client, f"{CLIENTS_MOST} clients are connected already")

    def _read(self, client: _Client, _events: int) -> None:
        try:
            received = client.sock.recv(REQUEST_BYTES_MAX)
        except OSError:
            received = b""
        client.request += received
        if not received or len(client.request) > REQUEST_BYTES_MAX:
            self._drop(client)
        elif client.request.endswith(b"\n"):
            self._answer(client, client.request.strip())

    def _answer(self, client: _Client, request: bytes) -> None:
        client.request = b""
        if request not in (b"status", b"watch"):
            self._refuse(client, "expected status or watch")
            return
        client.is_watching = request == b"watch"
        self._send(client, self._line())
        if not client.is_watching:
            self._drop(client)

    def _line(self) -> bytes:
        return json.dumps(self._snapshot(), ensure_ascii=False).encode() + b"\n"

    def _refuse(self, client: _Client, why: str) -> None:
        self._send(client, json.dumps({"error": why}).encode() + b"\n")
        self._drop(client)

    def _send(self, client: _Client, line: bytes) -> None:
        try:
            if client.sock.send(line) < len(line):
                self._drop(client)
        except OSError:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.sock.fileno(), None) is not None:
            self._poller.unregister(client.sock.fileno())
            client.sock.close()


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


def _listening(path: Path) -> socket.socket:
    """A listening socket at ``path``. Raises ``OSError`` naming it."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if path.is_socket():
            if _is_answered(path):
                raise OSError(errno.EADDRINUSE, "another agent answers here")
            path.unlink()  # left by one that was killed
        server.bind(str(path))
        os.chmod(path, 0o660)
        server.listen(CLIENTS_MOST)
    except OSError as error:
        server.close()
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    return server

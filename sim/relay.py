"""The network between a pile and its broker: a TCP relay that can be cut and mended."""

import contextlib
import select
import socket
import threading
from types import TracebackType
from typing import Self

CHUNK = 65536


class Relay:
    """Passes connections to its ``port`` on to ``target`` (host, port). While it is cut, they are refused."""

    host = "127.0.0.1"

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.port = 0

    def mend(self) -> None:
        """Let connections through (again, on the same port)."""
        server = socket.create_server((self.host, self.port))
        self.port = server.getsockname()[1]
        self._server = server
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def cut(self) -> None:
        """Break every connection, as a pulled cable does, and let none through."""
        with self._lock:
            server, self._server = self._server, None
            broken, self._connections = self._connections, set()
        for sock in (*broken, *((server,) if server is not None else ())):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it
            sock.close()

    def __enter__(self) -> Self:
        self.mend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), near, socket.create_connection(self._target) as far:
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections |= {near, far}
            while _moved(near, far):
                pass


def _moved(near: socket.socket, far: socket.socket) -> bool:
    """Pass on what one of them has sent; ``False`` at the end."""
    ready, _, _ = select.select([near, far], [], [])
    for sock in ready:
        data = sock.recv(CHUNK)
        if not data:
            return False
        (far if sock is near else near).sendall(data)
    return True

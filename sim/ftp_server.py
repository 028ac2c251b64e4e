"""The FTP server of the platform, where firmware lies: read only, on 127.0.0.1, one user."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

_POLL_S = 0.05  # how late it may notice that it is to stop


class FtpServer:
    """Serves ``folder`` from a thread of its own. ``with`` starts and stops it; ``port`` is known once it runs."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, user: str = "firmware", password: str = "secret") -> None:
        authorizer = DummyAuthorizer()
        authorizer.add_user(user, password, str(folder), perm="elr")  # enter, list, read
        # The library keeps its settings on the class, so each server needs one.
        settings = {"authorizer": authorizer, "auth_failed_timeout": 0.1}
        self._handler = type("Handler", (FTPHandler,), settings)
        self._is_stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.port = 0

    def start(self) -> Self:
        server = FTPServer((self.host, self.port), self._handler, ioloop=IOLoop())
        self.port = server.address[1]
        self._is_stopping.clear()
        self._thread = threading.Thread(target=self._serve, args=(server,), name="ftp-server", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End it, running transfers too. Started again, it has the same port."""
        self._is_stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _serve(self, server: FTPServer) -> None:
        while not self._is_stopping.is_set():
            server.ioloop.loop(_POLL_S, blocking=False)  # serve_forever() would log its start each time round
        server.close_all()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

"""The FTP server of the platform, where firmware lies: read only, on 127.0.0.1, one user; FTPS with a certificate.

pyftpdlib does the protocol. ``Faults`` is what goes wrong on the way, and may be changed while the server runs.
"""

import logging
import socket
import struct
import sys
import threading
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, ThrottledDTPHandler, TLS_DTPHandler, TLS_FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

logging.getLogger("pyftpdlib").addHandler(logging.NullHandler())  # or it writes each login into the demo's story
_POLL_S = 0.05  # how late it may notice that it is to stop
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


class Cut(Enum):
    """How a transfer ends before its end."""

    HALF = auto()  # 226 all the same
    ABORT = auto()  # 426
    RESET = auto()  # TCP reset of the data connection, and the control connection closed
    STALL = auto()  # nothing more comes, nothing is closed
    HANG_UP = auto()  # the control connection is closed, the data go on to their end


@dataclass
class Faults:
    cut: Cut | None = None
    after: int = 0  # bytes of one transfer that come before the cut
    times: int = sys.maxsize  # transfers that are cut
    endless: bool = False  # zeros without end instead of the file
    bytes_per_s: int = 0  # 0: as fast as it goes; not with a certificate
    replies: dict[str, str] = field(default_factory=dict)
    """A command's literal reply instead of doing it: ``{"SIZE": "502 no"}``. ``{}`` in it is the command's argument."""


class _Zeros:
    """A producer, as pyftpdlib calls it, that never ends."""

    def more(self) -> bytes:
        return bytes(1 << 16)


class _WithFaults:
    """What a control connection adds to pyftpdlib's own."""

    faults: Faults
    asked: list[str]
    use_sendfile = False  # the kernel would send past a cut

    def pre_process_command(self: Any, line: str, cmd: str, arg: str) -> None:
        self.asked.append(cmd if cmd == "PASS" else line)
        reply = self.faults.replies.get(cmd)
        if reply is None:
            super().pre_process_command(line, cmd, arg)  # type: ignore[misc]
        else:
            self.respond(reply.replace("{}", arg))

    def push_dtp_data(self: Any, data: Any, isproducer: bool = False, file: Any = None, cmd: str = "") -> None:
        if self.faults.endless:
            data = _Zeros()
        super().push_dtp_data(data, isproducer, file, cmd)  # type: ignore[misc]


class _CutShort:
    """What a data connection adds to pyftpdlib's own."""

    def __init__(self: Any, sock: socket.socket, cmd_channel: Any) -> None:
        self.faults = cmd_channel.faults
        self.write_limit = self.faults.bytes_per_s
        self._cut = self.faults.cut if self.faults.times > 0 else None
        super().__init__(sock, cmd_channel)  # type: ignore[call-arg]

    def send(self: Any, data: bytes) -> int:
        if self._cut is None:
            return int(super().send(data))  # type: ignore[misc]
        room = self.faults.after - self.tot_bytes_sent
        if room > 0:
            return int(super().send(data[:room]))  # type: ignore[misc]
        cut, self._cut = self._cut, None
        self.faults.times -= 1
        return int(getattr(self, f"_{cut.name.lower()}")())

    def _half(self: Any) -> int:
        self.discard_buffers()
        self.handle_close()
        return 0

    def _abort(self: Any) -> int:
        self.handle_close()
        return 0

    def _reset(self: Any) -> int:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.cmd_channel.close()
        return 0

    def _stall(self: Any) -> int:
        self.ioloop.unregister(self._fileno)
        return 0

    def _hang_up(self: Any) -> int:
        self.cmd_channel.data_channel = None  # which it would close with itself
        self.cmd_channel.close()
        self.cmd_channel.respond = lambda reply, logfun: None
        return 0


class FtpServer:
    """Serves ``folder`` from a thread of its own. ``with`` starts and stops it; ``port`` is known once it runs.

    With ``certificate`` (files of certificate and key) it takes nothing but explicit TLS. ``encoding`` is that of paths
    on the wire. ``asked`` has every command line it was sent, without passwords.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        user: str = "firmware",
        password: str = "secret",
        *,
        faults: Faults | None = None,
        certificate: tuple[Path, Path] | None = None,
        encoding: str = "utf8",
    ) -> None:
        authorizer = DummyAuthorizer()
        authorizer.add_user(user, password, str(folder), perm="elr")  # enter, list, read
        self.faults = faults or Faults()
        self.asked: list[str] = []
        # The library keeps its settings on the class, so each server needs one.
        settings = {
            "authorizer": authorizer,
            "auth_failed_timeout": 0.1,
            "encoding": encoding,
            "faults": self.faults,
            "asked": self.asked,
        }
        self._handler = _handler(settings, certificate)
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


def _handler(settings: dict[str, Any], certificate: tuple[Path, Path] | None) -> type:
    if certificate is None:
        settings["dtp_handler"] = type("Transfer", (_CutShort, ThrottledDTPHandler), {})
        return type("Handler", (_WithFaults, FTPHandler), settings)
    settings["certfile"], settings["keyfile"] = map(str, certificate)
    settings["tls_control_required"] = settings["tls_data_required"] = True
    settings["dtp_handler"] = type("Transfer", (_CutShort, TLS_DTPHandler), {})
    return type("Handler", (_WithFaults, TLS_FTPHandler), settings)

"""A scripted Modbus device at the far end of a pty, and a pair of ptys joined like two ends of a cable."""

import os
import pty
import select
import threading
import time
import tty
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

Step = bytes | float | Callable[[], object]  # bytes to send, seconds to pause, or something to do
Script = Callable[[bytes], Iterable[Step]]  # from a request to what happens then

PATIENCE_S = 10.0  # what a condition may take on a loaded machine before the test fails; nothing waits that long
PATIENCE_MS = int(PATIENCE_S * 1000)


def hx(text: str) -> bytes:
    return bytes.fromhex(text)


class ScriptedDevice:
    """Does what ``script`` says after each request. ``path`` is the serial port to open."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.heard_ns: list[int] = []  # when each request's first byte was here
        self.sent_ns: list[int] = []  # just before each answer's last piece was sent
        self._asked = threading.Condition()
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        self._slave: int | None = slave  # keeps the pty alive while nobody has the port open
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "ScriptedDevice":
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._stop_write)
        self._thread.join(PATIENCE_S)
        os.close(self._stop_read)
        self.vanish()

    def vanish(self) -> None:
        """The adaptor is pulled out."""
        if self._slave is not None:
            os.close(self._slave)
            os.close(self._master)
            self._slave = None

    def send(self, data: bytes) -> None:
        self.sent_ns.append(time.monotonic_ns())
        os.write(self._master, data)

    def wait_asked(self, count: int) -> None:
        with self._asked:
            assert self._asked.wait_for(lambda: len(self.requests) >= count, PATIENCE_S), f"{count} requests awaited"

    def _serve(self) -> None:
        while (request := self._hear()) is not None:
            for step in self.script(request):
                if isinstance(step, bytes):
                    self.send(step)
                elif isinstance(step, float):
                    time.sleep(step)
                else:
                    step()
            if self._slave is None:
                return

    def _hear(self) -> bytes | None:
        request = b""
        while len(request) < 8 or len(request) < _request_length(request):
            ready, _, _ = select.select([self._master, self._stop_read], [], [])
            if self._stop_read in ready:
                return None
            if not request:
                self.heard_ns.append(time.monotonic_ns())
            request += os.read(self._master, 256)
        with self._asked:
            self.requests.append(request)
            self._asked.notify_all()
        return request


def _request_length(request: bytes) -> int:
    if request[1] in (15, 16):
        return 9 + request[6]
    return 13 + request[10] if request[1] == 23 and len(request) > 10 else 8


@contextmanager
def joined_ptys() -> Iterator[tuple[str, str]]:
    """Two serial ports joined by a cable: what is written to one is read from the other."""
    with ExitStack() as stack:
        masters, paths = [], []
        for _ in range(2):
            master, slave = pty.openpty()
            stack.callback(os.close, master)
            stack.callback(os.close, slave)
            tty.setraw(slave)
            masters.append(master)
            paths.append(os.ttyname(slave))
        stop_read, stop_write = os.pipe()
        relay = threading.Thread(target=_relay, args=(*masters, stop_read))
        relay.start()
        stack.callback(os.close, stop_read)
        stack.callback(relay.join)
        stack.callback(os.close, stop_write)
        yield paths[0], paths[1]


def _relay(one: int, other: int, stop: int) -> None:
    across = {one: other, other: one}
    while stop not in (ready := select.select([one, other, stop], [], [])[0]):
        for end in ready:
            os.write(across[end], os.read(end, 1024))

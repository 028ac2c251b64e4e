"""One epoll for everything the main thread waits on, and the one door through which other threads reach it."""

import contextlib
import os
import select
from collections import deque
from collections.abc import Callable

FdCallback = Callable[[int], None]


class Poller:
    """Watches file descriptors and runs what other threads post. One thread owns it; others may only ``post``."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, FdCallback] = {}
        self._posted: deque[Callable[[], None]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.register(self._wake_fd, select.EPOLLIN, self._drain_wake)

    def register(self, fd: int, events: int, callback: FdCallback) -> None:
        """Call ``callback(events)`` whenever ``fd`` has one of ``events`` (``select.EPOLLIN``, ``EPOLLOUT``)."""
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Forget ``fd``; one that was closed already is forgotten too."""
        if self._callbacks.pop(fd, None) is not None:
            with contextlib.suppress(OSError):  # closing the descriptor had removed it
                self._epoll.unregister(fd)

    def post(self, call: Callable[[], None]) -> None:
        """Run ``call`` in the poller's thread, in the order posted. The only method other threads may use."""
        self._posted.append(call)
        os.eventfd_write(self._wake_fd, 1)

    def wait(self, timeout_s: float) -> None:
        """Wait at most ``timeout_s`` for something to happen, and run the callbacks of all that did."""
        for fd, events in self._epoll.poll(max(timeout_s, 0.0)):
            callback = self._callbacks.get(fd)
            if callback is not None:  # an earlier callback of this round may have unregistered it
                callback(events)

    def close(self) -> None:
        os.close(self._wake_fd)
        self._epoll.close()

    def _drain_wake(self, _events: int) -> None:
        os.eventfd_read(self._wake_fd)
        for _ in range(len(self._posted)):  # what is posted meanwhile gets the next round, after the descriptors
            self._posted.popleft()()

"""A power board's firmware, pushed through its window, and taken up again wherever it was cut.

The procedure reads what the board says of itself and does the one thing that this asks for, until the board runs the
image or has failed for good::

    idle        runs the image: done; else erase
    erasing     wait
    receiving   send what is missing; nothing is: verify
    verifying   wait
    verified    activate
    failed      (its checksum is wrong) erase, a bounded number of times

It keeps nothing that would have to survive: after a lost answer, a reset of the board, a power cut or a kill of the
agent it goes on at the board's own offset. A window that holds another image, by size and CRC-32, is erased. From the
first erase on there is no way back but an image: when the new one fails for good, the last good one is pushed.

Everything is a generator; what it yields is the window's own business (when to go on). Between two yields the line may
serve others.
"""

import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

from firmware_bridge.errors import InstallFailed

T = TypeVar("T")
Steps = Generator[float, None, T]
Progress = Callable[[int], object]  # called with the percentage that the board has stored

OK = 0


class State(StrEnum):
    """What a board's bootloader does."""

    IDLE = "idle"
    ERASING = "erasing"
    RECEIVING = "receiving"
    VERIFYING = "verifying"
    VERIFIED = "verified"
    FAILED = "failed"


class TroubleError(Exception):
    """Something asked of the board did not come out."""


class UnheardError(TroubleError):
    """Nothing came back, or rubbish: it may have been done or not."""


class BusyError(TroubleError):
    """The board can't just now."""


class RefusedError(TroubleError):
    """The board will not."""


class UnreachableError(InstallFailed):
    """The board has been silent for longer than anybody waits; nothing else can be tried."""


@dataclass(frozen=True, slots=True)
class Image:
    """What the board is to run. ``version`` is as the board tells it, empty: whatever it will tell."""

    data: bytes = field(repr=False)
    version: str
    crc32: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "crc32", zlib.crc32(self.data))

    @property
    def size(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Status:
    """What the board says. ``size`` and ``crc32`` were given with the last erase; ``version`` runs while it is idle."""

    state: State
    received: int  # bytes stored without a gap, from 0
    block_limit: int  # most bytes of a block
    size: int
    crc32: int
    version: str

    @property
    def is_open(self) -> bool:
        """The board is out of service, for an image that is not whole."""
        return self.state is not State.IDLE

    def holds(self, image: Image) -> bool:
        """What the window has is (the beginning of) ``image``."""
        return self.is_open and (self.size, self.crc32) == (image.size, image.crc32)

    def __str__(self) -> str:
        if self.is_open:
            return f"{self.state}, {self.received} of {self.size} bytes"
        return f"runs {self.version or 'an unknown version'}"


class Window(Protocol):
    """A board's firmware window. Every method but ``pause`` raises a ``TroubleError``, with the bytes in its text."""

    def status(self) -> Steps[Status]: ...
    def erase(self, size: int, crc32: int) -> Steps[None]: ...
    def block(self, offset: int, data: memoryview) -> Steps[None]: ...
    def verify(self) -> Steps[None]: ...
    def activate(self) -> Steps[None]: ...
    def pause(self, seconds: float) -> Steps[None]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """When to give up. An attempt or a wait counts while the board gets no further; further, they begin anew."""

    block_bytes: int  # most bytes of a block, if the board does not ask for fewer
    attempts: int = 5  # at the same place
    erases: int = 3  # of one image: a checksum that is wrong so often is no accident
    pause_s: float = 0.2  # between two looks at a board that erases or verifies, and after a refusal
    silent_pause_s: float = 0.5  # between two calls to a board that does not answer: others wait for its silence
    patience_s: float = 300.0  # of such pauses, before a silent or endlessly busy board is given up


@dataclass(frozen=True, slots=True)
class Flashed:
    """How it came out: 0, or the platform's result with ``text``. ``version`` runs now; empty: none, or unknown."""

    result: int
    text: str
    version: str


def flashing(window: Window, new: Image, last_good: Image | None, limits: Limits, progress: Progress) -> Steps[Flashed]:
    """Have the board run ``new``; if that fails for good and leaves it without an image, ``last_good``.

    A board that runs ``new.version`` already is left alone.
    """

    def push(image: Image, status: Status) -> Steps[Status]:
        return _Push(window, image, limits, progress).run(status)

    try:
        before = yield from _heard(window, limits)
        try:
            after = yield from push(new, before)
        except UnreachableError:
            raise
        except InstallFailed as error:
            left = yield from _heard(window, limits)
            return (yield from _helped(push, before, left, last_good, str(error)))
    except UnreachableError as error:
        return Flashed(error.result, f"{error}; the same order goes on where it stands", "")
    return Flashed(OK, "", after.version)


def _helped(
    push: Callable[[Image, Status], Steps[Status]], before: Status, left: Status, last_good: Image | None, reason: str
) -> Steps[Flashed]:
    """The new image has failed for good. A board that is ``left`` without one gets the last good one."""
    running = "" if left.is_open else left.version
    if running and running == before.version and not before.is_open:
        return Flashed(InstallFailed.result, f"{reason}; it {left} as before", running)
    if last_good is None:
        return Flashed(InstallFailed.result, f"{reason}; there is no last good image; the board says: {left}", running)
    try:
        after = yield from push(last_good, left)
    except InstallFailed as error:
        return Flashed(InstallFailed.result, f"{reason}; the last good image failed as well: {error}", "")
    return Flashed(InstallFailed.result, f"{reason}; the last good image is back: it {after}", after.version)


def _heard(window: Window, limits: Limits) -> Steps[Status]:
    """What the board says, as soon as it says anything: it may be restarting, or its port may come back."""
    waited_s = 0.0
    while True:
        try:
            return (yield from window.status())
        except TroubleError as trouble:
            if waited_s >= limits.patience_s:
                raise UnreachableError(f"no sound answer for {limits.patience_s:g} s: {trouble}") from trouble
        waited_s += limits.silent_pause_s
        yield from window.pause(limits.silent_pause_s)


_HOW_FAR = {
    State.IDLE: 0,
    State.FAILED: 0,
    State.ERASING: 1,
    State.RECEIVING: 2,
    State.VERIFYING: 3,
    State.VERIFIED: 4,
}


class _Push:
    """One image on its way into one window."""

    def __init__(self, window: Window, image: Image, limits: Limits, progress: Progress) -> None:
        self._window = window
        self._image = image
        self._limits = limits
        self._progress = progress
        self._erases = 0
        self._is_activated = False
        self._furthest = (-1, 0, 0)
        self._attempts = 0  # this, the time waited and the latest trouble: since it got further
        self._waited_s = 0.0
        self._trouble = ""

    def run(self, status: Status) -> Steps[Status]:
        """From ``status`` on until the board runs the image. Raises ``InstallFailed`` when it will not."""
        while not self._runs(status):
            self._note(status)
            try:
                yield from self._step(status)
            except TroubleError as trouble:
                yield from self._put_up_with(trouble, status)
            status = yield from _heard(self._window, self._limits)
        return status

    def _runs(self, status: Status) -> bool:
        if status.is_open:
            return False
        if not self._image.version:
            return self._is_activated
        if self._is_activated and status.version != self._image.version:
            raise InstallFailed(f"activated, but it {status}, expected {self._image.version}")
        return status.version == self._image.version

    def _note(self, status: Status) -> None:
        """Whoever gets further gets new patience; else this is one attempt more at the same place."""
        place = (self._erases, _HOW_FAR[status.state], status.received)
        if place > self._furthest:
            self._furthest, self._attempts, self._waited_s, self._trouble = place, 0, 0.0, ""

    def _step(self, status: Status) -> Steps[None]:
        if status.state in (State.ERASING, State.VERIFYING):
            yield from self._wait(status)
            return
        self._attempts += 1
        if self._attempts > self._limits.attempts:
            raise InstallFailed(f"{self._limits.attempts} attempts, {status}: {self._trouble or 'without effect'}")
        if not status.holds(self._image) or status.state is State.FAILED or status.received > self._image.size:
            yield from self._erase(status)
        elif status.state is State.VERIFIED:
            self._is_activated = True  # also if nothing comes back: whether it was done shows in the state
            yield from self._window.activate()
        elif status.received < self._image.size:
            yield from self._send(status)
        else:
            yield from self._window.verify()

    def _put_up_with(self, trouble: TroubleError, status: Status) -> Steps[None]:
        """Whatever it was, the board is asked next how far it is. After a no it gets a pause first."""
        self._trouble = str(trouble)
        if not isinstance(trouble, UnheardError):
            yield from self._wait(status)
        if isinstance(trouble, BusyError) and status.is_open:
            self._attempts -= 1  # it is busy with us, which may take as long as it takes

    def _erase(self, status: Status) -> Steps[None]:
        if self._erases == self._limits.erases:
            raise InstallFailed(f"sent {self._erases} times, {status}; its CRC-32 is {self._image.crc32:08x}")
        yield from self._window.erase(self._image.size, self._image.crc32)
        self._erases += 1
        self._is_activated = False

    def _send(self, status: Status) -> Steps[None]:
        """Block by block from what the board has stored; one that it has already it takes again."""
        size, image = self._image.size, memoryview(self._image.data)
        block_bytes = min(self._limits.block_bytes, status.block_limit)
        for offset in range(status.received, size, block_bytes):
            self._progress(100 * offset // size)
            yield from self._window.block(offset, image[offset : offset + block_bytes])
        self._progress(100)

    def _wait(self, status: Status) -> Steps[None]:
        self._waited_s += self._limits.pause_s
        if self._waited_s > self._limits.patience_s:
            raise InstallFailed(f"{status}, for {self._limits.patience_s:g} s: {self._trouble or 'no end of it'}")
        yield from self._window.pause(self._limits.pause_s)

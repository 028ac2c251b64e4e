"""When a transfer is given up for another try, and when all of them are. Pure: the time is an argument."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from firmware_bridge.errors import DownloadFailed, Transient


@dataclass(frozen=True, slots=True)
class Limits:
    """When a try, and when the whole, is given up, and what may lie on the disk."""

    stall_s: float = 30  # without a byte
    min_speed_bytes_s: int = 200  # on the average of
    speed_window_s: float = 60
    deadline_s: float = 4 * 3600  # of all tries of one call
    attempts: int = 8  # in a row without a new byte
    first_wait_s: float = 2  # between two tries; doubles with each that brought nothing
    longest_wait_s: float = 300
    reserve_bytes: int = 64 << 20  # free on the disk, beside the file
    most_bytes: int = 64 << 20  # of the file


DEFAULT_LIMITS = Limits()


class Patience:
    """How often and how long it is tried again. ``name`` is what is tried, for the errors."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        rng: random.Random | None,
    ) -> None:
        self._name = name
        self._limits = limits
        self._clock, self._sleep, self._rng = clock, sleep, rng or random.Random()
        self._until = clock() + limits.deadline_s
        self._fruitless = 0

    def check(self) -> None:
        """Raises ``DownloadFailed`` after the deadline."""
        if self._clock() >= self._until:
            raise DownloadFailed(f"{self._name}: took too long")

    def wait(self, problem: Transient, *, is_further: bool) -> None:
        """Sleep before another try, or raise ``problem``, and why it is the last, where there is none."""
        limits = self._limits
        self._fruitless = 0 if is_further else self._fruitless + 1
        if self._fruitless >= limits.attempts:
            raise type(problem)(f"{problem}; given up after {limits.attempts} tries in a row without a new byte")
        doubled_s = limits.first_wait_s * 2 ** max(0, self._fruitless - 1)
        wait_s = min(doubled_s * self._rng.uniform(0.5, 1.5), limits.longest_wait_s)  # a fleet must not come in step
        if self._clock() + wait_s >= self._until:
            raise type(problem)(f"{problem}; given up, the deadline of {limits.deadline_s:g} s is reached")
        self._sleep(wait_s)


class Pace:
    """Tells a transfer that is worth its connection from one that only keeps it open."""

    def __init__(self, name: str, limits: Limits, now: float, done: int) -> None:
        self._name = name
        self._limits = limits
        self._since, self._from = now, done

    def check(self, now: float, done: int) -> None:
        """Raises ``DownloadFailed`` at the end of a window in which too little came."""
        lasted_s, came = now - self._since, done - self._from
        if lasted_s < self._limits.speed_window_s:
            return
        if came < self._limits.min_speed_bytes_s * lasted_s:
            least = self._limits.min_speed_bytes_s
            raise DownloadFailed(f"{self._name}: {came} bytes in {lasted_s:.0f} s, expected at least {least} a second")
        self._since, self._from = now, done

"""A bus on simulated lines, and the events it posts, waited for with a deadline."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from agent.clock import Clock
from agent.pile.events import FromBoard, JobDone, Measured
from agent.power.bus import Bus
from agent.power.config import DeviceConfig, LineConfig
from agent.power.profile import load_profile

T = TypeVar("T")
PROFILE = load_profile("reference")
BOARD = DeviceConfig("board", 1, PROFILE, (1, 2))
PATIENCE_S = 8.0  # what a condition may take on a loaded machine before the test fails; nothing waits that long


def one_line(port: str, *devices: DeviceConfig, **settings: Any) -> LineConfig:
    """A fast line with a poll every 50 ms. A sound board is not called silent because the machine is loaded."""
    line = LineConfig(port, devices or (BOARD,), baud=115_200, poll_ms=50, statistics_ms=60_000, answer_ms=250)
    return replace(line, **settings)


class Events:
    """What the bus posted, in order."""

    def __init__(self) -> None:
        self.all: list[FromBoard] = []
        self._changed = threading.Condition()

    def post(self, event: FromBoard) -> None:
        with self._changed:
            self.all.append(event)
            self._changed.notify_all()

    def wait(self, wanted: Callable[[FromBoard], bool], what: str = "the event") -> FromBoard:
        """The first event that is ``wanted``, among those posted and those to come."""
        self.until(lambda: any(wanted(event) for event in self.all), what)
        return next(event for event in self.all if wanted(event))

    def wait_for(self, kind: type[T]) -> T:
        event = self.wait(lambda event: isinstance(event, kind), kind.__name__)
        assert isinstance(event, kind)
        return event

    def next_reading(self, gun: int = 1, **wanted: Any) -> Measured:
        """A reading posted from now on, with those values."""
        seen = len(self.all)

        def fits(event: FromBoard) -> bool:
            return isinstance(event, Measured) and event.reading.gun == gun and all(
                getattr(event.reading, name) == value for name, value in wanted.items()
            )  # fmt: skip

        self.until(lambda: any(fits(event) for event in self.all[seen:]), f"a reading of gun {gun} with {wanted}")
        event = next(event for event in self.all[seen:] if fits(event))
        assert isinstance(event, Measured)
        return event

    def job_done(self, kind: type, number: int = 1) -> JobDone:
        """The end of the ``number``-th job of that kind."""
        self.until(lambda: len(self.jobs_done(kind)) >= number, f"{kind.__name__} number {number}")
        return self.jobs_done(kind)[number - 1]

    def jobs_done(self, kind: type) -> list[JobDone]:
        return [event for event in self.all if isinstance(event, JobDone) and isinstance(event.job, kind)]

    def count(self, kind: type, gun: int) -> int:
        guns = [event.reading.gun if isinstance(event, Measured) else getattr(event, "gun", 0)
                for event in self.all if isinstance(event, kind)]  # fmt: skip
        return guns.count(gun)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S), f"{what} awaited"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} awaited"
        time.sleep(0.005)


@contextmanager
def running_bus(*lines: LineConfig, start: bool = True, clock: Clock | None = None) -> Iterator[tuple[Bus, Events]]:
    """A bus with its threads; that none of them died of a bug is checked at the end."""
    events = Events()
    failures: list[BaseException] = []
    bus = Bus(lines, events.post, failures.append, clock or Clock())
    if start:
        bus.start()
    try:
        yield bus, events
    finally:
        bus.stop()
    assert failures == []

"""One thread, many tasks, the most urgent step first: what runs on one serial line.

A task is a generator. It runs from one ``yield`` to the next without interruption (one transaction, normally) and
yields the monotonic time from which it may go on. Between two steps a more urgent task goes first, so a stop waits for
one transaction at most, whatever else is being done.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[float, None, T]  # a task, or a part of one, that comes out with a value

AT_ONCE = 0.0
OVERDUE_S = 10.0
PROOF_OF_LIFE_S = 1.0  # the thread goes round at least so often


class Urgency(IntEnum):
    """Which task goes first."""

    STOP = 0
    START = 1
    WATCHDOG = 2
    LIVE = 3
    STATISTICS = 4
    UPDATE = 5  # of a board's firmware: it takes all the time that the others leave


@dataclass(eq=False)
class Task:
    """``steps`` yield when to go on (monotonic seconds; 0 is at once)."""

    urgency: Urgency
    steps: Iterator[float]
    ready_at: float = field(default=0.0)
    is_over: bool = field(default=False)

    def rank(self, now: float) -> tuple[int, float]:
        """Its place among the tasks that are ready; one that has waited for long moves up beside the live polls."""
        is_overdue = self.urgency > Urgency.LIVE and now - self.ready_at > OVERDUE_S
        return (Urgency.LIVE if is_overdue else self.urgency, self.ready_at)


def told(steps: Steps[T], tell: Callable[[T], None]) -> Iterator[float]:
    """``steps``, and their outcome told at the end."""
    outcome = yield from steps
    tell(outcome)


class Scheduler:
    """The thread and its tasks. ``submit``, ``cancel`` and ``stop`` may be called from any thread.

    What is submitted goes through a queue into the thread's own list: no lock is held while it is searched.
    """

    def __init__(self, name: str, on_failure: Callable[[BaseException], None]) -> None:
        self._submitted: SimpleQueue[Task] = SimpleQueue()
        self._tasks: list[Task] = []
        self._stopping = False
        self._on_failure = on_failure
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.alive_at = time.monotonic()  # when the thread last went round: proof of life

    def start(self) -> None:
        self._thread.start()

    def submit(self, task: Task) -> None:
        task.ready_at = task.ready_at or time.monotonic()
        self._submitted.put(task)

    def cancel(self, task: Task) -> None:
        """Take a task out; one whose step is running ends after that step."""
        task.steps = iter(())
        task.is_over = True

    def stop(self, timeout_s: float) -> None:
        """End after the step that is running."""
        self._stopping = True
        self.submit(Task(Urgency.STOP, iter(())))  # wakes it
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while (task := self._take()) is not None:
                self._step(task)
        except BaseException as error:
            self._on_failure(error)
            raise

    def _take(self) -> Task | None:
        """The most urgent task that is ready, waited for; ``None`` when it is time to stop."""
        while not self._stopping:
            while not self._submitted.empty():
                self._tasks.append(self._submitted.get())
            now = self.alive_at = time.monotonic()
            ready = [task for task in self._tasks if task.ready_at <= now]
            if ready:
                task = min(ready, key=lambda task: task.rank(now))
                self._tasks.remove(task)
                return task
            with suppress(Empty):
                self._tasks.append(self._submitted.get(timeout=self._time_to_next(now)))
        return None

    def _time_to_next(self, now: float) -> float:
        return min([task.ready_at - now for task in self._tasks] + [PROOF_OF_LIFE_S])

    def _step(self, task: Task) -> None:
        ready_at = next(task.steps, None)
        if ready_at is None:
            task.is_over = True
        else:
            task.ready_at = ready_at or time.monotonic()
            self._tasks.append(task)

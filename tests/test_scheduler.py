"""One thread, the most urgent step first."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from bus_helpers import PATIENCE_S, wait_until

from agent.power.scheduler import OVERDUE_S, PROOF_OF_LIFE_S, Scheduler, Task, Urgency

AT_ONCE = 0.0


class Rig:
    """A scheduler, and tasks that write down their steps."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.failures: list[BaseException] = []
        self.scheduler = Scheduler("test", self.failures.append)

    def task(
        self, urgency: Urgency, name: str, pauses: tuple[float, ...] = (), then: Callable[[], None] | None = None
    ) -> Task:
        """A task of ``len(pauses) + 1`` steps; ``then`` is called in its first one."""

        def steps() -> Iterator[float]:
            self.steps.append(name)
            if then is not None:
                then()
            for number, pause in enumerate(pauses, 2):
                yield pause and time.monotonic() + pause
                self.steps.append(f"{name}{number}")

        return Task(urgency, steps())

    def submit(self, *args: object, **named: object) -> Task:
        task = self.task(*args, **named)  # type: ignore[arg-type]
        self.scheduler.submit(task)
        return task

    def run(self, steps: int) -> list[str]:
        """Start, and wait for so many steps."""
        self.scheduler.start()
        wait_until(lambda: len(self.steps) >= steps, f"{steps} steps, not {self.steps}")
        return self.steps


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.scheduler.stop(PATIENCE_S)
    assert rig.failures == []


def test_the_most_urgent_goes_first(rig: Rig) -> None:
    for urgency in reversed(Urgency):
        rig.submit(urgency, urgency.name)
    assert rig.run(6) == ["STOP", "START", "WATCHDOG", "LIVE", "STATISTICS", "UPDATE"]


def test_among_equals_the_one_that_waits_longest(rig: Rig) -> None:
    for name in "abc":
        rig.submit(Urgency.LIVE, name)
    assert rig.run(3) == ["a", "b", "c"]


def test_a_stop_goes_between_two_transactions_of_another_task(rig: Rig) -> None:
    def a_stop_comes() -> None:
        rig.submit(Urgency.STOP, "stop")

    rig.submit(Urgency.LIVE, "live", (AT_ONCE, AT_ONCE), then=a_stop_comes)
    rig.submit(Urgency.START, "start", (AT_ONCE,))
    assert rig.run(6) == ["start", "start2", "live", "stop", "live2", "live3"]


def test_a_task_that_pauses_lets_the_others_go(rig: Rig) -> None:
    rig.submit(Urgency.STOP, "stop", (0.05,))
    rig.submit(Urgency.STATISTICS, "statistics")
    assert rig.run(3) == ["stop", "statistics", "stop2"]


def test_a_task_wakes_the_waiting_thread(rig: Rig) -> None:
    rig.submit(Urgency.LIVE, "live", (60.0,))
    rig.run(1)
    began_at = time.monotonic()
    rig.submit(Urgency.STOP, "stop")
    wait_until(lambda: "stop" in rig.steps, "the stop")
    assert time.monotonic() - began_at < PROOF_OF_LIFE_S / 2


@pytest.mark.parametrize(
    ("waited_s", "first"), [(OVERDUE_S - 0.1, Urgency.LIVE), (OVERDUE_S + 0.1, Urgency.STATISTICS)]
)
def test_overdue_statistics_move_up_beside_the_live_polls(waited_s: float, first: Urgency) -> None:
    now = 1000.0
    live = Task(Urgency.LIVE, iter(()), ready_at=now - 1)
    statistics = Task(Urgency.STATISTICS, iter(()), ready_at=now - waited_s)
    assert min(live, statistics, key=lambda task: task.rank(now)).urgency is first


def test_overdue_statistics_never_pass_a_stop_a_start_or_a_feeding() -> None:
    statistics = Task(Urgency.STATISTICS, iter(()), ready_at=0.0)
    for urgency in (Urgency.STOP, Urgency.START, Urgency.WATCHDOG):
        assert Task(urgency, iter(()), ready_at=999.0).rank(1000.0) < statistics.rank(1000.0)


def test_statistics_are_not_starved_by_polls_that_never_rest(rig: Rig) -> None:
    rig.submit(Urgency.LIVE, "live", (AT_ONCE,) * 100)
    late = rig.task(Urgency.STATISTICS, "statistics")
    late.ready_at = time.monotonic() - OVERDUE_S - 1
    rig.scheduler.submit(late)
    assert rig.run(2)[0] == "statistics"


def test_a_cancelled_task_does_not_run(rig: Rig) -> None:
    task = rig.submit(Urgency.START, "start")
    rig.submit(Urgency.LIVE, "live")
    rig.scheduler.cancel(task)
    assert task.is_over
    assert rig.run(1) == ["live"]


def test_a_task_cancelled_in_its_step_ends_with_it(rig: Rig) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        go_on.wait(PATIENCE_S)

    task = rig.submit(Urgency.START, "start", (AT_ONCE,), then=hold)
    rig.submit(Urgency.LIVE, "live")
    rig.scheduler.start()
    assert inside.wait(PATIENCE_S)
    rig.scheduler.cancel(task)
    go_on.set()
    wait_until(lambda: "live" in rig.steps, "the next task")
    assert rig.steps == ["start", "live"]


def test_a_cancelled_task_may_be_over_already(rig: Rig) -> None:
    task = rig.submit(Urgency.START, "start")
    rig.run(1)
    wait_until(lambda: task.is_over, "its end")
    rig.scheduler.cancel(task)


def test_stop_ends_after_the_running_step(rig: Rig) -> None:
    rig.submit(Urgency.LIVE, "live", (AT_ONCE,) * 10**6)
    rig.run(10)
    rig.scheduler.stop(PATIENCE_S)
    steps = len(rig.steps)
    rig.submit(Urgency.STOP, "stop")
    assert len(rig.steps) == steps


def test_an_idle_thread_proves_that_it_lives(rig: Rig) -> None:
    rig.scheduler.start()
    first = rig.scheduler.alive_at
    wait_until(lambda: rig.scheduler.alive_at > first, "a sign of life")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_task_is_reported() -> None:
    def bug() -> None:
        raise ZeroDivisionError("a bug")

    rig = Rig()
    rig.submit(Urgency.LIVE, "live", then=bug)
    rig.run(1)
    wait_until(lambda: len(rig.failures) == 1, "the report")
    rig.scheduler.stop(PATIENCE_S)
    assert isinstance(rig.failures[0], ZeroDivisionError)

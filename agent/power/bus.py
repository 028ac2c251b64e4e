"""The power room's face: the core's jobs go out to the boards, what the boards say comes back as the core's events.

One thread a serial line (``Scheduler``), so that a silent device delays no other line; within a line the most urgent
step goes first.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from agent.clock import Clock
from agent.pile.actions import (
    FeedWatchdogs,
    FlashBoard,
    Job,
    ReadVersions,
    RebootBoards,
    RebootGun,
    SetGun,
    StartGun,
    StopGun,
)
from agent.pile.board import DeviceVersion, GunReading
from agent.pile.events import BoardFaults, FromBoard, GunSet, JobDone, Measured, Silenced, VersionsRead
from agent.pile.parameters import BoardSettings
from agent.power.config import LineConfig
from agent.power.device import Device, Outcome
from agent.power.line import SerialLine
from agent.power.scheduler import Scheduler, Steps, Task, Urgency, told
from agent.power.update import BoardsUpdate
from agent.protocol.results import Result

log = logging.getLogger(__name__)

T = TypeVar("T")
Order = Job | SetGun | FeedWatchdogs | ReadVersions | FlashBoard
ALIVE_WITHIN_S = 10.0  # a line's thread that has not gone round for so long is stuck
# The line's thread wakes up to find Python's lock taken until our next system call, and must be woken again. With us
# out of its way it is on the wire 0.1 to 0.2 ms sooner (python -m bench.latency).
GIVE_WAY_S = 50e-6
BEHIND_STOP_S = 0.02  # how often a start looks whether the stop before it is over


class Bus:
    """All lines of the pile. ``post`` and ``on_failure`` (a line's thread has died of a bug) are called from the lines'
    threads."""

    def __init__(
        self,
        lines: tuple[LineConfig, ...],
        post: Callable[[FromBoard], None],
        on_failure: Callable[[BaseException], None],
        clock: Clock,
    ) -> None:
        self._post = post
        self._lines = [_Worker(config, post, on_failure, clock) for config in lines]
        self._of_gun = {gun: (worker, device) for worker in self._lines for device in worker.devices
                        for gun in device.config.guns}  # fmt: skip
        self._starts: dict[int, Task] = {}
        self._stops: dict[int, Task] = {}
        self._settings: dict[int, Task] = {}
        self._updates: deque[BoardsUpdate] = deque()  # the first one runs
        self._updates_lock = threading.Lock()

    def start(self) -> None:
        for worker in self._lines:
            worker.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        for worker in self._lines:
            worker.stop(timeout_s)

    def do(self, order: Order) -> None:
        """Have something done; a job's ``JobDone`` follows (one for a stop that meets another, none for a start that a
        stop has overtaken), ``GunSet`` after ``SetGun``, ``VersionsRead`` after ``ReadVersions``, and after
        ``FlashBoard`` ``FlashProgress`` and one ``FlashDone``."""
        match order:
            case StartGun():
                self._start_gun(order)
            case StopGun():
                self._stop_gun(order)
            case RebootGun(gun):
                _, device = self._of_gun[gun]
                self._submit(order, Urgency.START, gun, device.acting("reboot_gun", gun, {}))
            case RebootBoards():
                self._reboot_boards(order)
            case SetGun():
                self._set_gun(order)
            case FeedWatchdogs():
                self._feed()
            case ReadVersions():
                self._read_versions()
            case FlashBoard():
                self._flash_boards(order)
        if not isinstance(order, FeedWatchdogs):
            time.sleep(GIVE_WAY_S)

    def is_alive(self) -> bool:
        """Every line's thread has gone round lately."""
        return all(worker.is_alive() for worker in self._lines)

    def status(self) -> list[dict[str, object]]:
        """Every line and device, for people to read."""
        return [worker.status() for worker in self._lines]

    def _start_gun(self, job: StartGun) -> None:
        """A stop still being tried (the board is busy) was meant for the charge before: the start follows it. It also
        follows what is being set, which the board would refuse under current."""
        _, device = self._of_gun[job.gun]
        steps = _behind(self._settings.get(job.gun), _behind(self._stops.get(job.gun), device.starting(job)))
        self._starts[job.gun] = self._submit(job, Urgency.START, job.gun, steps)

    def _stop_gun(self, job: StopGun) -> None:
        """A stop overtakes a start that is still queued; were it not taken out, the start would follow it and win."""
        worker, device = self._of_gun[job.gun]
        start = self._starts.pop(job.gun, None)
        if start is not None:
            worker.scheduler.cancel(start)
        earlier = self._stops.get(job.gun)
        if earlier is None or earlier.is_over:
            self._stops[job.gun] = self._submit(job, Urgency.STOP, job.gun, device.acting("stop", job.gun, {}))

    def _set_gun(self, job: SetGun) -> None:
        worker, device = self._of_gun[job.gun]
        task = Task(Urgency.START, told(device.setting(job.gun, job.settings), partial(self._gun_set, job)))
        self._settings[job.gun] = task
        worker.scheduler.submit(task)

    def _gun_set(self, job: SetGun, done: tuple[BoardSettings, Outcome]) -> None:
        before, outcome = done
        self._post(GunSet(job, before, outcome.result, outcome.text))

    def _submit(self, job: Job, urgency: Urgency, gun: int, steps: Steps[Outcome]) -> Task:
        task = Task(urgency, told(steps, partial(self._job_done, job)))
        self._of_gun[gun][0].scheduler.submit(task)
        return task

    def _job_done(self, job: Job, outcome: Outcome) -> None:
        self._post(JobDone(job, outcome.result, outcome.text))

    def _feed(self) -> None:
        for worker in self._lines:
            worker.feed()

    def _reboot_boards(self, job: RebootBoards) -> None:
        devices = self._devices()
        gathered = _Gathered[Outcome](len(devices), lambda outcomes: self._job_done(job, _worst(outcomes)))
        for number, (worker, device) in enumerate(devices):
            steps = told(device.acting("reboot_board", 0, {}), partial(gathered.add, number))
            worker.scheduler.submit(Task(Urgency.START, steps))

    def _read_versions(self) -> None:
        devices = self._devices()
        gathered = _Gathered[list[DeviceVersion]](
            len(devices), lambda found: self._post(VersionsRead(tuple(one for some in found for one in some)))
        )
        for number, (worker, device) in enumerate(devices):
            steps = told(_named_versions(device), partial(gathered.add, number))
            worker.scheduler.submit(Task(Urgency.LIVE, steps))

    def _flash_boards(self, order: FlashBoard) -> None:
        """Behind an update that runs: were it the same order again, it will find that there is nothing left to do."""
        devices = [(worker.scheduler, device) for worker, device in self._devices()]
        update = BoardsUpdate(order, devices, self._post, self._next_update)
        with self._updates_lock:
            self._updates.append(update)
            is_first = len(self._updates) == 1
        if is_first:
            update.start()

    def _next_update(self) -> None:
        with self._updates_lock:
            self._updates.popleft()
            following = self._updates[0] if self._updates else None
        if following is not None:
            following.start()

    def _devices(self) -> list[tuple["_Worker", Device]]:
        return [(worker, device) for worker in self._lines for device in worker.devices]


class _Worker:
    """One line: its thread, its port, its devices."""

    def __init__(
        self,
        config: LineConfig,
        post: Callable[[FromBoard], None],
        on_failure: Callable[[BaseException], None],
        clock: Clock,
    ) -> None:
        self._config = config
        self._post = post
        self._line = SerialLine(config)
        self._feeding: set[str] = set()
        self.scheduler = Scheduler(f"bus {config.port}", on_failure)
        self.devices = [
            Device(
                self._line,
                device,
                clock,
                self._polled,
                partial(self._silenced, device.guns),
                partial(self._faults_changed, device.name),
            )
            for device in config.devices
        ]

    def start(self) -> None:
        for device in self.devices:
            self.scheduler.submit(Task(Urgency.LIVE, device.polling()))
            self.scheduler.submit(Task(Urgency.STATISTICS, device.gathering_statistics()))
        self.scheduler.start()

    def stop(self, timeout_s: float) -> None:
        self.scheduler.stop(timeout_s)
        self._line.close()

    def is_alive(self) -> bool:
        return time.monotonic() - self.scheduler.alive_at < ALIVE_WITHIN_S

    def feed(self) -> None:
        """Feed every device's watchdog; a feeding that still waits its turn is not doubled."""
        for device in self.devices:
            name = device.config.name
            if name not in self._feeding:
                self._feeding.add(name)
                feeding = device.acting("feed", 0, {"timeout_s": self._config.watchdog_s})
                self.scheduler.submit(Task(Urgency.WATCHDOG, told(feeding, partial(self._fed, name))))

    def status(self) -> dict[str, object]:
        return {
            "port": self._config.port,
            "baud": self._config.baud,
            "reason": self._line.reason,
            "devices": [_device_status(device) for device in self.devices],
        }

    def _fed(self, name: str, _outcome: Outcome) -> None:
        self._feeding.discard(name)  # a feeding that failed shows as a silent board soon enough

    def _polled(self, readings: list[GunReading]) -> None:
        for reading in readings:
            self._post(Measured(reading))

    def _faults_changed(self, board: str, faults: tuple[str, ...]) -> None:
        self._post(BoardFaults(board, faults))

    def _silenced(self, guns: tuple[int, ...], _reason: str) -> None:
        for gun in guns:
            self._post(Silenced(gun))


class _Gathered(Generic[T]):
    """Calls ``done`` with the parts from several lines' threads, in their order, once the last one is in."""

    def __init__(self, count: int, done: Callable[[list[T]], None]) -> None:
        self._count = count
        self._done = done
        self._parts: dict[int, T] = {}
        self._lock = threading.Lock()

    def add(self, number: int, part: T) -> None:
        with self._lock:
            self._parts[number] = part
            is_last = len(self._parts) == self._count
        if is_last:
            self._done([self._parts[number] for number in range(self._count)])


def _behind(earlier: Task | None, steps: Steps[T]) -> Steps[T]:
    """``steps``, once the earlier task is over."""
    while earlier is not None and not earlier.is_over:
        yield time.monotonic() + BEHIND_STOP_S
    return (yield from steps)


def _worst(outcomes: list[Outcome]) -> Outcome:
    return next((outcome for outcome in outcomes if outcome.result is not Result.OK), outcomes[0])


def _named_versions(device: Device) -> Steps[list[DeviceVersion]]:
    versions = yield from device.reading_versions()
    return [DeviceVersion(f"gun-{gun}" if gun else device.config.name, version) for gun, version in versions]


def _device_status(device: Device) -> dict[str, object]:
    tally = device.tally
    return {
        "name": device.config.name,
        "unit": device.config.unit,
        "profile": device.config.profile.name,
        "guns": list(device.config.guns),
        "reason": tally.reason,
        "uptime_s": tally.uptime_s,
        "faults": list(tally.faults),
        "transactions": tally.transactions,
        "retries": tally.retries,
        "failures": tally.failures,
        "refusals": tally.refusals,
    }

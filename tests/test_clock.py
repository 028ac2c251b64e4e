"""What the clock says while the system's shows 1970, and when it is set. Its sources are turned by the test."""

import threading
from pathlib import Path

import pytest

from agent import clock
from agent.clock import Clock
from agent.pile.state import KnownTime, Now
from agent.version import RELEASED_MS

NOON_MS = RELEASED_MS + 12 * 3_600_000
BOOT = "d15adbc3-3dbe-4e3c-9e2f-7a3c285b3da2"
YEAR_MS = 365 * 86_400_000


class Sources:
    """The system's clock, which shows 1970, and the monotonic one: 70 s since the boot."""

    def __init__(self) -> None:
        self.wall_ms = 75_000
        self.mono_ms = 70_000

    def after(self, ms: int) -> None:
        self.wall_ms += ms
        self.mono_ms += ms


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sources:
    turned = Sources()
    monkeypatch.setattr("time.time_ns", lambda: turned.wall_ms * 1_000_000)
    monkeypatch.setattr("time.monotonic_ns", lambda: turned.mono_ms * 1_000_000)
    boot_id = tmp_path / "boot_id"
    boot_id.write_text(f"{BOOT}\n", encoding="ascii")
    monkeypatch.setattr(clock, "BOOT_ID", boot_id)
    return turned


def test_a_system_clock_that_was_set_counts(sources: Sources) -> None:
    sources.wall_ms = NOON_MS
    assert Clock().now() == Now(NOON_MS, 70_000, trusted=True, is_estimate=False, boot=BOOT)


def test_one_from_before_the_release_does_not(sources: Sources) -> None:
    sources.wall_ms = RELEASED_MS - 1
    assert Clock().now() == Now(70_000, 70_000, trusted=False, boot=BOOT)


def test_a_commands_stamp_and_what_has_passed_since_are_the_time(sources: Sources) -> None:
    told = Clock()
    told.heard(NOON_MS)
    sources.after(2500)
    assert told.now() == Now(NOON_MS + 2500, 72_500, trusted=True, is_estimate=True, boot=BOOT)


def test_an_older_stamp_that_comes_later_sets_nothing_back(sources: Sources) -> None:
    told = Clock()
    told.heard(NOON_MS)
    sources.after(1000)
    told.heard(NOON_MS - 3_600_000)  # it had waited at the broker
    assert told.now().wall_ms == NOON_MS + 1000


def test_a_later_stamp_sets_it_forward(sources: Sources) -> None:
    told = Clock()
    told.heard(NOON_MS - 3_600_000)
    told.heard(NOON_MS)
    assert told.now().wall_ms == NOON_MS


def test_the_system_clock_wins_at_once_even_where_it_is_behind(sources: Sources) -> None:
    told = Clock()
    told.heard(NOON_MS + 5000)
    sources.wall_ms = NOON_MS
    assert told.now() == Now(NOON_MS, 70_000, boot=BOOT)


@pytest.mark.parametrize("stamp", [0, -1, 75_000, RELEASED_MS - 1, RELEASED_MS + 20 * YEAR_MS, 9 * 10**18])
def test_a_stamp_that_cannot_be_is_not_heard(sources: Sources, stamp: int) -> None:
    told = Clock()
    told.heard(stamp)
    assert not told.now().trusted


def test_what_an_earlier_process_knew_is_still_good_in_the_same_boot(sources: Sources) -> None:
    told = Clock()
    told.recall(KnownTime(BOOT, NOON_MS - 70_000))
    assert told.now() == Now(NOON_MS, 70_000, is_estimate=True, boot=BOOT)


@pytest.mark.parametrize("known", [None, KnownTime("another boot", NOON_MS), KnownTime(BOOT, None)])
def test_anything_else_is_not(sources: Sources, known: KnownTime | None) -> None:
    told = Clock()
    told.recall(known)
    assert not told.now().trusted


def test_the_kernels_boot_has_a_name_that_stays() -> None:
    assert clock.boot_id() == clock.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_without_that_name_each_process_is_a_boot_of_its_own(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "boot_id").unlink()
    first = clock.boot_id()
    sources.after(1)
    assert clock.boot_id() != first


def test_any_thread_may_ask_while_it_goes_forward(sources: Sources) -> None:
    """What it says never goes back, and is never half a time."""
    told, seen, is_over = Clock(), [0], threading.Event()
    told.heard(NOON_MS)

    def ask() -> None:
        while not is_over.is_set():
            seen.append(told.now().wall_ms)

    asking = threading.Thread(target=ask)
    asking.start()
    for step in range(20_000):
        told.heard(NOON_MS + step)
    is_over.set()
    asking.join()
    assert seen == sorted(seen)
    assert told.now().wall_ms == NOON_MS + 19_999


@pytest.mark.parametrize(
    ("known", "mono_ms", "expected"),
    [
        (KnownTime("another boot"), 119_999, True),
        (KnownTime("another boot"), 120_000, False),  # somebody has started the agent
        (KnownTime(BOOT), 20_000, False),  # only the agent was started
        (None, 20_000, False),  # its first life
    ],
)
def test_a_board_that_was_started_anew_a_moment_ago_is_known(
    sources: Sources, known: KnownTime | None, mono_ms: int, expected: bool
) -> None:
    sources.mono_ms = mono_ms
    told = Clock()
    told.recall(known)
    assert told.has_just_booted() is expected

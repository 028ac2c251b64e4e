"""SetGun: what a gun's controller keeps, written and read back, and what it had before."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from bus_helpers import BOARD, PROFILE, Events, one_line

from agent.clock import Clock
from agent.pile.actions import SetGun, StartGun
from agent.pile.events import FromBoard, GunSet
from agent.pile.parameters import BoardSettings
from agent.power.bus import Bus
from agent.protocol.results import Result
from sim.power_board import RunningBoard, running_board

FACTORY = BoardSettings(2500, "cc", "three")
WANTED = BoardSettings(160, "cv", "single")


@pytest.fixture
def site() -> Iterator[RunningBoard]:
    with running_board(speedup=5) as site:
        yield site


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def bus(site: RunningBoard, events: Events) -> Iterator[Bus]:
    yield from running(one_line(site.port), events)


def running(line: object, events: Events) -> Iterator[Bus]:
    def fail(error: BaseException) -> None:
        raise error

    bus = Bus((line,), events.post, fail, Clock())  # type: ignore[arg-type]
    bus.start()
    yield bus
    bus.stop()


def gun_set(bus: Bus, events: Events, job: SetGun) -> GunSet:
    seen = len(events.all)
    bus.do(job)

    def is_done(event: FromBoard) -> bool:
        return isinstance(event, GunSet)

    events.until(lambda: any(is_done(event) for event in events.all[seen:]), "GunSet")
    (event,) = (event for event in events.all[seen:] if isinstance(event, GunSet))
    assert event.job == job
    return event


def kept(site: RunningBoard, gun: int) -> BoardSettings:
    state = site.board.state()["guns"][gun - 1]
    return BoardSettings(state["current_limit_da"], state["mode"], state["phases"])


def test_all_three_are_written_and_what_was_before_is_told(site: RunningBoard, bus: Bus, events: Events) -> None:
    event = gun_set(bus, events, SetGun(2, WANTED))
    assert (event.result, event.text, event.before) == (Result.OK, "", FACTORY)
    assert (kept(site, 1).mode, kept(site, 2)) == ("cc", WANTED)


def test_what_is_none_is_left(site: RunningBoard, bus: Bus, events: Events) -> None:
    event = gun_set(bus, events, SetGun(1, BoardSettings(160)))
    assert event.before == BoardSettings(2500)
    assert kept(site, 1) == BoardSettings(160, "cc", "three")


def test_it_can_be_taken_back(site: RunningBoard, bus: Bus, events: Events) -> None:
    before = gun_set(bus, events, SetGun(1, WANTED)).before
    assert gun_set(bus, events, SetGun(1, before)).before == WANTED
    assert kept(site, 1) == FACTORY


def test_under_current_the_limit_is_taken_and_the_mode_refused(site: RunningBoard, bus: Bus, events: Events) -> None:
    site.board.plug(1)
    bus.do(StartGun(1, "A1", None, 320))
    events.wait(lambda event: getattr(getattr(event, "reading", None), "current_da", None) not in (None, 0), "current")
    event = gun_set(bus, events, SetGun(1, WANTED))
    assert event.result is Result.DEVICE_REFUSED
    assert "busy" in event.text
    assert event.before == BoardSettings(320, "cc")
    assert kept(site, 1) == BoardSettings(160, "cc", "three")


def test_a_start_follows_what_is_being_set(site: RunningBoard, bus: Bus, events: Events) -> None:
    site.board.plug(1)
    events.next_reading(1, plugged=True)
    bus.do(SetGun(1, WANTED))
    bus.do(StartGun(1, "A1", None, 320))
    assert events.job_done(StartGun).result is Result.OK
    assert events.wait_for(GunSet).result is Result.OK
    assert kept(site, 1) == BoardSettings(320, "cv", "single")


def test_a_silent_board(site: RunningBoard, bus: Bus, events: Events) -> None:
    site.board.silent()
    event = gun_set(bus, events, SetGun(1, WANTED))
    assert (event.result, event.before) == (Result.DEVICE_SILENT, BoardSettings(None))


def test_a_value_beyond_the_register_is_never_sent(site: RunningBoard, bus: Bus, events: Events) -> None:
    event = gun_set(bus, events, SetGun(1, BoardSettings(2501)))
    assert event.result is Result.OUT_OF_RANGE
    assert kept(site, 1) == FACTORY


def test_a_device_without_the_register_keeps_what_it_can(site: RunningBoard, events: Events) -> None:
    actions = {name: steps for name, steps in PROFILE.actions.items() if name not in ("set_mode", "set_phases")}
    device = replace(BOARD, profile=replace(PROFILE, actions=actions))
    for bus in running(one_line(site.port, device), events):
        assert gun_set(bus, events, SetGun(1, WANTED)).result is Result.OK
    assert kept(site, 1) == BoardSettings(160, "cc", "three")


def test_the_range_of_the_limit_is_known_from_the_profile() -> None:
    assert PROFILE.range_of("gun", "current_limit") == (60, 2500)
    assert PROFILE.range_of("gun", "nothing") is None

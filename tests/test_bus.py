"""The bus against the simulated board: the core's jobs become frames, the board's answers become events."""

from dataclasses import replace

import pytest
from bus_helpers import BOARD, PROFILE, Events, one_line, running_bus, wait_until

from agent.clock import Clock
from agent.pile.actions import FeedWatchdogs, ReadVersions, RebootBoards, RebootGun, StartGun, StopGun
from agent.pile.board import BoardState, DeviceVersion, order_context
from agent.pile.events import Measured, VersionsRead
from agent.power.bus import Bus
from agent.power.config import DeviceConfig
from agent.protocol.results import Result, StopReason
from sim.power_board import RunningBoard, running_board

START = StartGun(1, "A1", 10_008, 320)
GHOST = DeviceConfig("ghost", 2, PROFILE, (3,))  # nobody on the line has that unit


def requests(site: RunningBoard, begin: str) -> list[str]:
    """The requests so far that begin with those bytes, in hex."""
    frames = [frame.data.hex(" ") for frame in list(site.line.frames) if frame.direction == "request"]
    return [frame for frame in frames if frame.startswith(begin)]


def charge(site: RunningBoard, bus: Bus, events: Events) -> None:
    """A charge of order A1 at gun 1, with current."""
    site.board.plug(1)
    bus.do(START)
    events.next_reading(1, state=BoardState.CHARGING)


# ---- polls


def test_every_gun_is_measured() -> None:
    with running_board() as site, running_bus(one_line(site.port)) as (_, events):
        site.board.plug(2, soc=40)
        one, two = events.next_reading(1).reading, events.next_reading(2, plugged=True).reading
        assert (one.state, one.plugged, one.energy_wh, one.soc_pct) == (BoardState.IDLE, False, 1_000_000, None)
        assert (two.state, two.soc_pct, two.energy_wh) == (BoardState.PLUGGED, 40, 2_000_000)


def test_a_poll_is_one_read_of_merged_registers() -> None:
    """The board's last four input registers and two guns of 32 stand side by side: 68 from 0x003C."""
    with running_board() as site, running_bus(one_line(site.port)) as (_, events):
        for _ in range(3):
            events.next_reading(2)
        polls = requests(site, "01 04")
        assert len(polls) >= 3
        assert {poll[:17] for poll in polls} == {"01 04 00 3c 00 44"}


def test_the_silent_interval_is_kept() -> None:
    with running_board(speedup=20) as site, running_bus(one_line(site.port)) as (bus, events):
        charge(site, bus, events)
        bus.do(ReadVersions())
        events.wait_for(VersionsRead)
        assert site.line.violations == 0


def test_a_guns_number_is_the_piles() -> None:
    device = replace(BOARD, guns=(7, 3))
    with running_board(speedup=20) as site, running_bus(one_line(site.port, device)) as (bus, events):
        site.board.plug(2)
        events.next_reading(3, plugged=True)
        events.next_reading(7, plugged=False)
        bus.do(StartGun(3, "A1", None, 320))
        events.next_reading(3, state=BoardState.CHARGING)
        assert site.board.state()["guns"][1]["order"] == "A1"


# ---- start and stop


def test_a_start_is_one_frame_and_read_back() -> None:
    with running_board(speedup=20) as site, running_bus(one_line(site.port)) as (bus, events):
        site.board.plug(1)
        bus.do(START)
        assert events.job_done(StartGun).result is Result.OK
        # 20 registers from 0x0200: "A1", 10,008 Wh, 32.0 A, start
        words = "41 31" + " 00 00" * 15 + " 00 00 27 18 01 40 00 01"
        (write,) = requests(site, "01 10 02")
        assert write[:-6] == f"01 10 02 00 00 14 28 {words}"
        (read_back,) = requests(site, "01 03")
        assert read_back[:-6] == "01 03 02 00 00 14"
        assert events.next_reading(1, state=BoardState.CHARGING).reading.order == "A1"


def test_a_stop_is_written_and_read_back() -> None:
    with running_board(speedup=20) as site, running_bus(one_line(site.port)) as (bus, events):
        charge(site, bus, events)
        bus.do(StopGun(1))
        assert events.job_done(StopGun).result is Result.OK
        assert requests(site, "01 06 02 13 00 02")
        assert requests(site, "01 03 02 13 00 01")
        reading = events.next_reading(1, state=BoardState.ENDED).reading
        assert reading.stop_reason is StopReason.LOCAL  # the board can't tell our command from its button; the core can


@pytest.mark.parametrize("order", ["1" * 32, "1" * 33, "订单 7", "#7", "x" * 60_000])
def test_the_board_keeps_an_order_in_its_own_form(order: str) -> None:
    with running_board(speedup=20) as site, running_bus(one_line(site.port)) as (bus, events):
        site.board.plug(1)
        bus.do(StartGun(1, order, 10, 320))
        assert events.job_done(StartGun).result is Result.OK
        events.next_reading(1, order=order_context(order))


@pytest.mark.parametrize(
    ("limit_wh", "words"), [(None, "00 00 00 00"), (2**32 - 1, "ff ff ff ff"), (2**80, "ff ff ff ff")]
)
def test_an_energy_limit_beyond_the_register_is_the_most_it_holds(limit_wh: int | None, words: str) -> None:
    with running_board(speedup=20) as site, running_bus(one_line(site.port)) as (bus, events):
        site.board.plug(1)
        bus.do(StartGun(1, "A1", limit_wh, 320))
        assert events.job_done(StartGun).result is Result.OK
        (write,) = requests(site, "01 10 02")
        assert write[20 + 3 * 32 + 1 :].startswith(words)


def test_a_current_that_does_not_fit_the_register_is_out_of_range() -> None:
    with running_board() as site, running_bus(one_line(site.port)) as (bus, events):
        bus.do(StartGun(1, "A1", None, 2501))
        done = events.job_done(StartGun)
        assert done.result is Result.OUT_OF_RANGE
        assert "current_limit = 2501, expected 60..2500" in done.text
        assert requests(site, "01 10 02") == []


# ---- a stop overtakes


def test_a_stop_takes_a_queued_start_out() -> None:
    with running_board(speedup=20) as site, running_bus(one_line(site.port), start=False) as (bus, events):
        site.board.plug(1)
        bus.do(START)
        bus.do(StopGun(1))
        bus.start()
        assert events.job_done(StopGun).result is Result.OK
        events.next_reading(1)
        assert requests(site, "01 10 02") == []
        assert events.jobs_done(StartGun) == []


def test_a_stop_during_a_start_comes_last() -> None:
    """Whenever the stop is ordered, before, in or after the start's transactions, no current remains."""
    with running_board(speedup=20) as site, running_bus(one_line(site.port)) as (bus, events):
        site.board.plug(1)
        for number in range(1, 9):
            bus.do(StartGun(1, f"A{number}", None, 320))
            frames = len(site.line.frames)
            wait_until(lambda: len(site.line.frames) >= frames + number // 2, "frames")  # noqa: B023
            bus.do(StopGun(1))
            events.job_done(StopGun, number)
            wait_until(lambda: not site.board.state()["guns"][0]["contactor"], "no current")
            assert events.next_reading(1).reading.state not in (BoardState.STARTING, BoardState.CHARGING)


def test_a_start_waits_for_the_stop_before_it() -> None:
    with running_board(speedup=20) as site, running_bus(one_line(site.port, tries=50)) as (bus, events):
        charge(site, bus, events)
        site.board.busy()
        bus.do(StopGun(1))
        wait_until(lambda: bool(requests(site, "01 06 02 13 00 02")), "the stop")
        bus.do(StartGun(1, "A2", None, 320))
        site.board.busy(False)
        assert events.job_done(StopGun).result is Result.OK
        wait_until(lambda: len(requests(site, "01 10 02")) == 2, "the start")
        all_writes = [frame for frame in requests(site, "01") if frame.startswith(("01 10 02", "01 06 02"))]
        assert all_writes[-1].startswith("01 10")


def test_two_stops_that_meet_are_one() -> None:
    with running_board() as site, running_bus(one_line(site.port), start=False) as (bus, events):
        bus.do(StopGun(1))
        bus.do(StopGun(1))
        bus.do(StopGun(2))
        bus.start()
        events.job_done(StopGun, 2)
        events.next_reading(1)
        assert [done.job for done in events.jobs_done(StopGun)] == [StopGun(1), StopGun(2)]
        assert len(requests(site, "01 06 02 13 00 02")) == 1


# ---- watchdog, reboot, versions


def test_feeding_keeps_a_charge_alive_and_its_absence_stops_it() -> None:
    with running_board(speedup=20) as site, running_bus(one_line(site.port, watchdog_s=1)) as (bus, events):
        bus.do(FeedWatchdogs())
        charge(site, bus, events)
        for _ in range(6):
            bus.do(FeedWatchdogs())
            for _ in range(5):
                assert events.next_reading(1).reading.state is BoardState.CHARGING
        reading = events.next_reading(1, state=BoardState.FAULT).reading
        assert reading.faults == ("watchdog_expired",)
        assert reading.stop_reason is StopReason.DEVICE_SILENT


def test_a_feeding_that_waits_is_not_doubled() -> None:
    with running_board() as site, running_bus(one_line(site.port), start=False) as (bus, events):
        for _ in range(5):
            bus.do(FeedWatchdogs())
        bus.start()
        events.next_reading(1)
        assert len(requests(site, "01 06 00 00 00 0a")) == 1


def test_a_gun_is_rebooted() -> None:
    with running_board(speedup=20) as site, running_bus(one_line(site.port)) as (bus, events):
        bus.do(RebootGun(2))
        assert events.job_done(RebootGun).result is Result.OK
        assert requests(site, "01 06 02 58 a5 a5")
        assert "gun 2: restarting" in site.board.notes


def test_the_boards_are_rebooted_and_what_failed_is_told() -> None:
    with running_board() as site, running_bus(one_line(site.port, BOARD, GHOST)) as (bus, events):
        bus.do(RebootBoards())
        done = events.job_done(RebootBoards)
        assert done.result is Result.DEVICE_SILENT
        assert done.text.startswith("ghost (unit 2): asked 02 06 00 01 a5 a5")
        assert "board restarting" in site.board.notes


def test_versions_of_every_device_and_unknown_of_a_silent_one() -> None:
    with running_board() as site, running_bus(one_line(site.port, BOARD, GHOST)) as (bus, events):
        bus.do(ReadVersions())
        assert events.wait_for(VersionsRead).versions == (
            DeviceVersion("board", "1.4.2"),
            DeviceVersion("gun-1", "1.2.0"),
            DeviceVersion("gun-2", "1.2.0"),
            DeviceVersion("ghost", "unknown"),
        )


# ---- several lines


def test_a_dead_line_does_not_touch_the_other() -> None:
    other = replace(BOARD, name="other", guns=(3, 4))
    with running_board(speedup=20) as site:
        lines = (one_line(site.port), one_line(site.port + "-missing", other))
        with running_bus(*lines) as (bus, events):
            charge(site, bus, events)
            bus.do(StopGun(3))
            done = events.job_done(StopGun)
            assert done.result is Result.DEVICE_SILENT
            assert done.text.endswith("agent-missing: no such port")
            bus.do(ReadVersions())
            assert events.wait_for(VersionsRead).versions[-1] == DeviceVersion("other", "unknown")
            assert not any(isinstance(event, Measured) and event.reading.gun > 2 for event in events.all)


def test_status_says_how_each_line_and_device_is() -> None:
    with running_board() as site, running_bus(one_line(site.port, BOARD, GHOST)) as (bus, events):
        events.next_reading(1)
        wait_until(lambda: bus.status()[0]["devices"][1]["failures"] > 0, "a failure")  # type: ignore[index]
        (line,) = bus.status()
        assert (line["port"], line["baud"], line["reason"]) == (site.port, 115_200, "")
        board, ghost = line["devices"]  # type: ignore[misc]
        assert (board["name"], board["unit"], board["guns"], board["reason"]) == ("board", 1, [1, 2], "")
        assert (ghost["name"], ghost["uptime_s"]) == ("ghost", None)
        assert bus.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_of_a_bug_is_reported() -> None:
    failures: list[BaseException] = []

    def post(_event: object) -> None:
        raise ZeroDivisionError("a bug")

    with running_board() as site:
        bus = Bus((one_line(site.port),), post, failures.append, Clock())
        bus.start()
        wait_until(lambda: len(failures) == 1, "the report")
        bus.stop()
    assert isinstance(failures[0], ZeroDivisionError)

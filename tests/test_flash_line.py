"""An update shares its line: other boards are polled, fed, started and stopped between its blocks."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from bus_helpers import BOARD, PROFILE, Events, one_line, running_bus
from flash_helpers import NEW, OLD, boards_script, image_data, order_in
from rtu_helpers import ScriptedDevice

from agent.pile.actions import FeedWatchdogs, StartGun, StopGun
from agent.pile.board import BoardState
from agent.pile.events import FlashDone, FlashProgress, Measured, Silenced
from agent.power.bus import Bus
from agent.power.config import DeviceConfig
from agent.protocol.results import Result
from sim.board_model import BoardModel

OTHER = DeviceConfig("other", 2, replace(PROFILE, model="PB-300"), (3,))  # so that only the first is updated
TWIN = DeviceConfig("twin", 2, PROFILE, (3,))
LONG = image_data(size=60_000)
BLOCK = bytes.fromhex("01 10 00 48 00 43 86")


@contextmanager
def two_boards(other: DeviceConfig) -> Iterator[tuple[ScriptedDevice, dict[int, BoardModel], Bus, Events]]:
    models = {1: BoardModel(PROFILE, 2), 2: BoardModel(PROFILE, 1, speedup=20)}
    with (
        ScriptedDevice(boards_script(models)) as device,
        running_bus(one_line(device.path, BOARD, other)) as (bus, events),
    ):
        events.next_reading(3)
        yield device, models, bus, events


def test_the_other_board_is_polled_at_its_pace(tmp_path: Path) -> None:
    with two_boards(OTHER) as (_, _, bus, events):
        bus.do(order_in(tmp_path, LONG))
        events.wait_for(FlashProgress)
        first = len(events.all)
        events.wait(lambda event: event == FlashProgress(100), "all blocks")
        readings = [event.reading for event in events.all[first:] if isinstance(event, Measured)]
        assert {reading.gun for reading in readings} == {3}
        gaps_ms = [later.at_ms - earlier.at_ms for earlier, later in pairwise(readings)]
        assert len(gaps_ms) > 5
        assert sorted(gaps_ms)[len(gaps_ms) // 2] < 100  # one each 50 ms
        assert events.wait_for(FlashDone).result is Result.OK
        assert not any(isinstance(event, Silenced) for event in events.all)


def test_the_other_boards_charge_begins_is_fed_and_ends_meanwhile(tmp_path: Path) -> None:
    with two_boards(OTHER) as (device, models, bus, events):
        stop_feeding = threading.Event()

        def feed() -> None:
            while not stop_feeding.wait(0.1):
                bus.do(FeedWatchdogs())

        feeding = threading.Thread(target=feed)
        feeding.start()
        models[2].guns[1].plug(40)
        events.next_reading(3, plugged=True)
        bus.do(order_in(tmp_path, LONG))
        events.wait_for(FlashProgress)
        bus.do(StartGun(3, "A3", None, 320))
        assert events.job_done(StartGun).result is Result.OK
        events.next_reading(3, state=BoardState.CHARGING)
        ordered_at = time.monotonic()
        bus.do(StopGun(3))
        assert events.job_done(StopGun).result is Result.OK
        assert time.monotonic() - ordered_at < 0.1  # between two blocks, not behind all of them
        assert not any(isinstance(event, FlashDone) for event in events.all)
        assert events.wait_for(FlashDone).result is Result.OK
        stop_feeding.set()
        feeding.join()
        fed = [request for request in device.requests if request[1:4] == bytes.fromhex("06 00 00")]
        first = next(at for at, request in enumerate(device.requests) if request.startswith(BLOCK))
        last = max(at for at, request in enumerate(device.requests) if request.startswith(BLOCK))
        during = [request[0] for request in device.requests[first:last] if request in fed]
        assert len(during) > 3
        assert set(during) == {2}


def test_two_boards_are_updated_one_after_the_other(tmp_path: Path) -> None:
    with two_boards(TWIN) as (device, models, bus, events):
        bus.do(order_in(tmp_path))
        assert events.wait_for(FlashDone) == FlashDone(Result.OK, "", NEW)
        assert [model.state()["firmware"]["version"] for model in models.values()] == [NEW, NEW]
        percents = [event.percent for event in events.all if isinstance(event, FlashProgress)]
        assert (percents[0], percents[-1], percents) == (0, 100, sorted(percents))
        units = [request[0] for request in device.requests if request[1:4] == bytes.fromhex("10 00 48")]
        assert units == [1] * 6 + [2] * 6


def test_a_board_that_fails_keeps_the_next_one_as_it_is(tmp_path: Path) -> None:
    with two_boards(TWIN) as (_, models, bus, events):
        models[1].firmware.faults.refuses.add("erase")
        bus.do(order_in(tmp_path))
        done = events.wait_for(FlashDone)
        assert (done.result, done.version) == (Result.INSTALL_FAILED, OLD)
        assert done.text.startswith("board (unit 1): 5 attempts, runs 1.4.2: ")
        assert models[2].state()["firmware"]["version"] == OLD


def test_a_board_on_another_line_that_is_gone_does_not_slow_it(tmp_path: Path) -> None:
    gone = one_line(str(tmp_path / "gone"), DeviceConfig("gone", 1, replace(PROFILE, model="PB-300"), (4,)))
    models = {1: BoardModel(PROFILE, 2)}
    with (
        ScriptedDevice(boards_script(models)) as device,
        running_bus(one_line(device.path), gone) as (bus, events),
    ):
        bus.do(order_in(tmp_path))
        assert events.wait_for(FlashDone) == FlashDone(Result.OK, "", NEW)


def test_an_update_alone_on_its_line_takes_every_moment(tmp_path: Path) -> None:
    """Nothing but the silent interval lies between an answer and the next block."""
    models = {1: BoardModel(PROFILE, 2)}
    with ScriptedDevice(boards_script(models)) as device, running_bus(one_line(device.path)) as (bus, events):
        bus.do(order_in(tmp_path, image_data(size=128 * 50)))
        events.wait_for(FlashDone)
        blocks = [at for at, request in enumerate(device.requests) if request.startswith(BLOCK)]
        gaps = sorted((device.heard_ns[later] - device.sent_ns[later - 1]) / 1e6 for later in blocks[1:])
        assert len(gaps) == 49
        assert 1.7 < gaps[len(gaps) // 4] < 4  # on a loaded machine some are longer

"""The update of a power board over a line: the bus, the simulated board, and what goes wrong at each packet."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from bus_helpers import BOARD, PROFILE, Events, one_line, running_bus, wait_until
from flash_helpers import NEW, OLD, image_data, image_file, order_in

from agent.pile.actions import FeedWatchdogs, FlashBoard, RebootBoards, StartGun, StopGun
from agent.pile.board import BoardState
from agent.pile.events import FlashDone, FlashProgress, Measured, Silenced
from agent.power.bus import Bus
from agent.power.config import DeviceConfig
from agent.protocol.results import Result
from firmware_bridge.flash import Limits
from sim import board_model, firmware_window, gun_physics
from sim.power_board import RunningBoard, running_board

BLOCK = "01 10 00 48 00 43 86"  # function 16: 67 registers from 0x0048, which is fw_offset
LEAST_PACKETS = 14  # of an update of three blocks; the others ask whether the board has erased, verified, started
QUICK = Limits(1, pause_s=0.02, silent_pause_s=0.05)
UPDATING = BoardState.UPDATING


@pytest.fixture(autouse=True)
def _quick_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restarts, erases and verifies in no time; and the agent looks again soon."""
    for module in (board_model, gun_physics):
        monkeypatch.setattr(module, "RESTART_MS", 100)
    monkeypatch.setattr(firmware_window, "ERASE_MS", 30)
    monkeypatch.setattr(firmware_window, "VERIFY_MS", 30)
    monkeypatch.setattr("agent.power.flashing.PATIENCE", QUICK)


@contextmanager
def updating(folder: Path, **order: object) -> Iterator[tuple[RunningBoard, Bus, Events, FlashBoard]]:
    """A board and its bus, which knows its guns, and an order not yet given."""
    with running_board(speedup=20) as site, running_bus(one_line(site.port)) as (bus, events):
        events.next_reading(2)
        yield site, bus, events, order_in(folder, **order)  # type: ignore[arg-type]


def sent(site: RunningBoard, begin: str) -> list[str]:
    frames = [frame.data.hex(" ") for frame in list(site.line.frames) if frame.direction == "request"]
    return [frame for frame in frames if frame.startswith(begin)]


def version(site: RunningBoard) -> str:
    return str(site.board.state()["firmware"]["version"])


# ---- nothing goes wrong


def test_the_board_runs_the_new_version(tmp_path: Path) -> None:
    with updating(tmp_path) as (site, bus, events, order):
        bus.do(order)
        assert events.wait_for(FlashDone) == FlashDone(Result.OK, "", NEW)
        assert version(site) == NEW
        assert events.next_reading(1).reading.state is BoardState.IDLE
        percents = [event.percent for event in events.all if isinstance(event, FlashProgress)]
        assert percents == [0, 18, 36, 54, 73, 91, 100]
        assert site.line.violations == 0


def test_a_block_is_one_frame_with_offset_length_and_data(tmp_path: Path) -> None:
    with updating(tmp_path, data=image_data(size=130)) as (site, bus, events, order):
        bus.do(order)
        events.wait_for(FlashDone)
        data = image_data(size=130)
        first, second = sent(site, BLOCK)
        assert first.startswith(f"{BLOCK} 00 00 00 00 00 80 {data[:128].hex(' ')} ")
        assert second.startswith(f"{BLOCK} 00 00 00 80 00 02 {data[128:].hex(' ')}" + " 00" * 126)
        (erase,) = sent(site, "01 10 00 40")  # size, CRC-32 and erase in one frame
        assert erase.startswith(
            f"01 10 00 40 00 05 0a 00 00 00 82 {order.image.crc32.to_bytes(4, 'big').hex(' ')} 00 01"
        )


def test_a_smaller_packet_length_gives_smaller_blocks(tmp_path: Path) -> None:
    with updating(tmp_path, packet_length=100) as (site, bus, events, order):
        bus.do(order)
        assert events.wait_for(FlashDone).result is Result.OK
        lengths = [int(frame.split()[12], 16) for frame in sent(site, BLOCK)]
        assert lengths == [100] * 7


def test_its_guns_are_updating_once_and_never_silent(tmp_path: Path) -> None:
    with updating(tmp_path) as (site, bus, events, order):
        site.board.plug(2, soc=40)
        events.next_reading(2, plugged=True)
        bus.do(order)
        events.wait_for(FlashDone)
        readings = [event.reading for event in events.all if isinstance(event, Measured)]
        for gun, plugged in ((1, False), (2, True)):
            (reading,) = [one for one in readings if one.gun == gun and one.state is UPDATING]
            assert (reading.plugged, reading.energy_wh) == (plugged, gun * 1_000_000)
        assert not any(isinstance(event, Silenced) for event in events.all)


def test_it_is_not_polled_meanwhile(tmp_path: Path) -> None:
    with updating(tmp_path, data=image_data(size=3000)) as (site, bus, events, order):
        bus.do(order)
        events.wait_for(FlashDone)
        frames = [frame.data.hex(" ") for frame in list(site.line.frames) if frame.direction == "request"]
        first = next(at for at, frame in enumerate(frames) if frame.startswith("01 10 00 40"))
        last = max(at for at, frame in enumerate(frames) if frame.startswith(BLOCK))
        assert not any(frame.startswith("01 04 00 3c") for frame in frames[first:last])


def test_a_board_that_is_updated_takes_no_other_order(tmp_path: Path) -> None:
    with updating(tmp_path, data=image_data(size=3000)) as (site, bus, events, order):
        bus.do(order)
        events.wait_for(FlashProgress)
        bus.do(StartGun(1, "A1", None, 320))
        bus.do(RebootBoards())
        bus.do(FeedWatchdogs())
        for kind in (StartGun, RebootBoards):
            done = events.job_done(kind)
            assert (done.result, done.text) == (Result.BUSY, "board (unit 1): its firmware is being updated")
        assert events.wait_for(FlashDone).result is Result.OK
        assert sent(site, "01 06 00 00") == []


def test_a_stop_goes_out_all_the_same(tmp_path: Path) -> None:
    with updating(tmp_path, data=image_data(size=3000)) as (site, bus, events, order):
        bus.do(order)
        events.wait_for(FlashProgress)
        bus.do(StopGun(1))
        assert events.job_done(StopGun).result is Result.DEVICE_REFUSED  # by the board, in its bootloader
        assert sent(site, "01 06 02 13 00 02")
        assert events.wait_for(FlashDone).result is Result.OK


def test_a_second_order_follows_the_first(tmp_path: Path) -> None:
    with updating(tmp_path) as (_, bus, events, order):
        bus.do(order)
        bus.do(order)
        events.until(lambda: sum(isinstance(event, FlashDone) for event in events.all) == 2, "both ends")
        assert [event for event in events.all if isinstance(event, FlashDone)] == [FlashDone(Result.OK, "", NEW)] * 2


# ---- it is not begun


def test_no_board_of_that_model(tmp_path: Path) -> None:
    with updating(tmp_path, hardware=("PB-300", "PB-400")) as (site, bus, events, order):
        bus.do(order)
        text = "the image is for PB-300, PB-400, the power boards here are PB-200"
        assert events.wait_for(FlashDone) == FlashDone(Result.WRONG_HARDWARE, text, "")
        assert sent(site, "01 10 00 40") == []


def test_a_board_that_calls_itself_something_else(tmp_path: Path) -> None:
    """The configuration says that it speaks as a PB-300 does; the board knows better."""
    device = replace(BOARD, profile=replace(PROFILE, model="PB-300"))
    with running_board() as site, running_bus(one_line(site.port, device)) as (bus, events):
        bus.do(order_in(tmp_path, hardware=("PB-300",)))
        text = "board (unit 1): it calls itself PB-200, the image is for PB-300"
        assert events.wait_for(FlashDone) == FlashDone(Result.WRONG_HARDWARE, text, "")
        assert sent(site, "01 10 00 40") == []


def test_a_profile_without_a_window(tmp_path: Path) -> None:
    registers = tuple(one for one in PROFILE.registers if not one.name.startswith("fw_") or one.name == "fw_version")
    device = replace(BOARD, profile=replace(PROFILE, registers=registers))
    with running_board() as site, running_bus(one_line(site.port, device)) as (bus, events):
        bus.do(order_in(tmp_path))
        text = "board (unit 1): profile reference has no firmware window"
        assert events.wait_for(FlashDone) == FlashDone(Result.INSTALL_FAILED, text, "")


def test_an_image_that_is_not_the_verified_one(tmp_path: Path) -> None:
    with updating(tmp_path, crc32=0x12345678) as (site, bus, events, order):
        bus.do(order)
        done = events.wait_for(FlashDone)
        assert done.result is Result.INSTALL_FAILED
        assert done.text.endswith("expected 700 with 12345678")
        assert sent(site, "01 10 00 40") == []


def test_an_image_that_is_gone(tmp_path: Path) -> None:
    with updating(tmp_path) as (_, bus, events, order):
        Path(order.image.path).unlink()
        bus.do(order)
        text = f"board (unit 1): {order.image.path}: No such file or directory"
        assert events.wait_for(FlashDone) == FlashDone(Result.INSTALL_FAILED, text, "")


def test_not_while_a_gun_charges(tmp_path: Path) -> None:
    with updating(tmp_path) as (site, bus, events, order):
        site.board.plug(1)
        bus.do(StartGun(1, "A1", None, 320))
        events.next_reading(1, state=BoardState.CHARGING)
        bus.do(order)
        text = "board (unit 1): gun 1 is charging"
        assert events.wait_for(FlashDone) == FlashDone(Result.INSTALL_FAILED, text, "")
        assert events.next_reading(1).reading.state is BoardState.CHARGING


def test_a_charge_begun_behind_our_back_keeps_the_board_from_erasing(tmp_path: Path) -> None:
    """By card, after the last poll: the board refuses with exception 6, and nobody says that the gun is updating."""
    with running_board(speedup=20) as site, running_bus(one_line(site.port, poll_ms=60_000)) as (bus, events):
        events.next_reading(1)
        site.board.plug(1)
        assert site.board.card(1)
        bus.do(order_in(tmp_path))
        done = events.wait_for(FlashDone)
        assert (done.result, done.version) == (Result.INSTALL_FAILED, OLD)
        assert "exception 6, server device busy; it runs 1.4.2 as before" in done.text
        assert not any(isinstance(event, Measured) and event.reading.state is UPDATING for event in events.all)
        assert site.board.state()["guns"][0]["contactor"]


# ---- something goes wrong, at each packet

SPOILERS: dict[str, Callable[[RunningBoard, int], None]] = {
    "an answer lost": lambda site, number: spare(site, number, lambda: site.line.drop_answers(1)),
    "four answers lost": lambda site, number: spare(site, number, lambda: site.line.drop_answers(4)),
    "an answer twice": lambda site, number: spare(site, number, site.line.repeat_answer),
    "an answer too late": lambda site, number: spare(site, number, lambda: site.line.delay_answer(90)),
    "an answer garbled": lambda site, number: spare(site, number, lambda: site.line.corrupt_answers(1)),
    "the board reset before it": lambda site, number: site.board.cut_power(number, is_taken=False),
    "the board reset behind it": lambda site, number: site.board.cut_power(number, is_taken=True),
}


def spare(site: RunningBoard, number: int, spoil: Callable[[], None]) -> None:
    """Spoil the answer of that number, counted from the next."""
    spoil()
    site.line.spare_answers(number - 1)


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_a_fault_at_any_packet_delays_and_changes_nothing(
    spoil: Callable[[RunningBoard, int], None], tmp_path: Path
) -> None:
    """One update after the other, there and back, each with the fault one packet later."""
    quiet = {"poll_ms": 60_000, "statistics_ms": 60_000}  # so that the packets are the update's own
    with running_board() as site, running_bus(one_line(site.port, **quiet, answer_ms=50)) as (bus, events):
        wait_until(lambda: bool(sent(site, "01 10 00 02")), "the clock, which is set with the first poll")
        for number in count(1):
            wanted = (OLD, NEW)[number % 2]
            spoil(site, number)
            bus.do(order_in(tmp_path, image_data(wanted, size=300), version=wanted))
            events.until(lambda: len(ends(events)) == number, f"the end of update {number}")  # noqa: B023
            assert ends(events)[-1] == FlashDone(Result.OK, "", wanted), f"packet {number}"
            assert version(site) == wanted
            if site.line.has_faults() or site.board.is_to_be_cut:
                break  # the update was over before that packet
        assert number > LEAST_PACKETS
        assert not any(isinstance(event, Silenced) for event in events.all)


def ends(events: Events) -> list[FlashDone]:
    return [event for event in events.all if isinstance(event, FlashDone)]


@pytest.mark.parametrize("state", ["erasing", "verifying"])
def test_the_power_fails_in_the_middle(state: str, tmp_path: Path) -> None:
    with updating(tmp_path) as (site, bus, events, order):
        site.board.cut_power_while(state)
        bus.do(order)
        assert events.wait_for(FlashDone) == FlashDone(Result.OK, "", NEW)
        assert len(sent(site, BLOCK)) == 6


def test_the_power_fails_while_the_new_image_starts(tmp_path: Path) -> None:
    with updating(tmp_path) as (site, bus, events, order):
        bus.do(order)
        wait_until(lambda: bool(sent(site, "01 06 00 44 00 03")), "the activation")
        site.board.restart()
        assert events.wait_for(FlashDone) == FlashDone(Result.OK, "", NEW)


def test_the_line_vanishes_and_comes_back(tmp_path: Path) -> None:
    with updating(tmp_path, data=image_data(size=3000)) as (site, bus, events, order):
        bus.do(order)
        events.wait(lambda event: isinstance(event, FlashProgress) and event.percent > 30, "a third")
        site.line.cut()
        time.sleep(0.1)
        site.line.restore()
        assert events.wait_for(FlashDone) == FlashDone(Result.OK, "", NEW)
        assert len(set(sent(site, BLOCK))) == 24  # none but the one that was cut a second time
        assert len(sent(site, BLOCK)) <= 26


def test_an_answer_that_is_late_is_not_taken_for_the_next_ones(tmp_path: Path) -> None:
    """Every answer to a block reads the same. A block that the board did not get shows by its refusing the next."""
    with updating(tmp_path) as (site, bus, events, order):
        bus.do(order)
        events.wait_for(FlashProgress)
        for _ in range(3):
            site.line.delay_answer(120)
            time.sleep(0.05)
        assert events.wait_for(FlashDone) == FlashDone(Result.OK, "", NEW)


# ---- it fails for good


def last_good(order: FlashBoard, folder: Path) -> FlashBoard:
    """The order, with an image in ``folder`` to fall back on."""
    return replace(order, last_good=image_file(folder / "last_good.bin", image_data(OLD), OLD))


def test_a_checksum_that_stays_wrong_brings_the_last_good_image_back(tmp_path: Path) -> None:
    with updating(tmp_path) as (site, bus, events, order):
        site.board.firmware_faults(flips=3 * 6)
        bus.do(last_good(order, tmp_path))
        done = events.wait_for(FlashDone)
        assert (done.result, done.version, version(site)) == (Result.INSTALL_FAILED, OLD, OLD)
        assert done.text.startswith("board (unit 1): sent 3 times, failed, 700 of 700 bytes; its CRC-32 is ")
        assert done.text.endswith("; the last good image is back: it runs 1.4.2")
        assert events.next_reading(1).reading.state is BoardState.IDLE


@pytest.mark.parametrize("step", ["block", "verify", "activate"])
def test_a_board_that_refuses_and_has_no_other_image_stays_out_of_service(step: str, tmp_path: Path) -> None:
    with updating(tmp_path) as (site, bus, events, order):
        site.board.firmware_faults(refuses={step})
        bus.do(order)
        done = events.wait_for(FlashDone)
        assert (done.result, done.version) == (Result.INSTALL_FAILED, "")
        assert "5 attempts, " in done.text
        assert "exception 4, server device failure; there is no last good image" in done.text
        assert events.next_reading(1).reading.state is UPDATING  # as the board says
        site.board.firmware_faults(refuses=set())
        seen = len(events.all)
        bus.do(order)
        events.until(lambda: any(isinstance(event, FlashDone) for event in events.all[seen:]), "the second end")
        assert version(site) == NEW
        assert len(sent(site, "01 10 00 40")) == 1  # what was stored served the second order


def test_a_board_that_refuses_the_erase_runs_on(tmp_path: Path) -> None:
    with updating(tmp_path) as (site, bus, events, order):
        site.board.firmware_faults(refuses={"erase"})
        bus.do(last_good(order, tmp_path))
        done = events.wait_for(FlashDone)
        assert (done.result, done.version) == (Result.INSTALL_FAILED, OLD)
        assert done.text.endswith("; it runs 1.4.2 as before")
        assert events.next_reading(1).reading.state is BoardState.IDLE


def test_an_image_that_boots_as_another_version(tmp_path: Path) -> None:
    with updating(tmp_path) as (site, bus, events, order):
        site.board.firmware_faults(boots_as="0.9.0")
        bus.do(last_good(order, tmp_path))
        text = (
            "board (unit 1): activated, but it runs 0.9.0, expected 1.5.0; the last good image is back: it runs 1.4.2"
        )
        assert events.wait_for(FlashDone) == FlashDone(Result.INSTALL_FAILED, text, OLD)
        assert version(site) == OLD


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"\0" + image_data(OLD)[1:])])
def test_a_last_good_image_that_has_gone_or_gone_bad_does_not_stand_in_the_way(
    harm: Callable[[Path], object], tmp_path: Path
) -> None:
    with updating(tmp_path) as (_, bus, events, order):
        order = last_good(order, tmp_path)
        harm(tmp_path / "last_good.bin")
        bus.do(order)
        assert events.wait_for(FlashDone) == FlashDone(Result.OK, "", NEW)


def test_a_last_good_image_that_has_gone_bad_is_not_pushed(tmp_path: Path) -> None:
    with updating(tmp_path) as (site, bus, events, order):
        site.board.firmware_faults(boots_as="0.9.0")
        order = last_good(order, tmp_path)
        (tmp_path / "last_good.bin").write_bytes(image_data(OLD)[:-1])
        bus.do(order)
        done = events.wait_for(FlashDone)
        assert (done.result, version(site)) == (Result.INSTALL_FAILED, "0.9.0")
        assert "; there is no last good image" in done.text


def test_a_board_that_has_gone_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.power.flashing.PATIENCE", replace(QUICK, patience_s=0.2))
    ghost = DeviceConfig("ghost", 2, PROFILE, (3,))
    with running_board() as site, running_bus(one_line(site.port, ghost)) as (bus, events):
        bus.do(order_in(tmp_path))
        done = events.wait_for(FlashDone)
        assert (done.result, done.version) == (Result.INSTALL_FAILED, "")
        assert done.text.startswith("ghost (unit 2): no sound answer for 0.2 s: asked 02 03 00 40 00 04 ")

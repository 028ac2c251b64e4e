"""One board on its line, and everything that can be wrong with either. The board is the simulated one unless it must
do what no sound board does; then a scripted one answers in literal frames."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from bus_helpers import BOARD, PROFILE, one_line, running_bus, wait_until
from core_helpers import charging_pile, plugged_pile, starting_pile, stopping_pile
from hypothesis import given, settings
from hypothesis import strategies as st
from rtu_helpers import ScriptedDevice

from agent.clock import Clock
from agent.pile.actions import FeedWatchdogs, StartGun, StopGun
from agent.pile.board import BoardState
from agent.pile.events import BoardFaults, Measured, Silenced
from agent.pile.state import Now
from agent.power.blocks import Values
from agent.power.bus import Bus
from agent.power.config import DeviceConfig
from agent.power.device import Device
from agent.power.line import SerialLine
from agent.power.port import open_port
from agent.protocol.results import Result
from cext import rtu
from sim.power_board import RunningBoard, running_board

START = StartGun(1, "A1", 10_008, 320)
GHOST = DeviceConfig("ghost", 2, PROFILE, (3,))  # nobody on the line has that unit


def frames(site: RunningBoard, begin: str) -> int:
    """How many requests so far begin with those bytes."""
    return sum(
        frame.direction == "request" and frame.data.hex(" ").startswith(begin) for frame in list(site.line.frames)
    )


def device_status(bus: Bus, number: int = 0) -> dict[str, object]:
    found = bus.status()[0]["devices"][number]  # type: ignore[index]
    assert isinstance(found, dict)
    return found


# ---- a line that spoils answers

SPOILERS: dict[str, Callable[[RunningBoard], None]] = {
    "an answer lost": lambda site: site.line.drop_answers(1),
    "two answers lost": lambda site: site.line.drop_answers(2),
    "an answer garbled": lambda site: site.line.corrupt_answers(1),
    "an answer of another unit": lambda site: site.line.answer_as(9),
    "an answer too late": lambda site: site.line.delay_answer(400),
    "noise before the answer": lambda site: site.line.noise_before_answer(bytes.fromhex("00 ff 5a")),
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_a_spoiled_answer_to_a_start_is_asked_for_again(spoil: Callable[[RunningBoard], None]) -> None:
    with running_board(speedup=20) as site, running_bus(one_line(site.port, poll_ms=500)) as (bus, events):
        site.board.plug(1)
        events.next_reading(1, plugged=True)
        spoil(site)
        bus.do(START)
        assert events.job_done(StartGun).result is Result.OK
        assert device_status(bus)["retries"] != 0
        assert device_status(bus)["failures"] == 0
        assert events.next_reading(1).reading.order == "A1"


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_a_spoiled_answer_to_a_poll_costs_no_silence(spoil: Callable[[RunningBoard], None]) -> None:
    with running_board() as site, running_bus(one_line(site.port)) as (bus, events):
        events.next_reading(1)
        spoil(site)
        wait_until(lambda: device_status(bus)["retries"] != 0, "a retry")
        assert events.next_reading(1).reading.energy_wh == 1_000_000
        assert events.count(Silenced, 1) == 0


def test_noise_between_frames_changes_nothing() -> None:
    with running_board() as site, running_bus(one_line(site.port)) as (_, events):
        for _ in range(10):
            site.line.noise(bytes.fromhex("01 04 88 00 00"))
            assert events.next_reading(2).reading.energy_wh == 2_000_000
        assert events.count(Silenced, 1) == 0


def test_a_line_with_local_echo() -> None:
    with running_board(speedup=20) as site:
        site.line.local_echo = True
        with running_bus(one_line(site.port, local_echo=True)) as (bus, events):
            site.board.plug(1)
            bus.do(START)
            assert events.job_done(StartGun).result is Result.OK
            events.next_reading(1, state=BoardState.CHARGING)
            assert device_status(bus)["failures"] == 0  # on a loaded machine an echo may be late, and tried again


def test_a_line_that_should_echo_and_does_not_is_told() -> None:
    with running_board() as site, running_bus(one_line(site.port, local_echo=True)) as (bus, events):
        events.wait_for(Silenced)
        assert "not the local echo of the request" in str(device_status(bus)["reason"])


# ---- a board that says no


def test_a_refused_start_is_final() -> None:
    with running_board() as site, running_bus(one_line(site.port)) as (bus, events):
        bus.do(START)  # without a plug
        done = events.job_done(StartGun)
        assert done.result is Result.DEVICE_REFUSED
        assert done.text.startswith("board (unit 1): asked 01 10 02 00 00 14 28 41 31")
        assert "server device failure" in done.text
        assert frames(site, "01 10 02") == 1
        assert device_status(bus)["refusals"] == 1


def test_a_refused_stop_is_told() -> None:
    with running_board() as site, running_bus(one_line(site.port)) as (bus, events):
        site.board.refuse()
        bus.do(StopGun(1))
        assert events.job_done(StopGun).result is Result.DEVICE_REFUSED


def test_a_busy_board_is_asked_again_after_a_pause() -> None:
    with running_board() as site, running_bus(one_line(site.port, tries=10)) as (bus, events):
        site.board.busy()
        bus.do(StopGun(1))
        wait_until(lambda: frames(site, "01 06 02 13") >= 2, "the second try")
        site.board.busy(False)
        assert events.job_done(StopGun).result is Result.OK
        tries = [frame.began_at for frame in site.line.frames if frame.data.hex(" ").startswith("01 06 02 13 00 02")]
        requests = tries[::2]  # the answer to the last one begins the same
        assert min(later - earlier for earlier, later in pairwise(requests)) >= 0.1


def test_a_board_that_stays_busy_refuses() -> None:
    with running_board() as site, running_bus(one_line(site.port, answer_ms=2000)) as (bus, events):
        site.board.busy()
        bus.do(StopGun(1))
        done = events.job_done(StopGun)
        assert done.result is Result.DEVICE_REFUSED
        assert "server device busy" in done.text
        assert frames(site, "01 06 02 13 00 02") == 3


# ---- a board that does something else


def scripted(kept: bytes) -> Callable[[bytes], Iterator[bytes]]:
    """A board whose registers read as zero but for ``kept``, whatever was written to them."""

    def answer(request: bytes) -> Iterator[bytes]:
        if request[1] in (6, 16):
            yield rtu.frame(request[0], request[1], request[2:6])
        elif request[1] == 3:
            yield rtu.frame(request[0], 3, bytes([len(kept)]) + kept)
        else:
            count = int.from_bytes(request[4:6], "big")
            yield rtu.frame(request[0], request[1], bytes([2 * count]) + bytes(2 * count))

    return answer


def test_a_board_that_kept_something_else_has_not_applied_it() -> None:
    with (
        ScriptedDevice(scripted(bytes.fromhex("00 01"))) as device,
        running_bus(one_line(device.path)) as (bus, events),
    ):
        bus.do(StopGun(1))
        done = events.job_done(StopGun)
        assert done.result is Result.NOT_APPLIED
        assert done.text == "board (unit 1): wrote 0002 at 0x0213, read back 0001"


def test_a_start_whose_limit_was_not_kept_is_not_applied() -> None:
    kept = bytes.fromhex("41 31" + "00" * 30 + "00 00 27 18 00 a0 00 01")  # 16.0 A where 32.0 were written
    with ScriptedDevice(scripted(kept)) as device, running_bus(one_line(device.path)) as (bus, events):
        bus.do(START)
        done = events.job_done(StartGun)
        assert done.result is Result.NOT_APPLIED
        assert done.text.endswith("read back 4131" + " 0000" * 15 + " 0000 2718 00a0 0001")


def test_what_cannot_be_read_back_is_believed() -> None:
    with ScriptedDevice(scripted(b"")) as device, running_bus(one_line(device.path)) as (bus, _):
        bus.do(FeedWatchdogs())
        device.wait_asked(1)
        wait_until(lambda: bytes.fromhex("01 06 00 00 00 0a 09 cd") in device.requests, "the feeding")
        assert not any(request[1] == 3 for request in device.requests)


def test_a_board_that_needs_a_pause_between_frames_gets_it() -> None:
    slow = replace(PROFILE, limits=replace(PROFILE.limits, min_pause_ms=60))
    device = replace(BOARD, profile=slow)
    with running_board() as site, running_bus(one_line(site.port, device)) as (bus, events):
        bus.do(StopGun(1))
        assert events.job_done(StopGun).result is Result.OK
        for _ in range(3):
            events.next_reading(1)
        asked = [frame.began_at for frame in site.line.frames if frame.direction == "request"]
        answered = [frame.ended_at for frame in site.line.frames if frame.direction == "answer"]
        assert min(later - earlier for earlier, later in zip(answered, asked[1:], strict=False)) >= 0.06


# ---- a board that says nothing


def test_a_silent_device_is_told_once_and_the_other_keeps_its_rate(caplog: pytest.LogCaptureFixture) -> None:
    with running_board() as site, running_bus(one_line(site.port, BOARD, GHOST, answer_ms=100)) as (_, events):
        wait_until(lambda: events.count(Silenced, 3) == 1, "the silence")
        before, began_at = events.count(Measured, 1), time.monotonic()
        wait_until(lambda: frames(site, "02 04") >= 10, "the first of the rare tries")  # 3 polls x 3 tries, then 1 each
        assert time.monotonic() - began_at > 0.9  # the first pause is a second
        polls = events.count(Measured, 1) - before
        assert polls >= 5  # 20 on an idle machine; 2 if each turn had gone to the silent one
        assert events.count(Silenced, 3) == 1
    (told,) = [message for message in caplog.messages if "ghost" in message]
    assert told.startswith("ghost does not answer: asked 02 04 00 3c 00 24 ")


def test_a_silent_device_is_asked_ever_more_seldom() -> None:
    polls: list[object] = []
    silences: list[str] = []
    faults: list[object] = []
    with (
        ScriptedDevice(lambda _request: ()) as nobody,
        closing(SerialLine(one_line(nobody.path, tries=1, answer_ms=50))) as line,
    ):
        polling = Device(line, BOARD, Clock(), polls.append, silences.append, faults.append).polling()
        bounds = [pause_of_a_poll(polling) for _ in range(9)]
    pauses = (0.05, 0.05, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0)  # two polls at the usual pace: an accident?
    assert all(least <= pause <= most for pause, (least, most) in zip(pauses, bounds, strict=True)), bounds
    assert (len(polls), len(silences), len(faults)) == (0, 1, 0)


def pause_of_a_poll(polling: Iterator[float]) -> tuple[float, float]:
    """Do one; at least and at most so many seconds it rests then, as nobody knows when exactly it took its decision."""
    began_at = time.monotonic()
    rests_until = next(polling)
    return rests_until - time.monotonic(), rests_until - began_at


def test_a_device_that_answers_again_is_measured_again() -> None:
    with running_board() as site, running_bus(one_line(site.port)) as (bus, events):
        events.next_reading(1)
        site.board.silent()
        events.wait(lambda event: event == Silenced(2), "silence")
        bus.do(StopGun(1))
        done = events.job_done(StopGun)
        assert done.result is Result.DEVICE_SILENT
        assert done.text.startswith("board (unit 1): asked 01 06 02 13 00 02 f8 76, got nothing in")
        site.board.silent(False)
        events.next_reading(1)
        assert [events.count(Silenced, gun) for gun in (1, 2)] == [1, 1]
        assert device_status(bus)["reason"] == ""


def test_a_restarted_board_is_noticed_and_gets_the_time(caplog: pytest.LogCaptureFixture) -> None:
    with running_board() as site, running_bus(one_line(site.port)) as (bus, _):
        wait_until(lambda: frames(site, "01 10 00 02 00 02") == 1, "the clock")
        wait_until(lambda: device_status(bus)["uptime_s"] == 1, "some uptime")
        site.board.restart()
        wait_until(lambda: frames(site, "01 10 00 02 00 02") == 2, "the clock again")
    assert "board has restarted" in caplog.messages


class ShownClock(Clock):
    """Shows what a test says."""

    shown = Now(70_000, 70_000, trusted=False)

    def now(self) -> Now:
        return self.shown


def test_a_clock_that_is_not_trusted_is_not_passed_on_until_it_is() -> None:
    clock = ShownClock()
    with running_board() as site, running_bus(one_line(site.port), clock=clock) as (_, events):
        assert events.wait_for(BoardFaults) == BoardFaults("board", ("clock_not_set",))
        assert frames(site, "01 10 00 02") == 0
        clock.shown = Now(1_795_305_600_000, 80_000, is_estimate=True)
        wait_until(lambda: frames(site, "01 10 00 02 00 02 04 6b 02 30 80") == 1, "the clock")
        events.wait(lambda event: event == BoardFaults("board", ()), "no fault")


def test_a_clock_that_went_forward_is_passed_on_again() -> None:
    clock = ShownClock()
    clock.shown = Now(1_795_305_600_000, 80_000, is_estimate=True)
    with running_board() as site, running_bus(one_line(site.port), clock=clock) as (_, events):
        wait_until(lambda: frames(site, "01 10 00 02 00 02 04 6b 02 30 80") == 1, "the clock")
        clock.shown = Now(1_795_305_605_000, 81_000, is_estimate=True)  # 4 s ahead: not worth a write
        events.next_reading(1)
        events.next_reading(1)
        assert frames(site, "01 10 00 02") == 1
        clock.shown = Now(1_795_309_200_000, 82_000)
        wait_until(lambda: frames(site, "01 10 00 02 00 02 04 6b 02 3e 90") == 1, "the clock again")


def test_a_board_fault_that_one_poll_alone_reports_is_not_told() -> None:
    """A board that has just started says that its clock is not set, and then it is."""
    with running_board() as site, running_bus(one_line(site.port)) as (_, events):
        wait_until(lambda: events.count(Measured, 1) >= 4, "some polls")
        assert [event for event in events.all if isinstance(event, BoardFaults)] == [BoardFaults("board", ())]


def test_a_reading_is_as_old_as_its_first_register() -> None:
    with running_board(baud=9600) as site, running_bus(one_line(site.port, baud=9600)) as (_, events):
        reading = events.next_reading(1).reading
        assert time.monotonic_ns() // 1_000_000 - reading.at_ms >= 140  # 141 characters of the answer alone


def test_statistics_are_read_in_their_own_time() -> None:
    with running_board() as site, running_bus(one_line(site.port, statistics_ms=200)) as (_, events):
        wait_until(lambda: frames(site, "01 04 00 20 00 04") >= 2, "statistics")
        asked = [frame.began_at for frame in site.line.frames if frame.data.hex(" ").startswith("01 04 00 20")]
        assert asked[1] - asked[0] >= 0.2
        assert events.count(Measured, 1) >= 4


# ---- the port


def test_a_missing_port_is_told_once_and_used_when_it_is_there(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = tmp_path / "pile0"
    with running_board() as site, running_bus(one_line(str(path))) as (bus, events):
        events.wait_for(Silenced)
        bus.do(StopGun(1))
        assert events.job_done(StopGun).text == f"board (unit 1): {path}: no such port"
        time.sleep(0.6)  # one more attempt at opening it, which must not be told again
        path.symlink_to(site.port)
        events.next_reading(1)
    errors = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == [f"{path}: no such port"]
    assert [events.count(Silenced, gun) for gun in (1, 2)] == [1, 1]


def test_a_port_that_somebody_holds_is_named_and_taken_when_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    with running_board() as site:
        holder = open_port(site.port, 115_200)
        with running_bus(one_line(site.port)) as (bus, events):
            events.wait_for(Silenced)
            assert bus.status()[0]["reason"] == f"{site.port}: busy: another process holds it"
            holder.close()
            events.next_reading(1)
            assert bus.status()[0]["reason"] == ""
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        f"{site.port}: busy: another process holds it"
    ]


def test_a_port_that_vanishes_is_opened_again_and_the_polls_go_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with running_board(speedup=20) as site, running_bus(one_line(site.port)) as (bus, events):
        events.next_reading(1)
        site.line.cut()
        events.wait(lambda event: event == Silenced(1), "silence")
        site.line.restore()
        events.next_reading(1)
        site.board.plug(1)
        bus.do(START)
        assert events.job_done(StartGun).result is Result.OK
    opened = [message for message in caplog.messages if message == f"{site.port}: open at 115200 baud"]
    assert len(opened) == 2
    errors = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors[0].startswith(f"{site.port}: Input/output error while asking 01 ")
    assert errors[1:] in ([], [f"{site.port}: no such port"])  # as the cut falls before or after an attempt at opening
    assert [events.count(Silenced, gun) for gun in (1, 2)] == [1, 1]


def test_a_charge_goes_on_while_the_port_is_gone() -> None:
    with running_board(speedup=20) as site, running_bus(one_line(site.port)) as (bus, events):
        site.board.plug(1)
        bus.do(START)
        events.next_reading(1, state=BoardState.CHARGING)
        site.line.cut()
        events.wait(lambda event: event == Silenced(1), "silence")
        site.line.restore()
        assert events.next_reading(1).reading.state is BoardState.CHARGING


def test_a_stop_ordered_while_the_port_is_gone_fails_at_once() -> None:
    with running_board() as site, running_bus(one_line(site.port)) as (bus, events):
        events.next_reading(1)
        site.line.cut()
        events.wait_for(Silenced)
        began_at = time.monotonic()
        bus.do(StopGun(1))
        assert events.job_done(StopGun).result is Result.DEVICE_SILENT
        assert time.monotonic() - began_at < 0.5


# ---- whatever stands in the registers


@settings(max_examples=100)
@given(st.lists(st.integers(0, 0xFFFF), min_size=200, max_size=200))
def test_whatever_the_registers_hold_is_a_reading_that_the_core_takes(words: list[int]) -> None:
    values: Values = {}
    for block in PROFILE.blocks("live", (1, 2), largest_gap=10):
        values |= block.decode(words[: block.count])
    PROFILE.status(values)
    for make in (plugged_pile, starting_pile, charging_pile, stopping_pile):
        pile = make()
        pile.take(Measured(PROFILE.reading(1, values, pile.mono_ms)))

"""The paced line: no byte before its time, frames told apart by silence, and every way to spoil an answer."""

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from sim.serial_line import Frame, SerialLine

REQUEST = bytes.fromhex("01 04 00 1c 00 01 f0 0c")
ANSWER = bytes.fromhex("01 04 02 00 02 38 f1")


class Ends:
    """Both ends of a line, driven by hand."""

    def __init__(self, line: SerialLine) -> None:
        self.line = line
        self.board = os.open(line.board_path, os.O_RDWR | os.O_NOCTTY)
        self.agent = serial.Serial(str(line.path), timeout=0)

    def read(self, fd: int, count: int, within_s: float = 2.0) -> bytes:
        """``count`` bytes, or what has come ``within_s``."""
        data, until = b"", time.monotonic() + within_s
        while len(data) < count and select.select([fd], [], [], max(0.0, until - time.monotonic()))[0]:
            data += os.read(fd, 4096)
        return data

    def exchange(self, answer: bytes = ANSWER, expect: int = len(ANSWER), within_s: float = 0.3) -> bytes:
        """One request and what the agent gets for it."""
        self.agent.write(REQUEST)
        assert self.read(self.board, len(REQUEST)) == REQUEST
        os.write(self.board, answer)
        return self.read(self.agent.fileno(), expect, within_s)

    def frames(self, count: int) -> list[Frame]:
        """The line's frames once there are ``count``."""
        until = time.monotonic() + 2
        while len(self.line.frames) < count and time.monotonic() < until:
            time.sleep(0.001)
        return list(self.line.frames)


@pytest.fixture
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """A line at the baud rate that the test asks for by ``indirect`` parameter, else 115200."""
    with SerialLine(getattr(request, "param", 115_200)) as line:
        ends = Ends(line)
        yield ends
        ends.agent.close()
        os.close(ends.board)


@pytest.mark.parametrize(("ends", "count"), [(9600, 200), (19200, 400), (115_200, 2400)], indirect=["ends"])
@pytest.mark.parametrize("towards", ["board", "agent"])
def test_bytes_take_their_time_in_both_directions(ends: Ends, count: int, towards: str) -> None:
    data = bytes(range(256)) * 10
    source, sink = (ends.agent.fileno(), ends.board) if towards == "board" else (ends.board, ends.agent.fileno())
    began_at = time.monotonic()
    os.write(source, data[:count])
    got = b""
    while len(got) < count:
        assert select.select([sink], [], [], 2)[0], f"stuck after {len(got)} of {count} bytes"
        got += os.read(sink, 4096)
        assert len(got) * ends.line.char_s <= time.monotonic() - began_at, f"byte {len(got)} came too early"
    wire_s = count * ends.line.char_s
    assert got == data[:count]
    assert time.monotonic() - began_at < 2 * wire_s + 0.2


@pytest.mark.parametrize("ends", [9600, 115_200], indirect=True)
def test_frames_are_recorded_with_their_time_on_the_wire(ends: Ends) -> None:
    assert ends.exchange() == ANSWER
    request, answer = ends.frames(2)
    assert (request.direction, request.data) == ("request", REQUEST)
    assert (answer.direction, answer.data) == ("answer", ANSWER)
    assert request.ended_at - request.began_at == pytest.approx(8 * ends.line.char_s)
    assert answer.ended_at - answer.began_at == pytest.approx(7 * ends.line.char_s)
    assert answer.began_at - request.ended_at >= 0.999 * ends.line.silence_s


@pytest.mark.parametrize(("baud", "silence_us"), [(9600, 3646), (19200, 1823), (38400, 1750), (115_200, 1750)])
def test_the_silence_between_frames(baud: int, silence_us: int) -> None:
    line = SerialLine(baud)
    assert round(line.silence_s * 1e6) == silence_us
    line.close()


@pytest.mark.parametrize("ends", [9600], indirect=True)
def test_silence_splits_frames_and_a_shorter_pause_does_not(ends: Ends) -> None:
    ends.agent.write(b"\x01\x02")
    ends.agent.write(b"\x03")
    assert ends.read(ends.board, 3) == b"\x01\x02\x03"
    ends.frames(1)
    ends.agent.write(b"\x04")
    assert [frame.data for frame in ends.frames(2)] == [b"\x01\x02\x03", b"\x04"]


@pytest.mark.parametrize("ends", [1200], indirect=True)
def test_a_request_without_the_silence_before_it_is_counted(ends: Ends) -> None:
    assert ends.exchange(within_s=1) == ANSWER
    ends.agent.write(REQUEST)  # at once: at 1200 baud the silence would be 29 ms
    ends.read(ends.board, len(REQUEST))
    assert ends.line.violations == 1


@pytest.mark.parametrize("ends", [1200], indirect=True)
def test_a_request_after_the_silence_is_not_counted(ends: Ends) -> None:
    assert ends.exchange(within_s=1) == ANSWER
    time.sleep(1.2 * ends.line.silence_s)
    assert ends.exchange(within_s=1) == ANSWER
    assert ends.line.violations == 0


def test_dropped_answers(ends: Ends) -> None:
    ends.line.drop_answers(2)
    assert ends.exchange(within_s=0.05) == b""
    assert ends.exchange(within_s=0.05) == b""
    assert ends.exchange() == ANSWER


def test_corrupt_answers_differ_in_one_bit(ends: Ends) -> None:
    ends.line.corrupt_answers(2)
    assert ends.exchange() == bytes.fromhex("01 04 02 10 02 38 f1")
    assert ends.exchange() == bytes.fromhex("01 04 02 10 02 38 f1")
    assert ends.exchange() == ANSWER


def test_a_late_answer(ends: Ends) -> None:
    ends.line.delay_answer(100)
    assert ends.exchange(within_s=0.08) == b""
    assert ends.read(ends.agent.fileno(), len(ANSWER)) == ANSWER


def test_an_answer_later_than_the_next_request_is_not_lost(ends: Ends) -> None:
    ends.line.delay_answer(60)
    assert ends.exchange(within_s=0.02) == b""
    assert ends.exchange(expect=2 * len(ANSWER)) == 2 * ANSWER
    assert sorted(frame.direction for frame in ends.frames(4)) == ["answer", "answer", "request", "request"]


def test_an_answer_of_another_unit_has_a_sound_checksum(ends: Ends) -> None:
    ends.line.answer_as(9)
    assert ends.exchange() == bytes.fromhex("09 04 02 00 02 d9 30")
    assert ends.exchange() == ANSWER


def test_noise_before_an_answer(ends: Ends) -> None:
    ends.line.noise_before_answer(b"\xff\x00")
    assert ends.exchange(expect=len(ANSWER) + 2) == b"\xff\x00" + ANSWER
    assert ends.exchange() == ANSWER


def test_noise_out_of_nowhere(ends: Ends) -> None:
    ends.line.noise(b"\x55\xaa")
    assert ends.read(ends.agent.fileno(), 2) == b"\x55\xaa"


def test_a_line_with_local_echo_gives_the_request_back(ends: Ends) -> None:
    ends.line.local_echo = True
    assert ends.exchange(expect=len(REQUEST + ANSWER)) == REQUEST + ANSWER
    assert [frame.direction for frame in ends.frames(2)] == ["request", "answer"]


def test_a_cut_line_is_gone_and_comes_back_under_the_same_path(ends: Ends) -> None:
    path, old_device = Path(ends.line.path), os.path.realpath(ends.line.path)
    ends.line.cut()
    assert not path.exists()
    with pytest.raises(serial.SerialException):
        ends.agent.read(1)
    ends.line.restore()
    assert os.path.realpath(path) != old_device
    ends.agent = serial.Serial(str(path), timeout=0)
    assert ends.exchange() == ANSWER


def test_the_agent_may_close_and_open_its_port_again(ends: Ends) -> None:
    assert ends.exchange() == ANSWER
    ends.agent.close()
    ends.agent = serial.Serial(str(ends.line.path), timeout=0)
    assert ends.exchange() == ANSWER


def test_a_quiet_line_costs_no_processor_time(ends: Ends) -> None:
    assert ends.exchange() == ANSWER
    ends.frames(2)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.03

"""Bad cables: one scenario through all of them, on a real pty. After each the line must work at once again."""

import os
import pty
import threading
import time
import tty
from collections.abc import Iterable, Iterator
from contextlib import suppress

import pytest

from agent.power.port import open_port
from cext import rtu
from tests.rtu_helpers import PATIENCE_MS, ScriptedDevice, Step, hx

READ = hx("11 03 00 6b 00 03 76 87")
ANSWER = hx("11 03 06 ae 41 56 52 43 40 49 ad")


class Cable:
    """What happens to one answer, and what the transaction makes of it: the answer or an error."""

    expected: bytes | type[Exception]
    answer_ms = PATIENCE_MS
    margin_ms = PATIENCE_MS  # shorter where it is waited for

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        raise NotImplementedError


class Good(Cable):
    expected = ANSWER

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield ANSWER


class OneByteAtATime(Good):
    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        for byte in ANSWER:
            yield bytes([byte])
            yield 0.0005


class TrailingGarbage(Good):
    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield ANSWER + hx("00 ff 00")


class StaleBytesBefore(Good):
    """What a device sent after its deadline lies in the buffer when the next request goes out."""

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield ANSWER
        yield ANSWER[:7]


class Silent(Cable):
    expected = rtu.NoAnswer
    answer_ms = 30

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        return ()


class LostByte(Cable):
    expected = rtu.HalfAnswer
    margin_ms = 100

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield ANSWER[:4] + ANSWER[5:]


class HalfAnswer(Cable):
    expected = rtu.HalfAnswer
    margin_ms = 100

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield ANSWER[:2]


class FlippedBit(Cable):
    expected = rtu.BadChecksum

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield ANSWER[:5] + bytes([ANSWER[5] ^ 0x20]) + ANSWER[6:]


class FlippedBitInTheFunction(Cable):
    """An answer that looks like an exception, longer than one."""

    expected = rtu.BadChecksum

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield hx("11 83 06 ae 41 56 52 43 40 49 ad")


class NoiseBefore(Cable):
    expected = rtu.BadChecksum
    margin_ms = 100

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield b"\xff" + ANSWER


class ForeignUnit(Cable):
    """A whole frame of unit 18, longer than what was asked for, in two pieces."""

    expected = rtu.WrongUnit
    margin_ms = 100

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield hx("12 03 08 00 01")
        yield hx("00 02 00 03 00 04 56 90")


class OtherFunction(Cable):
    expected = rtu.WrongAnswer
    margin_ms = 100

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield hx("11 04 06 ae 41 56 52 43 40 08 4b")


class WrongByteCount(Cable):
    expected = rtu.WrongAnswer

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield hx("11 03 08 ae 41 56 52 43 40 a6 6d")


class Exception2(Cable):
    expected = rtu.ExceptionReply

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield hx("11 83 02 c1 34")


class UnexpectedEcho(Cable):
    """A line with local echo that was not declared as one: the request itself comes back as the answer."""

    expected = rtu.HalfAnswer
    margin_ms = 100

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield READ


class Vanishing(Cable):
    expected = rtu.PortGone

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield device.vanish


class VanishingMidAnswer(Cable):
    expected = rtu.PortGone

    def carry(self, device: ScriptedDevice) -> Iterable[Step]:
        yield ANSWER[:3]
        yield device.vanish


CABLES: list[type[Cable]] = [
    Good,
    OneByteAtATime,
    TrailingGarbage,
    StaleBytesBefore,
    Silent,
    LostByte,
    HalfAnswer,
    FlippedBit,
    FlippedBitInTheFunction,
    NoiseBefore,
    ForeignUnit,
    OtherFunction,
    WrongByteCount,
    Exception2,
    UnexpectedEcho,
    Vanishing,
    VanishingMidAnswer,
]


@pytest.mark.parametrize("cable", CABLES)
@pytest.mark.parametrize("local_echo", [False, True], ids=["", "local-echo"])
def test_cable(cable: type[Cable], local_echo: bool) -> None:
    def script(request: bytes) -> Iterator[Step]:
        if local_echo:
            yield request
        yield from (cable() if len(device.requests) == 1 else Good()).carry(device)

    with ScriptedDevice(script) as device, open_port(device.path, 115200) as port:
        line = rtu.Line(port.fileno(), port.baudrate, local_echo=local_echo)
        line.answer_ms, line.margin_ms = cable.answer_ms, cable.margin_ms
        if isinstance(cable.expected, bytes):
            assert line.transact(READ) == cable.expected
            assert (line.last_request, line.last_answer) == (READ, cable.expected)
        else:
            with pytest.raises(cable.expected) as caught:
                line.transact(READ)
            assert READ.hex(" ") in str(caught.value)
        line.answer_ms, line.margin_ms = PATIENCE_MS, PATIENCE_MS
        if cable.expected is not rtu.PortGone:
            assert line.transact(READ) == ANSWER
        assert set(device.requests) == {READ}  # nothing else was ever sent


def test_port_vanished_before_the_request() -> None:
    master, slave = pty.openpty()
    with open_port(os.ttyname(slave)) as port:
        line = rtu.Line(port.fileno(), port.baudrate)
        os.close(slave)
        os.close(master)
        with pytest.raises(rtu.PortGone, match="11 03 00 6b 00 03 76 87"):
            line.transact(READ)


def test_port_closed_by_us() -> None:
    with ScriptedDevice(lambda _request: ()) as device, open_port(device.path) as port:
        line = rtu.Line(port.fileno(), port.baudrate)
        port.close()
        with pytest.raises(rtu.PortGone, match="Bad file descriptor"):
            line.transact(READ)


@pytest.mark.parametrize("came_back", ["", "11 03 00", "11 03 00 6b 00 03 76 88"], ids=["nothing", "half", "other"])
def test_local_echo_is_compared(came_back: str) -> None:
    with ScriptedDevice(lambda _request: (hx(came_back),)) as device, open_port(device.path) as port:
        line = rtu.Line(port.fileno(), port.baudrate, local_echo=True, answer_ms=60)
        with pytest.raises(rtu.EchoMismatch) as caught:
            line.transact(READ)
        assert caught.value.answer == hx(came_back)


def test_late_answer_is_not_the_next_answer() -> None:
    """The device answers the first request only after the master gave up; the second must not get that answer."""
    other = hx("11 03 06 00 00 00 00 00 00 ec b5")

    def answer_the_second(_request: bytes) -> tuple[Step, ...]:
        return (ANSWER,) if len(device.requests) == 2 else ()

    with ScriptedDevice(answer_the_second) as device, open_port(device.path) as port:
        line = rtu.Line(port.fileno(), port.baudrate, answer_ms=30)
        with pytest.raises(rtu.NoAnswer):
            line.transact(READ)
        device.send(other)
        line.answer_ms = PATIENCE_MS
        assert line.transact(READ) == ANSWER


def test_a_line_that_never_falls_silent() -> None:
    enough = threading.Event()

    def babble() -> None:
        while not enough.wait(0.001):
            device.send(b"\x00")

    with ScriptedDevice(lambda _request: ()) as device, open_port(device.path, 115200) as port:
        babbler = threading.Thread(target=babble)
        babbler.start()
        line = rtu.Line(port.fileno(), port.baudrate, quiet_us=150_000)
        with pytest.raises(rtu.LineBusy, match="nothing was sent"):
            line.transact(READ)
        enough.set()
        babbler.join()
        assert device.requests == []


def test_a_port_that_takes_no_more_bytes() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    line = rtu.Line(slave, 115200, margin_ms=1)
    stuck = fill(slave)
    with pytest.raises(rtu.NoAnswer, match="the port does not take the request"):
        line.transact(READ)
    os.set_blocking(master, False)
    assert drain(master) < stuck  # what had not left was dropped: it must not precede the next request
    os.close(slave)
    os.close(master)


def fill(fd: int) -> int:
    total = 0
    for _ in range(5):  # the kernel moves bytes on and makes room for a moment
        with suppress(BlockingIOError):
            while True:
                total += os.write(fd, bytes(64))
        time.sleep(0.02)
    return total


def drain(fd: int) -> int:
    total = 0
    with suppress(BlockingIOError):
        while True:
            total += len(os.read(fd, 4096))
    return total

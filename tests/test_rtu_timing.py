"""When a transaction starts and ends.

Only lower bounds are measured; that something ends early is shown by deadlines so long that waiting fails the test.
"""

import resource
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from agent.power.port import open_port
from cext import rtu
from tests.rtu_helpers import PATIENCE_MS, PATIENCE_S, ScriptedDevice, Step, hx

READ = hx("11 03 00 6b 00 03 76 87")
ANSWER = hx("11 03 06 ae 41 56 52 43 40 49 ad")
FOREVER_MS = 60_000


def answer_always(_request: bytes) -> tuple[Step, ...]:
    return (ANSWER,)


@pytest.mark.parametrize(
    ("baud", "char_bits", "char_us", "quiet_us"),
    [
        (9600, 10, 1041.666, 3645.833),
        (9600, 11, 1145.833, 4010.416),
        (19200, 11, 572.916, 2005.208),
        (38400, 10, 260.416, 1750.0),
        (115200, 10, 86.805, 1750.0),
    ],
)
def test_silent_interval_by_baud_rate(baud: int, char_bits: int, char_us: float, quiet_us: float) -> None:
    """Serial line 2.5.1.1: 3.5 characters, fixed at 1750 µs above 19200 baud."""
    with ScriptedDevice(answer_always) as device, open_port(device.path) as port:
        line = rtu.Line(port.fileno(), baud, char_bits)
        assert (line.char_us, line.quiet_us) == pytest.approx((char_us, quiet_us), abs=0.001)
        assert rtu.Line(port.fileno(), baud, char_bits, quiet_us=5000).quiet_us == 5000


@pytest.mark.parametrize("baud", [1200, 9600, 115200])
def test_silent_interval_is_kept_after_each_answer(baud: int) -> None:
    with ScriptedDevice(answer_always) as device, open_port(device.path, baud) as port:
        line = rtu.Line(port.fileno(), baud, answer_ms=PATIENCE_MS)
        for _ in range(6):
            line.transact(READ)
        gaps_us = [(heard - sent) / 1000 for sent, heard in zip(device.sent_ns[:-1], device.heard_ns[1:], strict=True)]
        assert min(gaps_us) >= line.quiet_us


def test_silent_interval_starts_again_after_stale_bytes() -> None:
    def answer_the_second(_request: bytes) -> tuple[Step, ...]:
        return (ANSWER,) if len(device.requests) == 2 else ()

    with ScriptedDevice(answer_the_second) as device, open_port(device.path, 1200) as port:
        line = rtu.Line(port.fileno(), 1200, answer_ms=1)
        with pytest.raises(rtu.NoAnswer):
            line.transact(READ)
        device.send(b"\x00")
        line.answer_ms = PATIENCE_MS
        line.transact(READ)
        assert (device.heard_ns[1] - device.sent_ns[0]) / 1000 >= line.quiet_us


def test_silence_lasts_as_long_as_the_device_may_think() -> None:
    with ScriptedDevice(lambda _request: ()) as device, open_port(device.path) as port:
        line = rtu.Line(port.fileno(), 9600, answer_ms=50)
        with pytest.raises(rtu.NoAnswer) as caught:
            line.transact(READ)
        wire_and_interval_ms = 8 * 1.0416 + 3.645
        assert caught.value.elapsed_ms >= wire_and_interval_ms + 50
        assert line.last_elapsed_us >= (wire_and_interval_ms + 50) * 1000


def test_half_answer_ends_at_its_wire_time_and_margin() -> None:
    with ScriptedDevice(lambda _request: (ANSWER[:6],)) as device, open_port(device.path) as port:
        line = rtu.Line(port.fileno(), 9600, answer_ms=FOREVER_MS, margin_ms=30)
        with pytest.raises(rtu.HalfAnswer) as caught:
            line.transact(READ)
        assert 5 * 1.0416 + 30 <= caught.value.elapsed_ms < FOREVER_MS


def test_exception_reply_ends_at_its_fifth_byte() -> None:
    with ScriptedDevice(lambda _request: (hx("11 83 02 c1 34"),)) as device, open_port(device.path) as port:
        line = rtu.Line(port.fileno(), 9600, answer_ms=FOREVER_MS, margin_ms=FOREVER_MS)
        with pytest.raises(rtu.ExceptionReply) as caught:
            line.transact(READ)
        assert caught.value.elapsed_ms < FOREVER_MS


def test_nothing_is_slept_when_all_is_there() -> None:
    """At 50 baud the 255 bytes of this answer would be a sleep of 51 s."""
    request = rtu.read_request(1, 3, 0, 125)
    answer = rtu.frame(1, 3, bytes([250]) + bytes(range(250)))
    with ScriptedDevice(lambda _request: (answer,)) as device, open_port(device.path) as port:
        line = rtu.Line(port.fileno(), 50, quiet_us=0, answer_ms=PATIENCE_MS)
        for _ in range(40):  # some turns of the tty's ring of 4096 bytes, where reads come short
            assert line.transact(request) == answer
            assert line.last_elapsed_us < PATIENCE_S * 1e6


def test_few_wake_ups_for_an_answer_in_many_pieces() -> None:
    request = rtu.read_request(1, 3, 0, 60)
    answer = rtu.frame(1, 3, bytes([120]) + bytes(range(120)))

    def byte_by_byte(_request: bytes) -> Iterator[Step]:
        for byte in answer:
            yield bytes([byte])
            yield 0.001

    with ScriptedDevice(byte_by_byte) as device, open_port(device.path) as port:
        line = rtu.Line(port.fileno(), 9600, answer_ms=PATIENCE_MS, margin_ms=PATIENCE_MS)
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        assert line.transact(request) == answer
        assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before < len(answer) / 4


def test_broadcast_awaits_no_answer_and_leaves_time_to_act() -> None:
    write_all = rtu.write_single_request(0, 6, 0x0001, 3)

    def answer_unless_broadcast(request: bytes) -> tuple[Step, ...]:
        return (ANSWER,) if request[0] else ()

    with ScriptedDevice(answer_unless_broadcast) as device, open_port(device.path) as port:
        line = rtu.Line(port.fileno(), 9600, answer_ms=FOREVER_MS, turnaround_ms=40)
        begun_ns = time.monotonic_ns()
        assert line.transact(write_all) == b""
        assert line.transact(READ) == ANSWER
        assert device.requests == [write_all, READ]
        assert device.heard_ns[1] - begun_ns >= 8 * 1.0416e6 + 40e6


def test_signals_do_not_disturb() -> None:
    def slowly(_request: bytes) -> Iterator[Step]:
        for byte in ANSWER:
            yield 0.005
            yield bytes([byte])

    hits = 0

    def count(_signum: int, _frame: object) -> None:
        nonlocal hits
        hits += 1

    with ScriptedDevice(slowly) as device, open_port(device.path) as port:
        line = rtu.Line(port.fileno(), 1200, answer_ms=PATIENCE_MS, margin_ms=PATIENCE_MS)
        previous = signal.signal(signal.SIGALRM, count)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            answers = [line.transact(READ) for _ in range(2)]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        assert answers == [ANSWER, ANSWER]
        assert (device.heard_ns[1] - device.sent_ns[len(ANSWER) - 1]) / 1000 >= line.quiet_us
        assert hits > 0


def test_a_second_thread_is_refused() -> None:
    """And the first runs without the GIL: else this thread could not get here before it ended."""
    release = threading.Event()

    def hesitate(_request: bytes) -> Iterator[Step]:
        yield lambda: release.wait(PATIENCE_S)
        yield ANSWER

    answers: list[bytes] = []
    with ScriptedDevice(hesitate) as device, open_port(device.path) as port:
        line = rtu.Line(port.fileno(), 9600, answer_ms=FOREVER_MS)
        owner = threading.Thread(target=lambda: answers.append(line.transact(READ)))
        owner.start()
        device.wait_asked(1)
        with pytest.raises(RuntimeError, match="a line has one owner"):
            line.transact(READ)
        release.set()
        owner.join()
        assert answers == [ANSWER]


@pytest.mark.parametrize(("baud", "char_bits"), [(0, 10), (9600, 9), (9600, 13)])
def test_settings_of_a_line(baud: int, char_bits: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        rtu.Line(0, baud, char_bits)

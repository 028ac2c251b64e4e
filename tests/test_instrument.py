"""minimalmodbus' typed API on our framing: literal frames out and in, and its own exception types."""

import gc
from collections.abc import Callable, Iterable

import minimalmodbus
import pytest
import serial

from agent.power import errors
from agent.power.instrument import Instrument, line_on
from agent.power.port import PortError, open_port
from cext import rtu
from tests.rtu_helpers import PATIENCE_MS, ScriptedDevice, Step, hx, joined_ptys

# the call, what it returns, the frame it sends, the frame it gets
CALLS: list[tuple[Callable[[Instrument], object], object, str, str]] = [
    (lambda i: i.read_register(0x0120), 0x00FE, "01 03 01 20 00 01", "01 03 02 00 fe"),
    (lambda i: i.read_register(0x0120, 1, 4, True), -1.6, "01 04 01 20 00 01", "01 04 02 ff f0"),
    (lambda i: i.read_long(0x0100), 70000, "01 03 01 00 00 02", "01 03 04 00 01 11 70"),
    (lambda i: i.read_float(0x0100, 4), 1.5, "01 04 01 00 00 02", "01 04 04 3f c0 00 00"),
    (lambda i: i.read_string(0x0000, 3), "PILE  ", "01 03 00 00 00 03", "01 03 06 50 49 4c 45 20 20"),
    (lambda i: i.read_bit(5, 1), 1, "01 01 00 05 00 01", "01 01 01 01"),
    (lambda i: i.read_bits(0, 10), [1, 0, 1, 1, 0, 0, 1, 1, 1, 0], "01 02 00 00 00 0a", "01 02 02 cd 01"),
    (lambda i: i.read_registers(7, 2, 4), [0xFFFF, 1], "01 04 00 07 00 02", "01 04 04 ff ff 00 01"),
    (lambda i: i.read_array(7, 2).tolist(), [0xFFFF, 1], "01 03 00 07 00 02", "01 03 04 ff ff 00 01"),
    (lambda i: i.write_bit(3, 1), None, "01 05 00 03 ff 00", "01 05 00 03 ff 00"),
    (lambda i: i.write_register(2, 3.5, 1, 6), None, "01 06 00 02 00 23", "01 06 00 02 00 23"),
    (lambda i: i.write_register(2, -1, signed=True), None, "01 10 00 02 00 01 02 ff ff", "01 10 00 02 00 01"),
    (lambda i: i.write_long(2, 70000), None, "01 10 00 02 00 02 04 00 01 11 70", "01 10 00 02 00 02"),
    (lambda i: i.write_float(2, 1.5), None, "01 10 00 02 00 02 04 3f c0 00 00", "01 10 00 02 00 02"),
    (lambda i: i.write_string(2, "KLC", 2), None, "01 10 00 02 00 02 04 4b 4c 43 20", "01 10 00 02 00 02"),
    (lambda i: i.write_bits(4, [1, 0, 1]), None, "01 0f 00 04 00 03 01 05", "01 0f 00 04 00 03"),
    (lambda i: i.write_registers(4, [1, 2]), None, "01 10 00 04 00 02 04 00 01 00 02", "01 10 00 04 00 02"),
    (
        lambda i: i.read_write_registers(0, 1, 4, [9]),
        [5],
        "01 17 00 00 00 01 00 04 00 01 02 00 09",
        "01 17 02 00 05",
    ),
]


def framed(body: str) -> bytes:
    data = hx(body)
    return bytes(data + minimalmodbus._calculate_crc(data))


@pytest.mark.parametrize(("call", "value", "asked", "answered"), CALLS, ids=[asked for _, _, asked, _ in CALLS])
def test_typed_call(call: Callable[[Instrument], object], value: object, asked: str, answered: str) -> None:
    with ScriptedDevice(lambda _request: (framed(answered),)) as device, open_port(device.path) as port:
        assert call(Instrument(port, 1, answer_ms=PATIENCE_MS)) == value
        assert device.requests == [framed(asked)]


FAILURES: list[tuple[str, type[Exception], type[Exception], type[rtu.RtuError]]] = [
    ("", minimalmodbus.NoResponseError, errors.DeviceSilent, rtu.NoAnswer),
    ("01 03 02 00", minimalmodbus.InvalidResponseError, errors.AnswerUnusable, rtu.HalfAnswer),
    ("01 03 02 00 fe 38 05", minimalmodbus.InvalidResponseError, errors.AnswerUnusable, rtu.BadChecksum),
    ("01 83 01 80 f0", minimalmodbus.IllegalRequestError, errors.DeviceRefused, rtu.ExceptionReply),
    ("01 83 02 c0 f1", minimalmodbus.IllegalRequestError, errors.DeviceRefused, rtu.ExceptionReply),
    ("01 83 03 01 31", minimalmodbus.IllegalRequestError, errors.DeviceRefused, rtu.ExceptionReply),
    ("01 83 04 40 f3", minimalmodbus.SlaveReportedException, errors.DeviceFailed, rtu.ExceptionReply),
    ("01 83 06 c1 32", minimalmodbus.SlaveDeviceBusyError, errors.DeviceBusy, rtu.ExceptionReply),
    ("01 83 07 00 f2", minimalmodbus.NegativeAcknowledgeError, errors.DeviceDeclined, rtu.ExceptionReply),
]


@pytest.mark.parametrize(("answered", "theirs", "ours", "fact"), FAILURES)
def test_failure_is_of_their_type_and_keeps_the_fact(
    answered: str, theirs: type[Exception], ours: type[errors.BusError], fact: type[rtu.RtuError]
) -> None:
    steps: Iterable[Step] = (hx(answered),) if answered else ()
    with ScriptedDevice(lambda _request: steps) as device, open_port(device.path) as port:
        instrument = Instrument(port, 1, answer_ms=PATIENCE_MS if answered else 40)
        with pytest.raises(theirs) as caught:
            instrument.read_register(0x0120)
        error = caught.value
        assert isinstance(error, ours)
        assert isinstance(error.fact, fact)
        assert str(error) == str(error.fact)
        assert str(error).startswith("asked 01 03 01 20 00 01 84 3c, got ")


def test_wrong_local_echo_is_of_their_type() -> None:
    with ScriptedDevice(lambda _request: (hx("01 03 02 00 fe 38 04 00"),)) as device, open_port(device.path) as port:
        instrument = Instrument(port, 1, local_echo=True, margin_ms=PATIENCE_MS)
        with pytest.raises(minimalmodbus.LocalEchoError):
            instrument.read_register(0x0120)


def test_port_that_vanished_is_a_serial_exception() -> None:
    with ScriptedDevice(lambda _request: (lambda: device.vanish(),)) as device, open_port(device.path) as port:
        with pytest.raises(serial.SerialException, match=device.path) as caught:
            Instrument(port, 1, answer_ms=PATIENCE_MS).read_register(0x0120)
        assert isinstance(caught.value, errors.PortLost)


WRONG_ARGUMENTS: list[tuple[Callable[[Instrument], object], str]] = [
    (lambda i: i.read_registers(0, 126), "number of registers 126, expected 1..125"),
    (lambda i: i.read_registers(0, 1, 6), "function 6, expected 3 or 4"),
    (lambda i: i.read_bits(0, 1, 3), "function 3, expected 1 or 2"),
    (lambda i: i.write_registers(0, [70000]), "value 0 is 70000, a register holds 0..65535"),
    (lambda i: i.read_register(0, functioncode=5), "Wrong function code: 5"),
    (lambda i: Instrument(i.serial, 0).read_registers(0, 1), "unit 0, expected 1..247"),
]


@pytest.mark.parametrize(("call", "message"), WRONG_ARGUMENTS, ids=[message for _, message in WRONG_ARGUMENTS])
def test_arguments_are_checked_before_anything_is_sent(call: Callable[[Instrument], object], message: str) -> None:
    with ScriptedDevice(lambda _request: ()) as device, open_port(device.path) as port:
        instrument = Instrument(port, 1)
        with pytest.raises(ValueError, match=message):
            call(instrument)
        assert device.requests == []


def test_instruments_on_one_port_share_its_line() -> None:
    def answer_own_unit(request: bytes) -> tuple[Step, ...]:
        return (framed(f"{request[0]:02x} 03 02 00 0{request[0]}"),)

    with ScriptedDevice(answer_own_unit) as device, open_port(device.path) as port:
        board, meter = (Instrument(port, unit, answer_ms=PATIENCE_MS) for unit in (1, 2))
        assert board.line is meter.line
        assert (board.read_register(0), meter.read_register(0)) == (1, 2)
        assert (device.heard_ns[1] - device.sent_ns[0]) / 1000 >= board.line.quiet_us


def test_each_instrument_keeps_its_own_times() -> None:
    with ScriptedDevice(lambda _request: (framed("01 03 02 00 01"),)) as device, open_port(device.path) as port:
        slow = Instrument(port, 1, answer_ms=2 * PATIENCE_MS, margin_ms=50)
        quick = Instrument(port, 1, answer_ms=PATIENCE_MS)
        slow.read_register(0)
        assert (slow.line.answer_ms, slow.line.margin_ms) == (2 * PATIENCE_MS, 50)
        quick.read_register(0)
        assert (quick.line.answer_ms, quick.line.margin_ms) == (PATIENCE_MS, 18)
        assert quick.roundtrip_time == quick.line.last_elapsed_us / 1e6


def test_line_follows_the_port() -> None:
    with joined_ptys() as (path, _), open_port(path, 9600) as port:
        line = line_on(port)
        assert (line.baud, line.char_bits) == (9600, 10)
        port.baudrate, port.stopbits = 19200, 2
        assert (line_on(port).baud, line_on(port).char_bits) == (19200, 11)
        port.close()
        with pytest.raises(serial.PortNotOpenError):
            line_on(port)


def test_a_port_name_is_opened_for_us_alone() -> None:
    with joined_ptys() as (path, _):
        instrument = Instrument(path, 1)
        with pytest.raises(PortError, match="busy"):
            Instrument(path, 2)
        instrument.serial.close()


def test_a_port_that_was_dropped_leaves_no_line_behind() -> None:
    from agent.power import instrument

    with joined_ptys() as (path, _):
        line_on(open_port(path))
        gc.collect()
        assert not [port for port in instrument._lines if port.port == path]

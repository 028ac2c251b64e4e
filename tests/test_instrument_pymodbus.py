"""All functions against an independent device: pymodbus' serial server at the other end of a cable."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.power import errors
from agent.power.instrument import Instrument
from agent.power.port import open_port
from tests.rtu_helpers import PATIENCE_MS, PATIENCE_S, joined_ptys

DEVICE = SimDevice(
    1,
    simdata=(
        [SimData(0, values=[True, False, True, True, False, False, True, True] * 4, datatype=DataType.BITS)],
        [SimData(0, values=[False, True] * 16, datatype=DataType.BITS)],
        [SimData(0, values=list(range(1000, 1125)), datatype=DataType.REGISTERS)],
        [SimData(0, values=list(range(2000, 2125)), datatype=DataType.REGISTERS)],
    ),
)


@contextmanager
def pymodbus_device(path: str) -> Iterator[None]:
    listening = threading.Event()
    loop = asyncio.new_event_loop()
    servers: list[ModbusSerialServer] = []

    async def serve() -> None:
        server = ModbusSerialServer(DEVICE, port=path, baudrate=115200)
        servers.append(server)
        await server.serve_forever(background=True)
        listening.set()
        await server.serving

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert listening.wait(PATIENCE_S)
        yield
    finally:
        stopped = servers[0].shutdown()  # type: ignore[no-untyped-call]
        asyncio.run_coroutine_threadsafe(stopped, loop).result(PATIENCE_S)
        thread.join(PATIENCE_S)
        loop.close()


@pytest.fixture(scope="module")
def instrument() -> Iterator[Instrument]:
    with joined_ptys() as (ours, theirs), pymodbus_device(theirs), open_port(ours, 115200) as port:
        yield Instrument(port, 1, answer_ms=PATIENCE_MS, margin_ms=PATIENCE_MS)


def test_1_and_5_and_15_coils(instrument: Instrument) -> None:
    assert instrument.read_bits(0, 10, 1) == [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]
    instrument.write_bit(1, 1)
    assert instrument.read_bit(1, 1) == 1
    instrument.write_bits(8, [0, 1, 1, 0, 1, 1, 1, 0, 1, 0])
    assert instrument.read_bits(8, 10, 1) == [0, 1, 1, 0, 1, 1, 1, 0, 1, 0]


def test_2_discrete_inputs(instrument: Instrument) -> None:
    assert instrument.read_bits(0, 32, 2) == [0, 1] * 16


def test_3_and_6_and_16_holding_registers(instrument: Instrument) -> None:
    assert instrument.read_registers(0, 125) == list(range(1000, 1125))
    instrument.write_register(3, 77.0, 1, functioncode=6)
    assert instrument.read_register(3, 1) == 77.0
    instrument.write_registers(10, list(range(123 - 10)))
    assert instrument.read_registers(10, 113) == list(range(113))
    instrument.write_long(20, -70000, signed=True)
    assert instrument.read_long(20, signed=True) == -70000
    instrument.write_string(30, "order 4711", 8)
    assert instrument.read_string(30, 8) == "order 4711      "


def test_4_input_registers(instrument: Instrument) -> None:
    assert instrument.read_array(0, 125, 4).tolist() == list(range(2000, 2125))


def test_23_read_and_write_registers(instrument: Instrument) -> None:
    assert instrument.read_write_registers(50, 3, 51, [5, 6]) == [instrument.read_register(50), 5, 6]


def test_exception_reply(instrument: Instrument) -> None:
    with pytest.raises(errors.DeviceRefused, match="exception 2, illegal data address"):
        instrument.read_registers(1000, 2)

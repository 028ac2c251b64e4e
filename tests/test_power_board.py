"""The simulated board on its paced line, seen by an independent master (pymodbus) and in literal frames."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import serial
from pymodbus.client import ModbusSerialClient
from pymodbus.exceptions import ModbusIOException

from sim.power_board import RunningBoard, obey_line, running_board

CHARGING, STOPPING, ENDED, FAULT = 3, 4, 5, 6


class Master:
    """pymodbus as the master of the line."""

    def __init__(self, port: str, timeout: float = 1.0) -> None:
        self.client = ModbusSerialClient(port, baudrate=115_200, timeout=timeout, retries=0)
        assert self.client.connect()

    def close(self) -> None:
        self.client.close()  # type: ignore[no-untyped-call]  # pymodbus leaves it untyped

    def measured(self, address: int, count: int = 1) -> list[int]:
        return list(self.client.read_input_registers(address, count=count, device_id=1).registers)

    def kept(self, address: int, count: int = 1) -> list[int]:
        return list(self.client.read_holding_registers(address, count=count, device_id=1).registers)

    def write(self, address: int, *words: int) -> int:
        """The exception code of a function 16 write, 0 when it is accepted."""
        return int(self.client.write_registers(address, list(words), device_id=1).exception_code)

    def write_one(self, address: int, word: int) -> int:
        return int(self.client.write_register(address, word, device_id=1).exception_code)

    def start(self, gun: int = 1) -> int:
        order = [0x4F31, *[0] * 15]
        return self.write(0x0200 + 0x40 * (gun - 1), *order, 0, 0, 800, 1)


@pytest.fixture
def site() -> Iterator[RunningBoard]:
    """A board whose guns live 20 times as fast."""
    with running_board(speedup=20) as site:
        yield site


@pytest.fixture
def master(site: RunningBoard) -> Iterator[Master]:
    master = Master(site.port)
    yield master
    master.close()


def wait_until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


def test_literal_frames(site: RunningBoard) -> None:
    port = serial.Serial(site.port, timeout=1)
    for asked, answered in [
        ("01 04 00 1c 00 01 f0 0c", "01 04 02 00 02 38 f1"),  # two guns are fitted
        ("01 03 02 12 00 01 25 b7", "01 03 02 09 c4 bf 87"),  # current limit 250.0 A
        ("01 06 02 12 01 40 28 17", "01 06 02 12 01 40 28 17"),  # 32.0 A
        ("01 04 7f ff 00 01 18 2e", "01 84 02 c2 c1"),  # no such address
        ("01 01 00 00 00 01 fd ca", "01 81 01 81 90"),  # no such function
    ]:
        port.write(bytes.fromhex(asked))
        assert port.read(len(bytes.fromhex(answered))).hex(" ") == answered
        time.sleep(site.line.silence_s)
    port.close()


def test_identity_reads_as_text(master: Master) -> None:
    data = b"".join(word.to_bytes(2, "big") for word in master.measured(0x0000, 29))
    assert [data[at : at + size].rstrip(b"\0") for at, size in ((0, 16), (16, 16), (32, 8), (40, 16))] == [
        b"PB-200", b"SIM-000001", b"B2", b"1.4.2",
    ]  # fmt: skip


def test_a_charge_over_the_wire(site: RunningBoard, master: Master) -> None:
    site.board.plug(1)
    assert master.start() == 0
    wait_until(lambda: master.measured(0x45) == [800])
    assert master.measured(0x40, 2) == [CHARGING, 1]
    assert master.kept(0x0200, 20) == [0x4F31, *[0] * 15, 0, 0, 800, 1]
    assert master.write_one(0x0213, 2) == 0
    wait_until(lambda: master.measured(0x40) == [ENDED])
    assert "gun 1: contactor closed" in site.board.notes
    assert "gun 1: contactor opened" in site.board.notes


def test_every_refusal_has_its_exception(site: RunningBoard, master: Master) -> None:
    assert master.start() == 4  # no plug
    assert master.write_one(0x0212, 59) == 3
    assert master.write_one(0x0220, 1) == 2
    site.board.refuse()
    assert master.write_one(0x0213, 2) == 4
    site.board.refuse(False)
    site.board.busy()
    assert master.client.read_input_registers(0x40, device_id=1).exception_code == 6


def test_an_emergency_stop_shows_at_once(site: RunningBoard, master: Master) -> None:
    site.board.plug(2)
    assert master.start(gun=2) == 0
    wait_until(lambda: master.measured(0x60) == [CHARGING])
    site.board.estop(2)
    assert master.measured(0x60, 4) == [FAULT, 1, 1, 5]
    assert master.measured(0x40) == [0]  # the other gun has its own button
    site.board.release(2)
    assert master.measured(0x60) == [ENDED]


def test_a_starved_board_stops_by_itself(site: RunningBoard, master: Master) -> None:
    site.board.plug(1)
    assert master.write_one(0x0000, 1) == 0
    assert master.start() == 0
    wait_until(lambda: master.measured(0x40) == [CHARGING])
    wait_until(lambda: master.measured(0x40, 4) == [FAULT, 1, 1 << 10, 7])


def test_a_restart_acknowledges_then_keeps_silent(site: RunningBoard) -> None:
    master = Master(site.port, timeout=0.2)
    began_at = time.monotonic()
    assert master.write_one(0x0001, 0xA5A5) == 0

    def answers() -> bool:
        try:
            return master.measured(0x3C, 2) == [0, 0]
        except ModbusIOException:
            return False

    wait_until(answers)
    assert time.monotonic() - began_at > 1.4
    master.close()


def test_a_silent_board_and_a_foreign_unit_say_nothing(site: RunningBoard) -> None:
    master = Master(site.port, timeout=0.2)
    with pytest.raises(ModbusIOException):
        master.client.read_input_registers(0x40, device_id=2)
    site.board.silent()
    with pytest.raises(ModbusIOException):
        master.measured(0x40)
    master.close()
    site.board.silent(False)
    master = Master(site.port)
    assert master.measured(0x40) == [0]
    master.close()


def test_a_broadcast_is_taken_and_not_answered(site: RunningBoard, master: Master) -> None:
    master.client.write_register(0x0212, 320, device_id=0, no_response_expected=True)
    wait_until(lambda: len(site.line.frames) == 1)  # pymodbus itself does not wait for the silence
    assert master.kept(0x0212) == [320]
    wait_until(lambda: len(site.line.frames) == 3)
    assert [frame.direction for frame in site.line.frames] == ["request", "request", "answer"]


def test_half_a_frame_is_forgotten(site: RunningBoard) -> None:
    port = serial.Serial(site.port, timeout=1)
    port.write(bytes.fromhex("01 04 00 1c"))
    time.sleep(0.3)
    port.write(bytes.fromhex("01 04 00 1c 00 01 f0 0c"))
    assert port.read(7).hex(" ") == "01 04 02 00 02 38 f1"
    port.close()


def test_a_long_read_takes_its_wire_time() -> None:
    with running_board(baud=9600) as site:
        master = Master(site.port)
        began_at = time.monotonic()
        assert len(master.measured(0x003C, 68)) == 68
        taken_s = time.monotonic() - began_at
        master.close()
    wire_s = (8 + 3.5 + 5 + 2 * 68) / 960  # request, silence, answer
    assert wire_s <= taken_s < wire_s + 0.3


def test_the_board_outlives_a_cut_of_the_line(site: RunningBoard) -> None:
    before = Master(site.port)
    site.line.cut()
    before.close()
    site.line.restore()
    after = Master(site.port)
    assert after.measured(0x1C) == [2]
    after.close()


# ---- as a process of its own


class Process:
    """``python -m sim.power_board`` and its JSON lines."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "sim.power_board", "--baud", "115200", "--speedup", "20"]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, line: str) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()

    def hear(self, key: str) -> dict[str, Any]:
        """The next line that has ``key``."""
        assert self.child.stdout is not None
        for line in self.child.stdout:
            content: dict[str, Any] = json.loads(line)
            if key in content:
                return content
        raise AssertionError(f"it ended without saying {key!r}")


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process()
    yield process
    process.child.kill()
    process.child.communicate()


def test_the_process_obeys_json_lines_and_tells_what_happens(process: Process) -> None:
    port = process.hear("port")["port"]
    process.say('{"do": "plug", "gun": 1}')
    assert process.hear("board") == {"board": "gun 1: plug in"}
    assert process.hear("done") == {"done": "plug"}
    master = Master(port)
    assert master.start() == 0
    request, answer = process.hear("frame"), process.hear("frame")
    assert (request["frame"], request["hex"][:20]) == ("request", "01 10 02 00 00 14 28")
    assert (answer["frame"], answer["hex"]) == ("answer", "01 10 02 00 00 14 c1 be")
    assert answer["at"] > request["at"] + request["ms"] / 1000
    assert process.hear("board") == {"board": "gun 1: contactor closed"}
    process.say('{"do": "state"}')
    gun = process.hear("state")["state"]["guns"][0]
    assert (gun["state"], gun["order"], gun["contactor"]) == ("charging", "O1", True)
    master.close()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"do": "dance"}', "do = 'dance', expected one of plug, unplug, card"),
        ('{"do": "plug", "gun": 9}', "gun = 9, this board has 1..2"),
        ('{"do": "fault", "gun": 1, "name": "gremlins"}', "fault = 'gremlins', expected one of emergency_stop"),
        ("plug it in", "'plug it in': Expecting value"),
        ("[1]", "'[1]', expected an object"),
    ],
)
def test_commands_that_make_no_sense_are_answered(site: RunningBoard, line: str, error: str) -> None:
    assert str(obey_line(site, line)["error"]).startswith(error)


def test_the_process_ends_with_its_input(process: Process) -> None:
    process.hear("port")
    process.child.communicate(timeout=10)
    assert process.child.returncode == 0

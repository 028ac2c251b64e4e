"""The simulated power board: a Modbus slave on pymodbus behind a paced serial line.

In a test::

    with running_board(baud=19200) as site:
        serial.Serial(site.port, 19200)
        site.board.plug(1)

As a process: ``python -m sim.power_board`` prints ``{"port": …}`` when it is ready, then JSON lines for every frame and
for what the board does, and takes one JSON command a line on standard input.
"""

import argparse
import asyncio
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.power.profile import Profile, load_profile
from sim.board_model import BoardModel, RefusedError
from sim.gun_physics import GunPhysics
from sim.serial_line import Frame, SerialLine

TICK_S = 0.02
STALE_S = 0.15  # half a frame is forgotten when nothing follows for so long: 3.5 characters and a busy machine's whims
_TABLE = {3: "holding", 6: "holding", 16: "holding", 23: "holding", 4: "input"}


class PowerBoard:
    """A board at the serial port ``port``, in a thread of its own. Its methods may be called from any thread.

    ``on_note`` is called with what the board does, in words ("gun 1: contactor closed").
    """

    def __init__(
        self,
        port: str,
        guns: int = 2,
        unit: int = 1,
        speedup: float = 1.0,
        profile: Profile | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self.unit = unit
        self.notes: deque[str] = deque(maxlen=10_000)
        self._port = port
        self._on_note = on_note
        self._started_at = time.monotonic()
        self._model = BoardModel(profile or load_profile("reference"), guns, speedup)
        self._cut_at: tuple[int, bool] | None = None
        self._cut_while = ""
        self._is_mute = False
        self._lock = threading.RLock()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="power-board", daemon=True)

    def start(self) -> "PowerBoard":
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError(f"the simulated board could not open {self._port}")
        return self

    def close(self) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    # ---- what a driver, a technician or a test does

    def plug(self, gun: int, soc: int = 40) -> None:
        with self._now():
            self._gun(gun).plug(soc)

    def unplug(self, gun: int) -> None:
        with self._now():
            self._gun(gun).unplug()

    def card(self, gun: int) -> bool:
        """A card or the button: starts without an order, or stops. ``False``: the board does not let it."""
        with self._now() as model:
            self._gun(gun)
            return model.start_locally(gun)

    def vehicle(self, gun: int, current_da: int) -> None:
        """The vehicle asks for this current from now on (0.1 A)."""
        with self._now():
            self._gun(gun).vehicle_current_da = current_da

    def fault(self, gun: int, name: str) -> None:
        """Raise a fault by the name of its bit in the register map."""
        with self._now() as model:
            model.check_fault(name)
            self._gun(gun).raise_fault(name)

    def clear(self, gun: int, name: str | None = None) -> None:
        """Clear one fault, or all."""
        with self._now():
            for raised in [name] if name else sorted(self._gun(gun).faults):
                self._gun(gun).clear_fault(raised)

    def estop(self, gun: int) -> None:
        self.fault(gun, "emergency_stop")

    def release(self, gun: int) -> None:
        self.clear(gun, "emergency_stop")

    def restart(self) -> None:
        """As by a power cut of the board alone."""
        with self._now() as model:
            model.restart()

    def cut_power(self, at_request: int, *, is_taken: bool) -> None:
        """The power fails for a moment at the request of that number from now on (1 is the next): just before the
        board would take it, or just after, before it answers."""
        with self._now():
            self._cut_at = (at_request, is_taken)

    @property
    def is_to_be_cut(self) -> bool:
        """The request at which ``cut_power`` strikes has not come yet."""
        return self._cut_at is not None

    def cut_power_while(self, fw_state: str) -> None:
        """The power fails for a moment as soon as the bootloader does that: erasing, verifying."""
        with self._now():
            self._cut_while = fw_state

    def firmware_faults(self, **faults: Any) -> None:
        """Set some of ``FirmwareFaults``."""
        with self._now() as model:
            model.firmware.faults = replace(model.firmware.faults, **faults)

    def silent(self, on: bool = True) -> None:
        """Answer nothing."""
        with self._now() as model:
            model.silent = on

    def busy(self, on: bool = True) -> None:
        """Answer everything with exception 6."""
        with self._now() as model:
            model.busy = on

    def refuse(self, on: bool = True) -> None:
        """Answer every write with exception 4."""
        with self._now() as model:
            model.refusing = on

    def state(self) -> dict[str, Any]:
        """The board and its guns as they are, in the agent's units."""
        with self._now() as model:
            return model.state()

    # ---- Modbus

    async def answer(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: Any
    ) -> ExcCodes | None:
        """pymodbus' hook before each read and write: fill in what is read, take what is written, or refuse."""
        try:
            with self._now() as model:
                if self._power_fails(model):
                    return None
                if values is not None:
                    model.write(address, list(values))
                elif function != 6:  # its echo is what was written
                    registers[address - start : address - start + count] = model.read(_TABLE[function], address, count)
        except RefusedError as refusal:
            return ExcCodes(refusal.code)
        except KeyError:
            return ExcCodes.ILLEGAL_FUNCTION
        finally:
            self._power_failed()
        return None

    def _power_fails(self, model: BoardModel) -> bool:
        """Count a request; whether the board gets to it."""
        if self._cut_at is None:
            return False
        number, is_taken = self._cut_at
        self._cut_at = (number - 1, is_taken)
        if number == 1 and not is_taken:
            self._lose_power(model)
        return self._is_mute

    def _power_failed(self) -> None:
        """After a request: was it the one whose answer the board could not give any more?"""
        if self._cut_at == (0, True):
            with self._now() as model:
                self._lose_power(model)

    def _lose_power(self, model: BoardModel) -> None:
        self._cut_at, self._is_mute = None, True
        model.restart()

    def answers(self) -> bool:
        """Whether an answer that is due gets out."""
        is_mute, self._is_mute = self._is_mute, False
        return not is_mute

    def hears(self, unit: int) -> bool:
        """Whether a request for ``unit`` (0: everybody) gets to the board at all."""
        with self._now() as model:
            return model.answering and unit in (0, self.unit)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = _Server(self, self._port)
        await server.serve_forever(background=True)
        self._ready.set()
        while not self._stop.is_set():
            with self._now():
                pass  # time passes for the guns
            try:
                await asyncio.wait_for(self._stop.wait(), TICK_S)
            except TimeoutError:
                continue
        await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus leaves it untyped

    @contextmanager
    def _now(self) -> Iterator[BoardModel]:
        """The model, at the present moment and for this thread alone; what it did is told afterwards."""
        with self._lock:
            self._model.advance(int((time.monotonic() - self._started_at) * 1000))
            if self._cut_while and self._model.firmware.state == self._cut_while:
                self._cut_while = ""
                self._model.restart()
            try:
                yield self._model
            finally:
                self._model.collect_notes()
                notes, self._model.notes = self._model.notes, []
                self.notes += notes
        for note in notes:
            if self._on_note is not None:
                self._on_note(note)

    def _gun(self, number: int) -> GunPhysics:
        if number not in self._model.guns:
            raise ValueError(f"gun = {number}, this board has 1..{len(self._model.guns)}")
        return self._model.guns[number]


class _Server(ModbusSerialServer):
    """pymodbus' serial server for one board. On a pty the baud rate means nothing: the line paces."""

    def __init__(self, board: PowerBoard, port: str) -> None:
        whole = [SimData(0, count=0x10000, values=0, datatype=DataType.REGISTERS)]  # the board says what exists
        bits = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
        blocks = (list(bits), list(bits), list(whole), list(whole))
        super().__init__(SimDevice(board.unit, simdata=blocks, action=board.answer), port=port, broadcast_enable=True)
        self.board = board

    def callback_new_connection(self) -> ServerRequestHandler:
        return _Handler(self)


class _Handler(ServerRequestHandler):
    """pymodbus' request handler, made to behave on a shared wire: deaf to other units, and forgetting half frames."""

    def __init__(self, server: _Server) -> None:
        super().__init__(server, None, None, None)  # type: ignore[no-untyped-call]
        self._board = server.board
        self._heard_at = 0.0

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if now - self._heard_at > STALE_S:
            self.recv_buffer = b""
        self._heard_at = now
        super().data_received(data)

    async def handle_request(self) -> None:
        if self.last_pdu and self._board.hears(self.last_pdu.dev_id):
            await super().handle_request()  # type: ignore[no-untyped-call]

    def server_send(self, pdu: Any, addr: Any) -> None:
        if self._board.answers():
            super().server_send(pdu, addr)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class RunningBoard:
    """A board on its line. ``port`` is what an agent opens."""

    line: SerialLine
    board: PowerBoard
    port: str


@contextmanager
def running_board(
    *,
    baud: int = 115_200,
    guns: int = 2,
    unit: int = 1,
    speedup: float = 1.0,
    on_frame: Callable[[Frame], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Iterator[RunningBoard]:
    """A board on a paced line for the length of a ``with``."""
    with SerialLine(baud, on_frame=on_frame) as line:
        board = PowerBoard(line.board_path, guns, unit, speedup, on_note=on_note).start()
        try:
            yield RunningBoard(line, board, str(line.path))
        finally:
            board.close()


# ---- as a process


def obey(site: RunningBoard, command: dict[str, Any]) -> dict[str, Any]:
    """Carry out one JSON command, ``{"do": name, …}``, and return the line that answers it."""
    arguments = dict(command)
    name = arguments.pop("do", None)
    try:
        if name not in _COMMANDS:
            raise ValueError(f"do = {name!r}, expected one of {', '.join(_COMMANDS)}")
        result = _COMMANDS[name](site, **arguments)
    except (TypeError, ValueError) as error:
        return {"error": str(error)}
    return {name: result} if result is not None else {"done": name}


_COMMANDS: dict[str, Callable[..., Any]] = {
    **{
        name: lambda site, _name=name, **arguments: getattr(site.board, _name)(**arguments)
        for name in (
            *("plug", "unplug", "card", "vehicle", "fault", "clear", "estop", "release"),
            *("restart", "silent", "busy", "refuse", "state"),
            *("cut_power", "cut_power_while", "firmware_faults"),
        )
    },
    "drop": lambda site, count=1: site.line.drop_answers(count),
    "corrupt": lambda site, count=1: site.line.corrupt_answers(count),
    "late": lambda site, ms: site.line.delay_answer(ms),
    "other_unit": lambda site, unit: site.line.answer_as(unit),
    "noise": lambda site, hex: site.line.noise_before_answer(bytes.fromhex(hex)),
    "echo": lambda site, on=True: setattr(site.line, "local_echo", on),
    "cut": lambda site: site.line.cut(),
    "restore": lambda site: site.line.restore(),
    "violations": lambda site: site.line.violations,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sim.power_board",
        description="A simulated power board on a paced pseudo-terminal.",
        epilog='Takes commands on standard input, one JSON object a line like {"do": "plug", "gun": 1}, and ends with '
        f"its input. Commands: {', '.join(_COMMANDS)}.",
    )
    parser.add_argument("--baud", type=int, default=9600, help="pace of the line (default 9600)")
    parser.add_argument("--guns", type=int, default=2, help="guns fitted, 1 to 8 (default 2)")
    parser.add_argument("--unit", type=int, default=1, help="Modbus address (default 1)")
    parser.add_argument("--speedup", type=float, default=1.0, help="how much faster the guns live (default 1)")
    arguments = parser.parse_args()
    with running_board(on_frame=_say_frame, on_note=lambda note: _say({"board": note}), **vars(arguments)) as site:
        _say({"port": site.port})
        for line in sys.stdin:
            _say(obey_line(site, line))


def obey_line(site: RunningBoard, line: str) -> dict[str, Any]:
    """Carry out one line of standard input and return the line that answers it."""
    try:
        command = json.loads(line)
    except ValueError as error:
        return {"error": f"{line.strip()!r}: {error}"}
    return obey(site, command) if isinstance(command, dict) else {"error": f"{line.strip()!r}, expected an object"}


def _say_frame(frame: Frame) -> None:
    milliseconds = round((frame.ended_at - frame.began_at) * 1000, 2)
    _say({"frame": frame.direction, "hex": frame.data.hex(" "), "at": round(frame.began_at, 4), "ms": milliseconds})


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")  # one write, so that threads do not mix their lines
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""A board in memory for the pure procedure, images, and orders to push them."""

import struct
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from agent.pile.actions import FlashBoard
from agent.pile.firmware import ImageFile, Kind
from agent.power.scheduler import told
from cext import rtu
from firmware_bridge.flash import BusyError, Flashed, Image, Limits, RefusedError, State, Status, UnheardError, flashing
from sim.board_model import BoardModel
from sim.board_model import RefusedError as BoardRefusedError
from sim.firmware_window import BLOCK_LIMIT, FirmwareWindow

T = TypeVar("T")
OLD, NEW = "1.4.2", "1.5.0"
RESTART_MS = 1500
ANSWER_MS = 10
STEPS_MOST = 5000
LIMITS = Limits(block_bytes=1024)


def image_data(version: str = NEW, size: int = 700) -> bytes:
    """An image as the simulated board takes it; no two of its blocks are the same."""
    head = b"PB-200 " + version.encode() + b"\0"
    return (head + bytes(at * 7 % 251 for at in range(size)))[:size]


def image(version: str = NEW, size: int = 700) -> Image:
    return Image(image_data(version, size), version)


def order_in(folder: Path, data: bytes | None = None, packet_length: int = 1024, **changes: object) -> FlashBoard:
    """An order whose image is a file in ``folder``; ``changes`` are to what is said of that."""
    image = image_file(folder / "new.bin", image_data() if data is None else data)
    return FlashBoard(replace(image, **changes), packet_length, None)  # type: ignore[arg-type]


def image_file(path: Path, data: bytes, version: str = NEW) -> ImageFile:
    path.write_bytes(data)
    return ImageFile(Kind.POWER_BOARD, version, ("PB-200",), len(data), zlib.crc32(data), str(path))


class MemoryBoard:
    """The simulated bootloader as a ``Window``. Time passes with each request and pause.

    ``requests`` has what was asked; ``faults`` says by a request's number (from 1) what becomes of it:

    - ``request lost``, ``answer lost``: nothing comes back; only the second was done;
    - ``power before``, ``power after``: the board restarts, before or after it does what was asked;
    - ``busy``, ``refused``: it does not do it.
    """

    def __init__(self) -> None:
        self.firmware = FirmwareWindow()
        self.version = OLD
        self.requests: list[str] = []
        self.faults: dict[int, str] = {}
        self.now_ms = 0
        self.silent_until_ms = 0
        self.size = self.crc32 = 0

    def status(self) -> Generator[float, None, Status]:
        return (yield from self._ask("status", self._status))

    def erase(self, size: int, crc32: int) -> Generator[float, None, None]:
        def take() -> bool:
            taken = self.firmware.erase(size, crc32)
            if taken:
                self.size, self.crc32 = size, crc32
            return taken

        return (yield from self._command("erase", take))

    def block(self, offset: int, data: memoryview) -> Generator[float, None, None]:
        return (yield from self._command(f"block {offset}", lambda: self.firmware.block(offset, bytes(data))))

    def verify(self) -> Generator[float, None, None]:
        return (yield from self._command("verify", self.firmware.verify))

    def activate(self) -> Generator[float, None, None]:
        def take() -> bool:
            version = self.firmware.activate()
            if version is None:
                return False
            self.version = version
            self._restart()
            return True

        return (yield from self._command("activate", take))

    def pause(self, seconds: float) -> Generator[float, None, None]:
        self._pass(int(1000 * seconds))
        yield 0.0

    def _status(self) -> Status:
        firmware = self.firmware
        return Status(State(firmware.state), firmware.received, BLOCK_LIMIT, self.size, self.crc32, self.version)

    def _command(self, name: str, take: Callable[[], bool]) -> Generator[float, None, None]:
        def done() -> None:
            if not take():
                raise RefusedError(f"{name}: exception 4")

        return (yield from self._ask(name, done))

    def _ask(self, name: str, do: Callable[[], T]) -> Generator[float, None, T]:
        yield 0.0
        self.requests.append(name)
        fault = self.faults.get(len(self.requests), "")
        self._pass(ANSWER_MS)
        if fault == "power before":
            self._restart()
        if fault == "request lost" or self.now_ms < self.silent_until_ms:
            raise UnheardError(f"{name}: nothing came back")
        if fault == "busy":
            raise BusyError(f"{name}: exception 6")
        if fault == "refused":
            raise RefusedError(f"{name}: exception 4")
        outcome = do()
        if fault == "power after":
            self._restart()
        if fault in ("answer lost", "power after"):
            raise UnheardError(f"{name}: nothing came back")
        return outcome

    def _restart(self) -> None:
        self.firmware.restart()
        self.silent_until_ms = self.now_ms + RESTART_MS

    def _pass(self, ms: int) -> None:
        self.now_ms += ms
        self.firmware.step(ms)


def flash(
    board: MemoryBoard, new: Image | None = None, last_good: Image | None = None, limits: Limits = LIMITS
) -> Flashed:
    """The whole procedure."""
    flashed = killed_after(STEPS_MOST, board, new, last_good, limits)
    assert flashed is not None, f"no end after {STEPS_MOST} steps"
    return flashed


def killed_after(
    steps: int, board: MemoryBoard, new: Image | None = None, last_good: Image | None = None, limits: Limits = LIMITS
) -> Flashed | None:
    """So many steps of the procedure; ``None``: it was not over by then."""
    ended: list[Flashed] = []
    procedure = told(flashing(board, new or image(), last_good, limits, lambda percent: None), ended.append)
    for _ in islice(procedure, steps + 1):
        pass
    return ended[0] if ended else None


def boards_script(models: dict[int, BoardModel]) -> Callable[[bytes], Iterator[bytes]]:
    """Several simulated boards on one line (a script for ``ScriptedDevice``), which pymodbus' server can't be."""
    began_at = time.monotonic()

    def answer(request: bytes) -> Iterator[bytes]:
        unit, function = request[0], request[1]
        if unit in models:
            models[unit].advance(int(1000 * (time.monotonic() - began_at)))
            try:
                yield rtu.frame(unit, function, _answered(models[unit], request))
            except BoardRefusedError as refusal:
                body = bytes([unit, function | 0x80, refusal.code])
                yield body + rtu.crc16(body).to_bytes(2, "little")

    return answer


def _answered(model: BoardModel, request: bytes) -> bytes:
    function, address, count = request[1], int.from_bytes(request[2:4], "big"), int.from_bytes(request[4:6], "big")
    if function in (3, 4):
        words = model.read("holding" if function == 3 else "input", address, count)
        return bytes([2 * count]) + struct.pack(f">{count}H", *words)
    model.write(address, [count] if function == 6 else struct.unpack(f">{count}H", request[7:-2]))
    return request[2:6]

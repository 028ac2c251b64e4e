"""A power board's update beside the line's own limit and beside plain minimalmodbus: ``python -m bench.flashing``.

The limit of a block is the wire time of request and answer, the two silent intervals, and what the board took
to answer, as the simulated line has seen it in the same run. Ours is the whole agent's way: the bus with its polls, the
procedure, the board's profile. The peer is a loop of ``write_registers`` over the same blocks.
"""

import json
import logging
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import minimalmodbus

from agent.clock import Clock
from agent.pile.actions import FlashBoard
from agent.pile.events import FlashDone, FlashProgress, FromBoard
from agent.pile.firmware import ImageFile, Kind
from agent.power.bus import Bus
from agent.power.config import DeviceConfig, LineConfig
from agent.power.instrument import Instrument
from agent.power.port import open_port
from agent.power.profile import load_profile
from agent.protocol.results import Result

BLOCK_BYTES = 128
BLOCKS = {9600: 16, 115_200: 160}
BLOCK = "01 10 00 48 00 43 86"
FW_STATE, FW_SIZE, FW_OFFSET, RECEIVING = 0x20, 0x40, 0x48, 2
CHAR_BITS = 10


@dataclass(frozen=True)
class Frame:
    """As the line has seen it; monotonic seconds."""

    is_request: bool
    hex: str
    began_at: float
    ended_at: float


@dataclass(frozen=True)
class Measured:
    """One run: ``limit_s`` and ``took_s`` are for its blocks, from the first byte of the first to the silence after the
    last answer."""

    size: int
    limit_s: float
    took_s: float
    block_share: float  # limit over time, of the median block: without the machine's whims
    cpu_s: float


def main() -> None:
    logging.disable()
    for baud, blocks in BLOCKS.items():
        image = b"PB-200 9.9.9\0" + bytes(at * 7 % 251 for at in range(blocks * BLOCK_BYTES - 13))
        print(f"{baud} baud, {len(image)} bytes in blocks of {BLOCK_BYTES}")
        show("minimalmodbus", measured(baud, image, push_plainly))
        show("ours", measured(baud, image, push))
        print()


def show(name: str, run: Measured) -> None:
    blocks = run.size // BLOCK_BYTES
    shares = f"{100 * run.limit_s / run.took_s:5.1f} %, median block {100 * run.block_share:5.1f} %"
    speeds = f"{run.size / run.took_s:6.0f} B/s   limit {run.size / run.limit_s:6.0f} B/s   {shares}"
    print(f"  {name:14} {speeds}   CPU {1e6 * run.cpu_s / blocks:5.0f} µs a block", flush=True)


def measured(baud: int, image: bytes, way: Callable[[str, int, bytes], float]) -> Measured:
    with board(baud) as (port, lines):
        cpu_s = way(port, baud, image)
    pairs = blocks_of(lines)
    char_s = CHAR_BITS / baud
    silence_s = 3.5 * char_s if baud <= 19200 else 0.00175
    limits_s = [
        len(bytes.fromhex(request.hex + answer.hex)) * char_s + (answer.began_at - request.ended_at) + silence_s
        for request, answer in pairs  # from the request's end to the answer's beginning is one silence and the board
    ]
    took_s = [later.began_at - earlier.began_at for (earlier, _), (later, _) in pairwise(pairs)]
    return Measured(
        size=len(image),
        limit_s=sum(limits_s) / len(pairs) * len(image) / BLOCK_BYTES,  # a block sent again is none of the limit's
        took_s=pairs[-1][1].ended_at - pairs[0][0].began_at + silence_s,
        block_share=median(limit / took for limit, took in zip(limits_s, took_s, strict=False)),
        cpu_s=cpu_s,
    )


@contextmanager
def board(baud: int) -> Iterator[tuple[str, list[str]]]:
    """A simulated board in a process of its own; its port, and what it says of the line, a JSON line a frame."""
    command = [sys.executable, "-m", "sim.power_board", "--baud", str(baud)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        lines: list[str] = []
        reading = threading.Thread(target=lines.extend, args=(process.stdout,))
        reading.start()
        try:
            yield port, lines
        finally:
            time.sleep(0.1)  # the last frame ends with a silence
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)
            reading.join()


def blocks_of(lines: list[str]) -> list[tuple[Frame, Frame]]:
    """Each block's request and its answer."""
    told = [said for line in lines if "frame" in (said := json.loads(line))]
    seen = [Frame(one["frame"] == "request", one["hex"], one["at"], one["at"] + one["ms"] / 1000) for one in told]
    return [
        (request, answer)
        for request, answer in pairwise(seen)
        if request.is_request and request.hex.startswith(BLOCK) and not answer.is_request
    ]


def push(port: str, baud: int, image: bytes) -> float:
    """The agent's way. Returns the CPU seconds of this process from the first to the last block."""
    device = DeviceConfig("board", 1, load_profile("reference"), (1, 2))
    is_over = threading.Event()
    cpu_s: list[float] = []

    def post(event: FromBoard) -> None:
        if event in (FlashProgress(0), FlashProgress(100)):
            cpu_s.append(time.process_time())
        if isinstance(event, FlashDone):
            assert event.result is Result.OK, event.text
            is_over.set()

    def fail(error: BaseException) -> None:
        raise error

    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(image)
        stored = ImageFile(Kind.POWER_BOARD, "9.9.9", ("PB-200",), len(image), zlib.crc32(image), file.name)
        order = FlashBoard(stored, 1024, None)
        bus = Bus((LineConfig(port, (device,), baud=baud),), post, fail, Clock())
        bus.start()
        bus.do(order)
        is_over.wait(120)
        bus.stop()
    return cpu_s[1] - cpu_s[0]


def push_plainly(port: str, baud: int, image: bytes) -> float:
    """A loop of minimalmodbus over the blocks; the erase before it is not measured."""
    with open_port(port, baud) as serial:
        ours = Instrument(serial, 1, answer_ms=1000)
        ours.write_registers(FW_SIZE, struct.unpack(">5H", struct.pack(">IIH", len(image), zlib.crc32(image), 1)))
        while ours.read_register(FW_STATE, functioncode=4) != RECEIVING:
            time.sleep(0.05)
        serial.timeout = 1.0
        peer = minimalmodbus.Instrument(serial, 1)
        before = time.process_time()
        for offset in range(0, len(image), BLOCK_BYTES):
            block = image[offset : offset + BLOCK_BYTES]
            peer.write_registers(FW_OFFSET, [*struct.unpack(">3H", struct.pack(">IH", offset, len(block))),
                                             *struct.unpack(">64H", block)])  # fmt: skip
        return time.process_time() - before


if __name__ == "__main__":
    main()

"""How soon a stop is on the wire while the line is never idle: ``python -m bench.stop [--stops N]``.

Two guns are measured at full rate on one line, where a second board is silent: it is asked ever more seldom, which is
how the bus treats it. At any moment of that a gun is to be stopped. Time runs from the order until the last byte of the
frame that carries it has left. A stop can't break into an exchange, so the worst there can be is the longest exchange
on that line (a question and its answer, or the wait for the board that is silent) and the stop's own frame.
"""

import argparse
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from queue import SimpleQueue
from statistics import median, quantiles

from agent.clock import Clock
from agent.pile.actions import StopGun
from agent.pile.events import FromBoard, JobDone
from agent.power.bus import Bus
from agent.power.config import DeviceConfig, LineConfig
from agent.power.profile import load_profile
from bench.sample import Target

BAUDS = (9600, 19200)
STOPS = 500
MOST_PAUSE_S = 0.2  # a stop falls into any moment of a round of polls
PATIENCE_S = 5.0
WRITES = (6, 16)
TARGET = 1.2


@dataclass(frozen=True)
class Frame:
    """A frame on the wire, in monotonic seconds."""

    is_request: bool
    data: bytes
    began_at: float
    ended_at: float

    @property
    def is_write(self) -> bool:
        return self.is_request and self.data[1] in WRITES


class Board:
    """The simulated board in its own process; ``frames`` has what passes on its line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.frames: SimpleQueue[Frame] = SimpleQueue()
        self.seen: list[Frame] = []
        self.port: str = json.loads(process.stdout.readline())["port"]
        self._lines = process.stdout
        threading.Thread(target=self._read, daemon=True).start()

    def forget(self) -> None:
        """What passed so far is none of the next writes."""
        while not self.frames.empty():
            self.seen.append(self.frames.get())

    def next_write(self) -> Frame:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            frame = self.frames.get(timeout=max(deadline - time.monotonic(), 0.0))
            self.seen.append(frame)
            if frame.is_write:
                return frame

    def _read(self) -> None:
        for said in map(json.loads, self._lines):
            if "frame" in said:
                at, data = said["at"], bytes.fromhex(said["hex"])
                self.frames.put(Frame(said["frame"] == "request", data, at, at + said["ms"] / 1000))


def main(stops: int = STOPS) -> list[Target]:
    return [measure(baud, stops) for baud in BAUDS]


def measure(baud: int, stops: int) -> Target:
    rng = random.Random(baud)
    over: SimpleQueue[JobDone] = SimpleQueue()
    with board_at(baud) as board, polling(board.port, baud, over) as bus:
        latencies, frames_s = [], []
        for number in range(stops):
            time.sleep(rng.uniform(0.0, MOST_PAUSE_S))
            board.forget()
            ordered_at = time.monotonic()
            bus.do(StopGun(number % 2 + 1))
            frame = board.next_write()
            latencies.append(frame.ended_at - ordered_at)
            frames_s.append(frame.ended_at - frame.began_at)
            over.get(timeout=PATIENCE_S)  # a stop that meets another of its gun is that one
        exchange_s = longest_exchange_s(board.seen)
    return tell(baud, latencies, exchange_s, median(frames_s))


def tell(baud: int, latencies: list[float], exchange_s: float, frame_s: float) -> Target:
    p99 = quantiles(latencies, n=100)[98]
    print(
        f"\n{len(latencies)} stops at {baud} baud: median {median(latencies) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, "
        f"longest {max(latencies) * 1000:.0f} ms; the longest exchange {exchange_s * 1000:.0f} ms, "
        f"the stop's frame {frame_s * 1000:.1f} ms"
    )
    what = f"stop latency at {baud} baud, p99, a board silent"
    return Target(what, "one bus exchange + one frame", p99 / (exchange_s + frame_s), TARGET)


def longest_exchange_s(frames: list[Frame]) -> float:
    """From the begin of a request until that of the next one, where that had to wait: the line is never idle. Reads
    alone, for after a write the board's settings are read back, which is another one."""
    requests = [frame for frame in frames if frame.is_request]
    spans = [after.began_at - before.began_at for before, after in pairwise(requests) if not before.is_write]
    return quantiles(spans, n=100)[98]  # the longest of all would be one that this machine held up


@contextmanager
def board_at(baud: int) -> Iterator[Board]:
    command = [sys.executable, "-m", "sim.power_board", "--baud", str(baud)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Board(process)
        assert process.stdin is not None
        process.stdin.close()  # ends it


@contextmanager
def polling(port: str, baud: int, over: "SimpleQueue[JobDone]") -> Iterator[Bus]:
    """A bus that measures without a pause, but for the silent board, which it asks ever more seldom."""

    def post(event: FromBoard) -> None:
        if isinstance(event, JobDone):
            over.put(event)

    profile = load_profile("reference")
    boards = (DeviceConfig("board", 1, profile, (1, 2)), DeviceConfig("silent board", 2, profile, (3, 4)))
    bus = Bus((LineConfig(port, boards, baud=baud, poll_ms=50),), post, _fail, Clock())
    bus.start()
    time.sleep(2.0)
    yield bus
    bus.stop()


def _fail(error: BaseException) -> None:
    raise error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stops", type=int, default=STOPS, metavar="N", help="at each speed (%(default)s)")
    for target in main(parser.parse_args().stops):
        print("  ".join(target.cells))

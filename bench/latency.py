"""From a command's publishing to its frame on the serial line: beside a C client of libmosquitto, and stock paho.

The command is 112, which has the boards asked for their versions. Every side hears its own topic of a real mosquitto
at QoS 1, has a pseudo-terminal as its line, whose board answers at once, and replies to the broker. The peers check the
pile's number, write a frame, read the answer and send the line back; paho does so in a thread of its own, as its loop
must not wait. Ours is the agent: it reads the whole message, has it on disk before anything happens, and its bus keeps
the silences. What its journal's transaction took is told by the agent itself, and shown apart.

Commands are published 5 ms apart, or as soon as the one before is answered, if that took longer; then, beside it, each
after a rest of 5 ms, when every side has gone to sleep. The broker has set_tcp_nodelay first, then stock TCP settings
(Nagle's algorithm on).
"""

import os
import pty
import select
import struct
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.peers import MissingError, program
from bench.platform_side import PILE, REPLIES, Platform, write_config
from bench.sample import Target, compare, ratio
from cext import rtu
from sim.broker import BrokerError, Mosquitto

SPACING_S = 0.005
WARM_UP, A_TURN = 20, 10
QUICK_TURNS, SLOW_TURNS = 21, 7
PATIENCE_S = 5.0
VERSIONS = rtu.read_request(1, 3, 0x0220, 8)  # what 112 has the reference board asked first: gun 1's firmware version
COMMIT = struct.Struct("d")


class Pace(Enum):
    """When the next command follows."""

    APART = "5 ms apart"
    RESTED = "after 5 ms of rest"


class Turn(NamedTuple):
    """The medians of some commands, in microseconds from the publishing: until the frame, of it the journal's
    transaction; until the reply."""

    frame_us: float
    journal_us: float
    reply_us: float


@dataclass
class Seen:
    """When; 0: not yet."""

    frame_at: float = 0.0
    reply_at: float = 0.0


class StockMosquitto(Mosquitto):
    """As it comes: with Nagle's algorithm."""

    def _config_lines(self) -> list[str]:
        return [line for line in super()._config_lines() if not line.startswith("set_tcp_nodelay")]


class Side:
    """Who hears one topic, and its line, on which this process plays the board."""

    def __init__(self, pile: str, platform: Platform) -> None:
        self.pile = pile
        self.topic = f"klc/command/qik/{pile}"
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.line = os.ttyname(self._slave)
        self.commits, self.told = os.pipe()  # the agent tells each command's
        os.set_blocking(self.commits, False)
        self._platform = platform
        self._stamp = time.time_ns() // 1_000_000

    def close(self) -> None:
        for fd in (self.master, self._slave, self.commits, self.told):
            os.close(fd)

    def turn(self, count: int, pace: Pace) -> Turn:
        """Of ``count`` commands, the medians."""
        commands = [self._command(pace) for _ in range(count)]
        return Turn(*map(median, zip(*commands, strict=True)))

    def wait_until_there(self) -> None:
        """Until a command is answered."""
        deadline = time.monotonic() + 4 * PATIENCE_S
        while time.monotonic() < deadline:
            self._publish()
            if self._serve(time.perf_counter() + 0.5).reply_at:
                self._serve(time.perf_counter() + 1.0, until_reply=False)  # what was left at the broker
                return
        raise MissingError(f"pile {self.pile} did not come up")

    def _command(self, pace: Pace) -> tuple[float, float, float]:
        began_at = time.perf_counter()
        self._publish()
        seen = self._serve(began_at + PATIENCE_S)
        if not seen.reply_at or not seen.frame_at:
            raise MissingError(f"pile {self.pile}: no reply within {PATIENCE_S} s")
        commit_us = self.commit_us()
        counts_from = began_at if pace is Pace.APART else seen.reply_at
        self._serve(counts_from + SPACING_S, until_reply=False)
        return (seen.frame_at - began_at) * 1e6, commit_us, (seen.reply_at - began_at) * 1e6

    def commit_us(self) -> float:
        """Of the latest command, as far as told."""
        select.select([self.commits], [], [], 0.001)
        try:
            told: float = COMMIT.unpack(os.read(self.commits, 65536)[-COMMIT.size :])[0]
        except BlockingIOError:
            return 0.0
        return told

    def _publish(self) -> None:
        self._stamp += 1
        self._platform.publish(self.topic, f"127.0.0.1,API:2.0.2,112,{self._stamp},{self.pile}".encode())

    def _serve(self, until: float, until_reply: bool = True) -> Seen:
        """Answer the frames that come, with zeros, until the reply is there or the time is up."""
        seen = Seen()
        while (left_s := until - time.perf_counter()) > 0 and not (until_reply and seen.reply_at):
            ready, _, _ = select.select([self.master, self._platform.replies.fileno()], [], [], left_s)
            now = time.perf_counter()
            if self.master in ready:
                request = os.read(self.master, 256)
                os.write(self.master, _answer(request))
                seen.frame_at = seen.frame_at or (now if request == VERSIONS else 0.0)
            if self._platform.replies.fileno() in ready and str(self._stamp).encode() in self._platform.heard():
                seen.reply_at = now  # not a heartbeat, nor an event's record
        return seen


def _answer(request: bytes) -> bytes:
    function = request[1]
    if function > 4:
        return rtu.frame(request[0], function, request[2:6])
    octets = 2 * request[5]
    return rtu.frame(request[0], function, bytes([octets]) + bytes(octets))


# ---- the sides ----


@contextmanager
def _process(side: Side, command: list[str]) -> Iterator[Side]:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[side.told]) as process:
        try:
            side.wait_until_there()
            yield side
        finally:
            process.terminate()


def agent(side: Side, port: int, folder: Path) -> list[str]:
    config = write_config(folder, side.pile, port, "routed", side.line)
    return [sys.executable, "-m", "bench.latency", "agent", str(config), str(side.told)]


def c_client(side: Side, port: int) -> list[str]:
    return [str(program("mosquitto")), str(port), side.topic, side.pile, side.line]


def paho_client(side: Side, port: int) -> list[str]:
    return [sys.executable, "-m", "bench.latency", "paho", str(port), side.topic, side.pile, side.line]


def main() -> list[Target]:
    try:
        quick, stock = measure(Mosquitto, QUICK_TURNS), measure(StockMosquitto, SLOW_TURNS)
    except BrokerError as error:
        print(error)
        return []
    targets = []
    for broker, measured, peer, most in (
        ("set_tcp_nodelay", quick, "libmosquitto (C)", 1.7),
        ("stock TCP settings", stock, "stock paho", 0.02),
    ):
        for pace, sides in measured.items():
            _tell(f"{pace.value}, mosquitto with {broker}", sides)
            if peer in sides:
                got = ratio(_apart(sides["ours"]), _frames(sides[peer]))
                what = f"command published → frame, {broker}, {pace.value}"
                targets.append(Target(what, peer, got, most))
    return targets


def _frames(turns: list[Turn]) -> list[float]:
    return [turn.frame_us for turn in turns]


def _apart(turns: list[Turn]) -> list[float]:
    """Without what the journal's transaction took."""
    return [turn.frame_us - turn.journal_us for turn in turns]


def _tell(title: str, sides: dict[str, list[Turn]]) -> None:
    frames = {"ours, journal apart": _apart(sides["ours"])}
    frames["its journal"] = [turn.journal_us for turn in sides["ours"]]
    frames |= {name: _frames(turns) for name, turns in sides.items()}
    compare(f"command published until its frame is on the line, {title}", frames)
    compare("until its reply is there", {name: [turn.reply_us for turn in turns] for name, turns in sides.items()})


def measure(kind: type[Mosquitto], turns: int) -> dict[Pace, dict[str, list[Turn]]]:
    """The medians of each turn's commands, by pace and side."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="pile-agent-bench-")))
        broker = stack.enter_context(kind(folder / "broker"))
        platform = Platform(broker.port)
        stack.callback(platform.close)
        sides: dict[str, Side] = {}

        def add(name: str, command: Callable[[Side], list[str]]) -> None:
            side = Side(f"{PILE}{len(sides)}", platform)
            stack.callback(side.close)
            sides[name] = stack.enter_context(_process(side, command(side)))

        add("ours", lambda side: agent(side, broker.port, folder))
        try:
            add("libmosquitto (C)", lambda side: c_client(side, broker.port))
        except MissingError as missing:
            print(missing)
        add("stock paho", lambda side: paho_client(side, broker.port))
        for side in sides.values():
            side.turn(WARM_UP, Pace.APART)
        taken = {
            pace: [{name: side.turn(A_TURN, pace) for name, side in sides.items()} for _ in range(turns)]
            for pace in Pace
        }
    return {pace: {name: [turn[name] for turn in some] for name in sides} for pace, some in taken.items()}


# ---- what runs in a process of its own ----


def run_agent(config: str, told: int) -> int:
    """The agent, which tells how long each message's transactions took."""
    from agent.cli.main import main as agent_main
    from agent.desk import Desk
    from agent.journal import Journal

    spent_us = 0.0
    transaction, message_came = Journal.transaction, Desk.message_came

    @contextmanager
    def timed_transaction(journal: Journal) -> Iterator[None]:
        nonlocal spent_us
        began_at = time.perf_counter()
        with transaction(journal):
            yield
        spent_us += (time.perf_counter() - began_at) * 1e6

    def timed_message(desk: Desk, payload: bytes) -> bool:
        nonlocal spent_us
        spent_us = 0.0
        is_taken = message_came(desk, payload)
        os.write(told, COMMIT.pack(spent_us))
        return is_taken

    Journal.transaction = timed_transaction  # type: ignore[method-assign,assignment]
    Desk.message_came = timed_message  # type: ignore[method-assign,assignment]
    return agent_main(["run", "--config", config])


def run_paho(port: int, topic: str, pile: str, line: str) -> None:
    """What one writes first: paho's loop in its thread, the work in another, from a queue."""
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    fd = os.open(line, os.O_RDWR | os.O_NOCTTY)
    messages: SimpleQueue[bytes] = SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe(topic, qos=1)  # type: ignore[assignment]
    client.on_message = lambda _client, _context, message: messages.put(bytes(message.payload))
    client.connect("127.0.0.1", port)
    client.loop_start()
    while True:
        command = messages.get().decode()
        if command.split(",")[4] == pile:
            os.write(fd, VERSIONS)
            os.read(fd, 256)
            client.publish(REPLIES + pile, command, qos=1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["agent", config, told]:
            sys.exit(run_agent(config, int(told)))
        case ["paho", port, topic, pile, line]:
            run_paho(int(port), topic, pile, line)
        case _:
            main()

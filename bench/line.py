"""A Modbus line: our transactions beside minimalmodbus, libmodbus (C) and the poll() loop that one writes in C.

The slave is a C program on a pseudo-terminal. Where it has a baud rate it takes the time that the bits take, gives its
answer in pieces of 1 to 8 bytes as a UART does, keeps 3.5 characters of silence itself, and counts the requests that
did not. A cycle is from one request to the next; its ideal is the bits' time and two silences. libmodbus keeps none
(marked *): it is faster than the standard allows.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median, quantiles

import minimalmodbus
import serial

from agent.clock import Clock
from agent.power.bus import Bus
from agent.power.config import DeviceConfig, LineConfig
from agent.power.errors import BusError
from agent.power.instrument import Instrument
from agent.power.port import open_port
from agent.power.profile import load_profile
from bench.frames import COUNT, REQUEST
from bench.peers import MissingError, Peer
from bench.sample import Cost, Ratio, Target, compare, cost, ratio, table
from cext import rtu

INSTANT_ROUNDS, INSTANT_CALLS = 21, 100
# Transactions a turn, turns, most of a cycle over its ideal. Many short turns: the machine is never quiet.
BAUDS = {9600: (4, 7, 1.01), 19200: (6, 11, 1.01), 115200: (15, 21, 1.03)}
FAULTS = 9
ANSWER_MS = 200
REQUEST_BYTES, ANSWER_BYTES = 8, 5 + 2 * COUNT

Measure = Callable[[int], Cost]


@dataclass
class Side:
    """A master, what its transactions cost, and what the slave says of it."""

    measure: Measure
    costs: list[Cost] = field(default_factory=list)
    cycles: list[float] = field(default_factory=list)  # over the ideal
    transactions: int = 0
    too_early: int = 0
    least_silence_us: float = float("inf")

    def turn(self, slave: Peer, count: int) -> None:
        slave.ask("report")  # forgets the side before
        self.costs.append(self.measure(count))
        transactions, too_early, least_us, *cycles = map(float, slave.ask("report").split())
        self.transactions += int(transactions)
        self.too_early += int(too_early)
        self.least_silence_us = min(self.least_silence_us, least_us)
        self.cycles += [took / ideal for took, ideal in zip(cycles[::2], cycles[1::2], strict=True)]

    @property
    def times_us(self) -> list[float]:
        return [one.time_us for one in self.costs]

    @property
    def cpu_us(self) -> list[float]:
        return [one.cpu_us for one in self.costs]

    @property
    def cycle(self) -> Ratio:
        low, middle, high = quantiles(self.cycles)
        return Ratio(middle, low, high)


def main() -> list[Target]:
    targets = instant()
    for baud, (count, turns, most) in BAUDS.items():
        targets += paced(baud, count, turns, most)
    for baud in BAUDS:
        targets += faults(baud)
    return targets


@contextmanager
def slave_at(baud: int) -> Iterator[tuple[Peer, str]]:
    """The slave and its port's path; 0 baud: it answers at once."""
    with Peer("slave", str(baud)) as slave:
        yield slave, slave.hear()


def instant() -> list[Target]:
    """Nobody keeps a silence, so that only the work is left."""
    with ExitStack() as stack:
        slave, path = stack.enter_context(slave_at(0))
        port = stack.enter_context(open_port(path, 115200))
        line = rtu.Line(port.fileno(), 115200, quiet_us=0)
        sides = {"ours": Side(partial(cost, lambda: rtu.registers(line.transact(REQUEST))))}
        sides |= _c_side(stack, "libmodbus (C)", "libmodbus", path, 115200)
        for _ in range(INSTANT_ROUNDS):
            for side in sides.values():
                side.turn(slave, INSTANT_CALLS)
    title = f"read of {COUNT} registers from a slave that answers at once, no silences"
    compare(f"{title}: time, p50", {name: side.times_us for name, side in sides.items()})
    compare(f"{title}: CPU", {name: side.cpu_us for name, side in sides.items()})
    ours, peer = sides["ours"], sides.get("libmodbus (C)")
    if peer is None:
        return []
    return [
        Target("transaction, instant slave: p50", "libmodbus (C)", ratio(ours.times_us, peer.times_us), 1.3),
        Target("transaction, instant slave: CPU", "libmodbus (C)", ratio(ours.cpu_us, peer.cpu_us), 1.5),
    ]


def paced(baud: int, count: int, turns: int, most: float) -> list[Target]:
    with ExitStack() as stack:
        slave, path = stack.enter_context(slave_at(baud))
        instrument = _our_instrument(stack, path, baud)
        line = instrument.line
        sides = {
            "ours": Side(partial(cost, lambda: instrument.read_array(0, COUNT))),
            "ours, the bare line": Side(partial(cost, lambda: rtu.registers(line.transact(REQUEST)))),
            "minimalmodbus": Side(partial(cost, _stock_read(stack, path, baud, timeout_s=2.0))),
        }
        sides |= _c_side(stack, "plain C", "plain", path, baud)
        sides |= _c_side(stack, "libmodbus (C) *", "libmodbus", path, baud)
        for _ in range(turns):
            for side in sides.values():
                side.turn(slave, count)
    with slave_at(baud) as (slave, path):
        agent = Side(partial(_poll_by_bus, path, baud))
        agent.turn(slave, count * turns)
    _tell(f"{baud} baud, read of {COUNT} registers", sides | {"our whole bus room, 2 guns": agent})
    return _paced_targets(baud, most, sides, agent)


def _paced_targets(baud: int, most: float, sides: dict[str, Side], agent: Side) -> list[Target]:
    ours = sides["ours"]
    what = f"transaction at {baud} baud"
    targets = [
        Target(f"poll cycle at {baud} baud", "wire time + 2 × t3.5", ours.cycle, most),
        Target("the same, whole bus room, polls of 2 guns", "wire time + 2 × t3.5", agent.cycle, most),
        Target(
            f"{what}: began within t3.5",
            f"{ours.transactions + agent.transactions} requests",
            ours.too_early + agent.too_early,
            0,
            "",
        ),
        Target(f"{what}: CPU", "minimalmodbus", ratio(ours.cpu_us, sides["minimalmodbus"].cpu_us), 0.2),
    ]
    if "plain C" in sides:
        targets.append(Target(f"{what}: CPU", "plain C", ratio(ours.cpu_us, sides["plain C"].cpu_us), 0.6))
    return targets


def _tell(title: str, sides: dict[str, Side]) -> None:
    rows = [
        (
            name,
            str(side.cycle),
            f"{median(side.cpu_us):.0f} µs",
            f"{median(one.sleeps for one in side.costs):.1f}",
            f"{side.too_early} of {side.transactions}",
            f"{side.least_silence_us / 1000:.2f} ms",
        )
        for name, side in sides.items()
    ]
    table(title, ("", "cycle / ideal (quartiles)", "CPU", "sleeps", "too early", "least silence"), rows)


def _our_instrument(stack: ExitStack, path: str, baud: int) -> Instrument:
    port = stack.enter_context(open_port(path, baud))
    return Instrument(port, 1, answer_ms=ANSWER_MS)


def _stock_read(stack: ExitStack, path: str, baud: int, timeout_s: float) -> Callable[[], object]:
    port = stack.enter_context(serial.Serial(path, baud, timeout=timeout_s))
    instrument = minimalmodbus.Instrument(port, 1)
    return lambda: instrument.read_registers(0, COUNT)


def _c_side(stack: ExitStack, name: str, program: str, path: str, baud: int) -> dict[str, Side]:
    try:
        return {name: Side(stack.enter_context(Peer(program, path, str(baud))).measure)}
    except MissingError as missing:
        print(missing)
        return {}


def _poll_by_bus(path: str, baud: int, count: int) -> Cost:
    """The agent's own room: scheduler, device, profile, readings, without a pause between polls."""
    device = DeviceConfig("board", 1, load_profile("reference"), (1, 2))
    bus = Bus((LineConfig(path, (device,), baud, poll_ms=0),), lambda _event: None, _fail, Clock())
    begin_s, cpu_s = time.monotonic(), time.process_time()
    bus.start()
    while (transactions := _transactions(bus)) < count:
        time.sleep(0.05)
    bus.stop()
    cpu_s = time.process_time() - cpu_s
    return Cost((time.monotonic() - begin_s) / transactions * 1e6, cpu_s / transactions * 1e6, float("nan"))


def _transactions(bus: Bus) -> int:
    devices = bus.status()[0]["devices"]
    assert isinstance(devices, list)
    return int(devices[0]["transactions"])


def _fail(error: BaseException) -> None:
    raise error


# ---- what does not go well ----


def faults(baud: int) -> list[Target]:
    """The stock client has the same patience: our ``answer_ms`` and the answer's time on the wire."""
    char_s, quiet_s = 10 / baud, 35 / baud if baud <= 19200 else 0.00175
    whole_us = ((REQUEST_BYTES + ANSWER_BYTES) * char_s + quiet_s) * 1e6
    with ExitStack() as stack:
        slave, path = stack.enter_context(slave_at(baud))
        instrument = _our_instrument(stack, path, baud)
        ours = partial(_failing, lambda: instrument.read_array(0, COUNT), BusError)
        stock = partial(_failing, _stock_read(stack, path, baud, ANSWER_MS / 1000 + ANSWER_BYTES * char_s), IOError)
        slave.ask("exception")
        refused: dict[str, list[float]] = {"ours": [], "minimalmodbus": []}
        for _ in range(FAULTS):
            refused["ours"].append(cost(ours, 1).time_us)
            refused["minimalmodbus"].append(cost(stock, 1).time_us)
        slave.ask("half")
        half_us = []
        for _ in range(FAULTS):
            ours()
            half_us.append(instrument.line.last_elapsed_us)
    compare(f"{baud} baud: exception reply, until the error", refused)
    print(
        f"  half a reply: {median(half_us) / 1000:.2f} ms; "
        f"on the wire the whole one would have taken {whole_us / 1000:.2f} ms"
    )
    return [
        Target(
            f"exception reply at {baud} baud",
            "minimalmodbus",
            ratio(refused["minimalmodbus"], refused["ours"]),
            20,
            is_least=True,
        ),
        Target(f"half reply at {baud} baud, beyond wire time", "", (median(half_us) - whole_us) / 1000, 20, "ms"),
    ]


def _failing(call: Callable[[], object], expected: type[Exception] | tuple[type[Exception], ...]) -> None:
    try:
        call()
    except expected:
        return
    raise AssertionError("there was to be an error")

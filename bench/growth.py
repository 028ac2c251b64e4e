"""What a unit of work costs as the work grows: guns, and messages that wait for the broker.

Guns: from the words of the boards' answers to the core's new state, all guns of the pile, idle; 8 guns a board. Waiting
messages: one more behind the others, and each of them out and done, its share of the deletions included. The journal
is in memory where the machine has such a folder, so that our own work shows. (Periods: codec. Records: records.)
"""

import logging
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from agent.pile.board import GunReading
from agent.pile.events import Measured
from agent.power.profile import Values, load_profile
from bench.chart import Plot
from bench.records import CONFIG, NOW_MS, Office
from bench.sample import Target, in_turns, per_call, table

GUNS = (1, 2, 4, 8, 16)
WAITING = (1, 10, 100, 1_000, 10_000)
A_BOARD = 8
ROUNDS = 5
LARGEST_GAP = 30
MEMORY = Path("/dev/shm")
TOPIC, LINE = "klc/reply/qik/0000012345", b"x" * 120


def main() -> list[Target | Plot]:
    logging.disable(logging.INFO)
    try:
        return [*guns(), *waiting()]
    finally:
        logging.disable(logging.NOTSET)


def guns() -> list[Target | Plot]:
    with ExitStack() as stack:
        polls = {count: _poll(stack.enter_context(office(count)), count) for count in GUNS}
        decodes = in_turns({str(count): per_call(decode) for count, (decode, _) in polls.items()})
        believes = in_turns({str(count): per_call(believe) for count, (_, believe) in polls.items()})
    decode_us = [median(taken) for taken in decodes.values()]
    core_us = [median(taken) for taken in believes.values()]
    title = "a poll of every gun: CPU"
    rows = [
        (f"{count}", f"{decoded:.0f} µs", f"{believed:.0f} µs", f"{(decoded + believed) / count:.0f} µs")
        for count, decoded, believed in zip(GUNS, decode_us, core_us, strict=True)
    ]
    table(title, ("guns", "words to readings", "readings into the core", "both, a gun"), rows)
    lines = {
        "words to readings": list(zip(GUNS, decode_us, strict=True)),
        "readings into the core": list(zip(GUNS, core_us, strict=True)),
    }
    first, last = (decode_us[at] + core_us[at] for at in (0, -1))
    got = last / GUNS[-1] / first
    return [
        Target(f"a gun's part of a poll, {GUNS[-1]} guns", "1 gun", got, 1.2),
        Plot("guns", "Guns: a poll's CPU is linear", "guns", "µs a poll", lines),
    ]


def _poll(one: Office, count: int) -> tuple[Callable[[], list[GunReading]], Callable[[], None]]:
    profile = load_profile("reference")
    numbers = range(1, min(count, A_BOARD) + 1)
    boards = -(-count // A_BOARD)
    answers = [(block, array("H", [0]) * block.count) for block in profile.blocks("live", numbers, LARGEST_GAP)]

    def decode() -> list[GunReading]:
        for _ in range(boards):
            values: Values = {}
            for block, words in answers:
                values |= block.decode(words)
            readings = [profile.reading(gun, values, NOW_MS) for gun in numbers]
        return readings

    reading = decode()[0]
    readings = [replace(reading, gun=gun) for gun in range(1, count + 1)]

    def believe() -> None:
        for each in readings:
            one.desk.happened(Measured(each))

    return decode, believe


def waiting() -> list[Target | Plot]:
    add_us: list[float] = []
    drain_us: list[float] = []
    for count in WAITING:
        adds, drains = zip(*(_one_more_and_all_out(count) for _ in range(ROUNDS)), strict=True)
        add_us.append(median(adds))
        drain_us.append(median(drains))
    rows = [
        (f"{count:,}", f"{added:.0f} µs", f"{drained:.1f} µs")
        for count, added, drained in zip(WAITING, add_us, drain_us, strict=True)
    ]
    table("messages that wait for the broker", ("waiting", "one more", "each, out and done"), rows)
    lines = {
        "one more behind them": list(zip(WAITING, add_us, strict=True)),
        "each, out and done": list(zip(WAITING, drain_us, strict=True)),
    }
    return [
        Target(
            f"a message out and done, {WAITING[-1]:,} waiting", f"{WAITING[2]} waiting", drain_us[-1] / drain_us[2], 1.2
        ),
        Plot("outbox", "Outbox: the queue's length costs nothing", "messages waiting", "µs a message", lines),
    ]


def _one_more_and_all_out(count: int) -> tuple[float, float]:
    """Microseconds for one message behind ``count``, and for each of them once the broker is there."""
    with office(1) as one:
        with one.journal.transaction():
            for _ in range(count - 1):
                one.outbox.enqueue(TOPIC, LINE, NOW_MS)
        began_at = time.perf_counter()
        with one.journal.transaction():
            one.outbox.enqueue(TOPIC, LINE, NOW_MS)
        add_us = (time.perf_counter() - began_at) * 1e6
        began_at = time.perf_counter()
        one.outbox.enqueued(count)
        while one.outbox.waiting:
            one.take()
        one.outbox.flush()
        return add_us, (time.perf_counter() - began_at) * 1e6 / count


@contextmanager
def office(guns: int) -> Iterator[Office]:
    folder = MEMORY if MEMORY.is_dir() else None
    with TemporaryDirectory(prefix="pile-agent-bench-", dir=folder) as name:
        one = Office(Path(name), CONFIG.replace("guns = [1]", f"guns = {_board(1, guns)}") + _second_board(guns))
        try:
            yield one
        finally:
            one.journal.close()


def _board(first: int, guns: int) -> list[int]:
    return list(range(first, min(guns, first + A_BOARD - 1) + 1))


def _second_board(guns: int) -> str:
    return f'[[line.device]]\nname = "second"\nunit = 2\nguns = {_board(A_BOARD + 1, guns)}\n' if guns > A_BOARD else ""


if __name__ == "__main__":
    main()

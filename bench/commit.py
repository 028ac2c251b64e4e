"""What it costs to have a command on disk, beside the least that can be done: ``python -m bench.commit [--folder F]``.

A start goes through the real desk, core and journal up to the bus's order; broker and bus are played. In turns with it,
on the same filesystem: its line appended to a file and synced (fdatasync), and the same where the file has its length
already, as SQLite's log has once it came round, so that no length has to be synced. Then all of it on a memory
filesystem, where a sync costs nothing: our own work.
"""

import argparse
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

from agent.clock import Clock
from agent.config import load_config
from agent.desk import Desk
from agent.journal import Journal
from agent.outbox import Outbox
from agent.pile.actions import StartGun
from agent.pile.board import BoardState, GunReading
from agent.pile.durable import restore
from agent.pile.events import Measured
from bench.records import CONFIG, Broker
from bench.sample import Target, ratio
from sim.story import start

COMMANDS = 500
WARM = 300  # before them: SQLite's log has come round, from now on it overwrites itself
LOG_BYTES = 4 << 20
MEMORY = Path("/dev/shm")
TARGET = 1.6
TARIFF = "[charging]\nprice = 100000\nservice_fee = 50000\n"


class Office:
    """The desk with its journal, one gun plugged in and idle."""

    def __init__(self, folder: Path) -> None:
        (folder / "pile.toml").write_text(CONFIG.format(folder=folder) + TARIFF, encoding="utf-8")
        config = load_config(folder / "pile.toml")
        clock = Clock()
        self.ordered_at = 0.0
        self.spent: dict[str, float] = {}
        self.journal = Journal.open(config.journal, clock.now().wall_ms)
        self.broker = cast(Any, Broker())
        state = restore(config.pile, {}, clock.now())
        bus, bridge = cast(Any, self), cast(Any, SimpleNamespace())
        self.desk = Desk(config, state, self.journal, bus, bridge, clock)
        self.outbox = Outbox(self.journal, self.broker, lambda: None)
        self.desk.connect(self.broker, self.outbox)
        plugged = GunReading(1, clock.now().mono_ms, BoardState.PLUGGED, plugged=True, order="", energy_wh=1000)
        self.desk.happened(Measured(plugged))
        self._idle = self.desk.state
        self.journal.transaction = self._timed(self.journal.transaction)  # type: ignore[method-assign]

    def do(self, order: object) -> None:
        """The bus."""
        if isinstance(order, StartGun):
            self.ordered_at = time.perf_counter()

    def start(self, line: bytes) -> dict[str, float]:
        """Seconds from the line's arrival to the order, and of these in the transaction and in its COMMIT."""
        self.spent.clear()
        self.ordered_at = 0.0
        began_at = time.perf_counter()
        assert self.desk.message_came(line)
        assert self.ordered_at, "the start was refused"
        times = {"all": self.ordered_at - began_at} | self.spent
        self.desk.state = self.desk._stored = self._idle
        for row_id in list(self.broker.rows):
            self.broker.rows.remove(row_id)
            self.outbox.delivered(row_id)
        return times

    def _timed(self, transaction: Callable[[], AbstractContextManager[None]]) -> Any:
        @contextmanager
        def timed() -> Iterator[None]:
            began_at = time.perf_counter()
            with transaction():
                yield
                written_at = time.perf_counter()
            self.spent["commit"] = time.perf_counter() - written_at
            self.spent["transaction"] = time.perf_counter() - began_at

        return timed


def main(folder: Path | None = None) -> list[Target]:
    logging.disable(logging.INFO)
    target = measure("on disk", folder)
    if MEMORY.is_dir():
        measure("in memory", MEMORY)
    return [target]


def measure(where: str, parent: Path | None) -> Target:
    with TemporaryDirectory(dir=parent) as folder:
        office = Office(Path(folder))
        lines = [line_of(office, number) for number in range(WARM + COMMANDS)]
        rows = []
        with appending(Path(folder) / "log") as append, appending(Path(folder) / "long", LOG_BYTES) as overwrite:
            for line in lines:
                times = office.start(line)
                for name, write in (("append", append), ("overwrite", overwrite)):
                    began_at = time.perf_counter()
                    write(line)
                    times[name] = time.perf_counter() - began_at
                rows.append(times)
        office.journal.close()
    columns = {name: [row[name] * 1e6 for row in rows[WARM:]] for name in rows[0]}
    print(f"\na start's command, {where}: us, median (quartiles) of {COMMANDS}")
    print_row("arrival to the bus's order", columns["all"])
    print_row("  of that, the transaction", columns["transaction"])
    print_row("    of that, its COMMIT", columns["commit"])
    for name in ("append", "overwrite"):
        print_row(f"{name} and fdatasync of its line", columns[name])
    for name in ("append", "overwrite"):
        print(f"  {'transaction : ' + name:<40} {ratio(columns['transaction'], columns[name])}")
    got = ratio(columns["transaction"], columns["append"])
    return Target("durable commit of a command", "bare fdatasync append", got, TARGET)


def line_of(office: Office, number: int) -> bytes:
    stamp = time.time_ns() // 1_000_000 + number
    return office.desk._codec.encode("10.0.0.1", "API:2.0.2", 101, stamp, "0000012345", start(1, f"A{number}"))


@contextmanager
def appending(path: Path, length: int = 0) -> Iterator[Callable[[bytes], None]]:
    path.write_bytes(bytes(length))
    fd = os.open(path, os.O_WRONLY)
    os.fsync(fd)

    def append(line: bytes) -> None:
        os.write(fd, line)
        os.fdatasync(fd)

    yield append
    os.close(fd)


def print_row(name: str, values: list[float]) -> None:
    low, _, high = quantiles(values)
    print(f"  {name:<40} {median(values):8.2f} ({low:.2f}..{high:.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write, to measure its disk (a temporary one)")
    for target in main(parser.parse_args().folder):
        print("  ".join(target.cells))

"""A 104 over 1,000 to a million stored records: how soon the first one leaves, in what memory.

Journals of events are built in a temporary folder, on whatever filesystem that is. The query goes through the real
desk, journal, outbox and replay; only the broker is played: it takes every message at once.
"""

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

from agent.clock import Clock
from agent.config import load_config
from agent.desk import Desk
from agent.journal import Journal, Retention, Wanted
from agent.outbox import Outbox
from agent.pile.durable import restore
from agent.pile.events import Delivered
from agent.pile.state import Now
from agent.replay import BATCH, Replayer
from bench.chart import Plot
from bench.sample import Target, table

SIZES = (1_000, 10_000, 100_000, 1_000_000)
WRITES = 100
PROCESS, EVENT = 2, 3
QUERIES = 20
NOW_MS = 1_795_305_600_000
CONFIG = """
[pile]
number = "0000012345"
data_dir = "{folder}"
socket = "{folder}/control.sock"
[broker]
host = "127.0.0.1"
[[line]]
port = "{folder}/tty"
[[line.device]]
guns = [1]
"""


class Broker:
    """The link to a broker that takes every message at once."""

    room = 20
    state = SimpleNamespace(window=1)

    def __init__(self) -> None:
        self.rows: list[int] = []

    def publish(self, row_id: int, _topic: str, _payload: bytes) -> bool:
        self.rows.append(row_id)
        return True


class Office:
    """The agent's rooms between the broker and the journal."""

    def __init__(self, folder: Path, config_text: str = CONFIG) -> None:
        (folder / "pile.toml").write_text(config_text.format(folder=folder), encoding="utf-8")
        config = load_config(folder / "pile.toml")
        self.journal = Journal.open(config.journal, NOW_MS)
        self.broker = cast(Any, Broker())
        nobody: Any = SimpleNamespace()
        self.desk = Desk(
            config,
            restore(config.pile, {}, Now(NOW_MS, 0)),
            self.journal,
            nobody,
            nobody,
            Clock(),
        )
        self.outbox = Outbox(self.journal, self.broker, partial(self.desk.happened, Delivered()))
        self.desk.connect(self.broker, self.outbox)
        self.replayer = Replayer(self.desk, self.journal, self.broker, self.outbox, config.replay_per_s)

    def query(self, timestamp: int) -> float:
        """Milliseconds from a 104's arrival to its first record's leaving; the broker has the summary in between."""
        began_at = time.perf_counter()
        self.desk.message_came(f"10.0.0.1,API:2.0.2,104,{timestamp},0000012345,{EVENT}".encode())
        while not any(row_id < 0 for row_id in self.broker.rows):
            self.take()
            self.replayer.pump(time.monotonic())
        took = time.perf_counter() - began_at
        self.take()
        time.sleep(0.06)  # the replay's own pace
        return took * 1000

    def take(self) -> None:
        rows, self.broker.rows = self.broker.rows, []
        for row_id in rows:
            (self.outbox if row_id > 0 else self.replayer).delivered(row_id)


def main() -> list[Target | Plot]:
    logging.disable(logging.INFO)
    curve: list[tuple[float, float, float]] = []
    for count in SIZES:
        with TemporaryDirectory(prefix="pile-agent-bench-") as name:
            folder = Path(name)
            build(folder / "journal.db", count)
            began_at = time.perf_counter()
            office = Office(folder)
            opened_s = time.perf_counter() - began_at
            query_ms = statistics.median([office.query(NOW_MS + number) for number in range(QUERIES)])
            curve.append((count, query_ms * 1000, write_us(office.journal)))
            if count == SIZES[-1]:
                show(office, opened_s, folder)
            office.journal.close()
    logging.disable(logging.NOTSET)
    table(
        "by the number of records stored",
        ("records", "104 to its first record", "an event and its message"),
        [(f"{count:,}", f"{query_us:,.0f} µs", f"{each_us:,.0f} µs") for count, query_us, each_us in curve],
    )
    lines = {
        "104 to its first record": [(count, query_us) for count, query_us, _ in curve],
        "an event and its message, durable": [(count, each_us) for count, _, each_us in curve],
    }
    title = "Records: what was stored before costs nothing"
    plot = Plot("records", title, "records stored", "µs", lines)
    (fewest, first_us, _), *_, (most, last_us, _) = curve
    return [Target(f"104 to its first record, of {most:,} records", f"of {fewest:,}", last_us / first_us, 1.5), plot]


def show(office: "Office", opened_s: float, folder: Path) -> None:
    size_mb = (folder / "journal.db").stat().st_size / 1e6
    print(f"{SIZES[-1]:,} records: {size_mb:.0f} MB, {size_mb * 1e6 / SIZES[-1]:.0f} bytes a record")
    print(f"opening the journal, checked whole: {opened_s:.2f} s")
    show_memory(office.journal)
    show_searches(office.journal)
    show_writes(office.journal, folder / "journal.db-wal")


def build(path: Path, count: int) -> None:
    """So many events, and between them a tenth as many measurements, which nobody asks for."""
    journal = Journal.open(path, NOW_MS)
    connection = journal._database.connection
    insert = "INSERT INTO records (type, sequence, at_ms, gun, order_number, body) VALUES (?, ?, ?, ?, ?, ?)"
    counts = "INSERT INTO record_counts (type, stored, last) VALUES (?, ?, ?)"
    with journal.transaction():
        connection.executemany(insert, rows(count))
        connection.executemany(counts, [(PROCESS, count // 10, count // 10), (EVENT, count, count)])
    journal.close()


def rows(count: int) -> Iterator[tuple[object, ...]]:
    for number in range(1, count + 1):
        order = f"20261122{number // 60:06}"
        yield EVENT, number, NOW_MS + number * 1000, number % 2 + 1, None, f"4,gun 1; order {order}: current flows"
        if number % 10 == 0:
            yield PROCESS, number // 10, NOW_MS + number * 1000, 1, order, "4012,318,12758,55,212,31,285"


def show_memory(journal: Journal) -> None:
    """Every record read as the replay does; the process's size at the begin and at its largest."""
    before_kb = most_kb = resident_kb()
    began_at = time.perf_counter()
    read = reached = 0
    while records := journal.records.after(EVENT, reached, BATCH):
        read, reached = read + len(records), records[-1].sequence
        if read % 50_000 == 0:
            most_kb = max(most_kb, resident_kb())
    print(
        f"all {read:,} read in batches of {BATCH}: {time.perf_counter() - began_at:.1f} s, "
        f"memory {before_kb / 1024:.1f} MB before, {most_kb / 1024:.1f} MB at most"
    )


def show_searches(journal: Journal) -> None:
    searches: dict[str, Callable[[], object]] = {
        "how many there are": lambda: journal.records.extent(EVENT),
        "the newest 100 of all types": lambda: list(journal.records.find(Wanted(), 100)),
        "the newest 100 events": lambda: list(journal.records.find(Wanted(type=EVENT), 100)),
        "everything of one order": lambda: list(journal.records.find(Wanted(order="20261122008000"), 100)),
    }
    for what, search in searches.items():
        began_at = time.perf_counter()
        search()
        print(f"{what}: {(time.perf_counter() - began_at) * 1000:.2f} ms")


def show_writes(journal: Journal, wal: Path) -> None:
    """How much one record and its message write, and one step of pruning."""
    journal._database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    write_us(journal)
    print(f"an event and its message: {wal.stat().st_size / WRITES / 1024:.1f} KiB of WAL each")
    for kept in (SIZES[-1] - 1000, SIZES[-1] - 2000):
        began_at = time.perf_counter()
        with journal.transaction():
            gone = journal.records.prune(EVENT, Retention(kept, 36_500), NOW_MS)
        print(f"one step of pruning, {gone} records: {(time.perf_counter() - began_at) * 1000:.1f} ms")


def write_us(journal: Journal) -> float:
    """An event and its message in a transaction, the median."""
    times = []
    for _ in range(WRITES):
        began_at = time.perf_counter()
        with journal.transaction():
            journal.records.add(EVENT, NOW_MS, 1, "", "4,gun 1; order 20261122000001: current flows")
            journal.enqueue("klc/reply/qik/0000012345", b"x" * 120, NOW_MS)
        times.append((time.perf_counter() - began_at) * 1e6)
    return statistics.median(times)


def resident_kb() -> int:
    """The process's resident memory."""
    with open("/proc/self/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmRSS:")).split()[1])


if __name__ == "__main__":
    main()

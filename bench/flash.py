"""What the agent writes to its flash in an hour, idle and charging: ``python -m bench.flash [--minutes 4]``.

The real agent at its default settings in a simulated site, watched for some minutes with no gun, one and two guns
charging, and scaled to an hour. Bytes are what the kernel counts for the process: whole pages of 4 KiB given to the
disk. Commits and pages are read from the journal's WAL: each commit is one fdatasync, each page one that it changed.
The WAL is first brought to its full size, as it is in an agent that has run for some hours: a growing file costs more.
What the file system writes for itself is not in it.
"""

import argparse
import sqlite3
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.protocol.results import Result
from sim.site import CHARGING, Site
from sim.story import start

SETTLE_S = 5.0
PREPAID_FEN = 1_000_000  # never reached
MOST_MINUTES = 20  # or SQLite would begin the WAL anew, and what is counted with it
WAL_HEADER, FRAME_HEADER, PAGE = 32, 24, 4096
WAL_PAGES = 1000  # SQLite folds the WAL into the database when it is so long
HOURS_A_DAY = 6


@dataclass(frozen=True)
class Written:
    """What was written in ``seconds``. ``pages``: how often each page of the database, by table."""

    seconds: float
    on_disk: int
    commits: int
    pages: Counter[str]
    different: int

    def hourly(self, amount: float) -> float:
        return amount * 3600 / self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=int, choices=range(1, MOST_MINUTES + 1), default=4, metavar="N",
        help=f"watch for so long each, 1 to {MOST_MINUTES} (%(default)s)",
    )  # fmt: skip
    minutes = parser.parse_args().minutes
    results = {}
    for name, guns in (("idle", 0), ("1 gun charging", 1), ("2 guns charging", 2)):
        print(f"{name}: {minutes} min …", flush=True)
        results[name] = measured(guns, minutes * 60.0)
    show(results)


def measured(guns: int, seconds: float) -> Written:
    """An agent of its own, with so many guns charging."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Site(Path(folder), settings={"line": "", "charging": CHARGING}) as site,
    ):
        site.start_agent()
        site.wait_reply(100, Result.OK)
        _grow(site)
        for gun in range(1, guns + 1):
            site.board({"do": "plug", "gun": gun})
            time.sleep(2.5)  # two polls, so that the agent knows of the plug
            site.publish(site.command(101, start(gun, f"2026112200000{gun}", PREPAID_FEN)))
            site.wait_reply(101, Result.OK)
        time.sleep(SETTLE_S)
        return _watched(site, seconds)


def _grow(site: Site) -> None:
    """Have the agent answer until its WAL is as long as it gets, and is begun anew."""
    wal = site.folder / "data" / "journal.db-wal"
    while wal.stat().st_size < WAL_PAGES * (FRAME_HEADER + PAGE) or len(list(_frames(wal))) > WAL_PAGES // 2:
        line = site.command(103, (1,), time.time_ns())
        site.publish(line)
        site.wait_reply(103, Result.OK)


def _watched(site: Site, seconds: float) -> Written:
    wal = site.folder / "data" / "journal.db-wal"
    began_at, bytes_before, frames_before = time.monotonic(), _bytes_written(site.agent_pid), len(list(_frames(wal)))
    while (left_s := began_at + seconds - time.monotonic()) > 0:
        site.next(left_s)  # nothing piles up in the queue
    took_s, written = time.monotonic() - began_at, _bytes_written(site.agent_pid) - bytes_before
    frames = list(_frames(wal))[frames_before:]
    owners = _owners(site.folder / "data" / "journal.db")
    pages = Counter(owners.get(page, "free") for page, _ in frames)
    return Written(took_s, written, sum(ends for _, ends in frames), pages, len({page for page, _ in frames}))


def _bytes_written(pid: int) -> int:
    """What the process had the disk write."""
    rows = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines())
    return int(rows["write_bytes"])


def _frames(wal: Path) -> Iterator[tuple[int, bool]]:
    """Page number of each frame, and whether it ends a commit (SQLite's file format, 4.1)."""
    data = wal.read_bytes()
    salts = data[16:24]
    for at in range(WAL_HEADER, len(data), FRAME_HEADER + PAGE):
        if data[at + 8 : at + 16] != salts:
            return
        page, size_after_commit = struct.unpack_from(">II", data, at)
        yield page, size_after_commit > 0


def _owners(path: Path) -> dict[int, str]:
    """The table or index that each page of the database belongs to."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT pageno, name FROM dbstat"))


def show(results: dict[str, Written]) -> None:
    print(f"\n{'an hour':<16} {'written':>8} {'fdatasync':>10} {'pages':>6}   of which, by table")
    for name, one in results.items():
        tables = ", ".join(f"{table} {one.hourly(number):.0f}" for table, number in one.pages.most_common())
        print(
            f"{name:<16} {one.hourly(one.on_disk) / 1e6:>5.2f} MB {one.hourly(one.commits):>10.0f} "
            f"{one.hourly(one.pages.total()):>6.0f}   {tables}"
        )
    print(f"\nFolding the WAL into the database, every {WAL_PAGES} pages, writes each different page once more:")
    for name, one in results.items():
        print(f"  {name}: {one.different} of {one.pages.total()} were different")
    print(f"A year of {HOURS_A_DAY} charging hours a day:")
    for name, one in results.items():
        print(f"  {name}: {one.hourly(one.on_disk) * HOURS_A_DAY * 365 / 1e9:.1f} GB")


if __name__ == "__main__":
    main()

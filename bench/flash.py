"""What the agent writes to its flash in an hour, idle and charging: ``python -m bench.flash [--minutes 4]``.

The real agent at its default settings in a simulated site, watched for some minutes with no gun, one and two guns
charging, and scaled to an hour. Bytes are what the kernel counts for the process (whole pages of 4 KiB given to the
disk); commits and pages are read from the journal's WAL: each commit is one fdatasync, each page one that it changed.
What the file system adds for itself is not in it.
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
MOST_MINUTES = 20  # or SQLite would begin the WAL anew, and what it counts with it
WAL_HEADER, FRAME_HEADER, PAGE = 32, 24, 4096
HOURS_A_DAY = 6


@dataclass(frozen=True)
class Written:
    """What was written in ``seconds``. ``pages``: how often each page of the database, by table."""

    seconds: float
    on_disk: int
    commits: int
    pages: Counter[str]
    folded: int  # pages that SQLite writes a second time when it folds the WAL into the database

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
        for gun in range(1, guns + 1):
            site.board({"do": "plug", "gun": gun})
            time.sleep(2.5)  # two polls, so that the agent knows of the plug
            site.publish(site.command(101, start(gun, f"2026112200000{gun}", PREPAID_FEN)))
            site.wait_reply(101, Result.OK)
        time.sleep(SETTLE_S)
        return _watched(site, seconds)


def _watched(site: Site, seconds: float) -> Written:
    wal = site.folder / "data" / "journal.db-wal"
    began_at, bytes_before, frames_before = time.monotonic(), _bytes_written(site.agent_pid), len(list(_frames(wal)))
    while (left_s := began_at + seconds - time.monotonic()) > 0:
        site.next(left_s)  # nothing piles up in the queue
    took_s, written = time.monotonic() - began_at, _bytes_written(site.agent_pid) - bytes_before
    frames = list(_frames(wal))[frames_before:]
    owners = _owners(site.folder / "data" / "journal.db")
    pages = Counter(owners.get(page, "free") for page, _ in frames)
    return Written(took_s, written, sum(is_last for _, is_last in frames), pages, len({page for page, _ in frames}))


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
    print(f"\n{'scaled to an hour':<18} {'on disk':>10} {'commits':>8} {'pages':>7}   and when the WAL is folded in")
    for name, one in results.items():
        folded = f"{one.hourly(one.folded * PAGE) / 1e6:.2f} MB at most"
        print(
            f"{name:<18} {one.hourly(one.on_disk) / 1e6:>7.2f} MB {one.hourly(one.commits):>8.0f} "
            f"{one.hourly(one.pages.total()):>7.0f}   {folded}"
        )
    one_gun = results["1 gun charging"]
    print("\npages an hour of one gun, by table: " + ", ".join(
        f"{table} {one_gun.hourly(number):.0f}" for table, number in one_gun.pages.most_common()
    ))  # fmt: skip
    yearly = {
        name: one.hourly(one.on_disk) * HOURS_A_DAY * 365 / 1e9 for name, one in results.items() if name != "idle"
    }
    words = ", ".join(f"{name} {gigabytes:.1f} GB" for name, gigabytes in yearly.items())
    print(f"a year of {HOURS_A_DAY} hours a day: {words}")


if __name__ == "__main__":
    main()

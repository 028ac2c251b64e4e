"""What an agent costs that has nothing to do, and whether it grows with work: ``python -m bench.idle``.

Idle: two guns measured once a second at 9600 baud, nobody plugged in; CPU and wake-ups of each thread, as the kernel
counts them. Work: an hour's polls and a night's charges in some minutes, the memory after each of some slices of it.
"""

import argparse
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from agent.protocol.commands import Empty, QueryRecords
from agent.protocol.results import RecordType, Result
from bench.process import Thread, byte_code_kept, machine, memory_mib, threads
from bench.sample import Target
from sim.site import Site
from sim.story import start, stop

SETTLE_S = 3.0
POLLS_AN_HOUR = 3600
MOST_CPU_PERCENT = 1.0
SLICES = 6


@dataclass(frozen=True)
class Spent:
    """Of a thread, per second."""

    wakeups: float
    preempted: float
    cpu_share: float


def main() -> list[Target]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle-s", type=float, default=30.0, metavar="S", help="watched for so long (%(default)s)")
    parser.add_argument(
        "--polls", type=int, default=POLLS_AN_HOUR, metavar="N", help="of the work; 0: none (%(default)s)"
    )
    options = parser.parse_args()
    print(machine())
    with byte_code_kept():
        share = idle(options.idle_s)
        if options.polls:
            work(options.polls)
    return [Target("CPU of an idle agent, 2 guns, 9600 baud", "one core", share * 100, MOST_CPU_PERCENT, "%")]


def idle(watched_s: float) -> float:
    """The share of a core that it takes."""
    with TemporaryDirectory() as folder, Site(Path(folder), settings={"line": "poll_ms = 1000"}) as site:
        _start(site)
        before, began_at = threads(site.agent_pid), time.monotonic()
        time.sleep(watched_s)
        after, took_s = threads(site.agent_pid), time.monotonic() - began_at
    rows = {id_: _spent(before[id_], after[id_], took_s) for id_ in after}
    print(f"\nidle, 2 guns at 9600 baud, a poll a second, over {watched_s:g} s:")
    for name, row in zip(("main: a tick, the readings", "the line: a poll"), rows.values(), strict=True):
        print(f"  {name:<28} {row.wakeups:5.2f} wake-ups/s, {row.preempted:5.2f} preempted/s, {row.cpu_share:6.2%} CPU")
    print(f"  {'all':<28} {sum(row.wakeups for row in rows.values()):5.2f} wake-ups/s, {'':22}", end="")
    share = sum(row.cpu_share for row in rows.values())
    print(f"{share:6.2%} CPU")
    return share


def work(polls: int) -> None:
    """Charge after charge on both guns, 20 polls a second, and what a platform asks in between."""
    settings = {"line": "poll_ms = 50"}
    with TemporaryDirectory() as folder, Site(Path(folder), baud=115200, speedup=20.0, settings=settings) as site:
        _start(site)
        print(f"\nwork, {polls} polls of 2 guns, charges and questions:")
        _print_memory(site, 0, 0)
        began_at, orders = time.monotonic(), count(1)
        for slice_ in range(1, SLICES + 1):
            charges = 0
            while time.monotonic() - began_at < polls * 0.05 * slice_ / SLICES:
                _charge(site, f"R{next(orders)}")
                charges += 1
            _print_memory(site, int((time.monotonic() - began_at) / 0.05), charges)


def _charge(site: Site, order: str) -> None:
    while site.next(0.0) is not None:
        pass  # of the charge before, whose OK must not be taken for this one's
    site.board({"do": "plug", "gun": 1})
    time.sleep(0.2)  # some polls, so that the agent knows of the plug
    site.publish(site.command(101, start(1, order)))
    site.wait_reply(101, Result.OK)
    for number, question in ((112, Empty()), (104, QueryRecords(RecordType.EVENT)), (105, Empty())):
        site.publish(site.command(number, question))
    time.sleep(0.5)
    site.publish(site.command(101, stop(1, order)))
    site.wait_for(lambda one: one.kind == "board" and "contactor opened" in one.what)
    site.board({"do": "unplug", "gun": 1})
    time.sleep(0.2)


def _start(site: Site) -> None:
    site.start_agent()
    site.wait_for(lambda one: one.kind == "log" and "connected to" in one.what)
    time.sleep(SETTLE_S)


def _spent(before: Thread, after: Thread, took_s: float) -> Spent:
    return Spent(
        (after.wakeups - before.wakeups) / took_s,
        (after.preempted - before.preempted) / took_s,
        (after.cpu_ns - before.cpu_ns) / 1e9 / took_s,
    )


def _print_memory(site: Site, polls: int, charges: int) -> None:
    sizes = ", ".join(f"{name} {size:.1f}" for name, size in memory_mib(site.agent_pid).items())
    print(f"  after {polls:>5} polls, {charges:>3} charges more: {sizes} MiB", flush=True)


if __name__ == "__main__":
    main()

"""Upgrades killed at random instants of every stage: ``python -m bench.updates [--kills 32] [--seed 1]``.

Real agents, launcher, installer, broker and FTP server, and a simulated power board. Killed are the agent with its
download process, the installer (which is run again, as its path unit does), or the whole pile: both of them and the
board at once. Afterwards the new version must run, whole, be named by 112 and 111, the 114 have exactly one final
reply, and the login be gone from the disk. The table has the stage that the killed agent's journal said.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from sim.maker import Maker
from sim.site import Site
from sim.upgrades import Outcome, Trial, plan

SETTINGS = {"line": "poll_ms = 100"}
HEAD = "upgrade of   killed                    ms after            journal said  ran     runs      over in"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="draws the instants (%(default)s)")
    parser.add_argument("--kills", type=int, default=32, help="how many; 32 are each stage with each victim once")
    options = parser.parse_args()
    began_at = time.monotonic()
    outcomes = []
    print(f"seed {options.seed}\n{HEAD}")
    for outcome in _outcomes(options.seed, options.kills):
        outcomes.append(outcome)
        print(_row(outcome), flush=True)
    _sum_up(outcomes, time.monotonic() - began_at)


def _outcomes(seed: int, kills: int) -> Iterator[Outcome]:
    maker = Maker()
    with (
        tempfile.TemporaryDirectory() as folder,
        Site(Path(folder), baud=115_200, speedup=2, settings=SETTINGS, maker=maker) as site,
    ):
        site.start_agent()
        for number, kill in enumerate(plan(seed, kills)):
            yield Trial(site, maker, number, kill).run()


def _row(one: Outcome) -> str:
    kill = one.kill
    whom = f"{kill.victim}{' while it installs' if one.was_installing else ''}"
    begin = f"{kill.offset_ms:>4} {'installer' if kill.victim == 'installer' else kill.stage}"
    wrong = f"  WRONG: {'; '.join(one.wrong)}" if one.wrong else ""
    return (
        f"{kill.kind:<12} {whom:<25} {begin:<19} {one.stage:<13} {one.before:<7} {one.after:<7} "
        f"{one.seconds:>6.1f} s{wrong}"
    )


def _sum_up(outcomes: list[Outcome], took_s: float) -> None:
    by_stage = ", ".join(f"{stage} {number}" for stage, number in Counter(one.stage for one in outcomes).items())
    print(
        f"\n{len(outcomes)} kills; the new version runs, whole and told, after {sum(not one.wrong for one in outcomes)}"
        f"\nkilled while the journal said: {by_stage}"
        f"\ninstallers killed at work: {sum(one.was_installing for one in outcomes)}"
        f"\nover after the kill: median {median(one.seconds for one in outcomes):.1f} s, "
        f"longest {max(one.seconds for one in outcomes):.1f} s; took {took_s:.0f} s"
    )


if __name__ == "__main__":
    main()

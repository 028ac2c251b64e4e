"""A charge whose agent is killed at 20 random instants, and its bill: ``python -m bench.recovery [--seed 1]``.

Real agents in a simulated site: 115200 baud, ten polls a second, guns that live twice as fast (24 kW, half the
handshake). The price doubles within a charge that is long enough. Half of the kills take the power board's power too:
it forgets the order, its meter keeps. The next agent starts at once. Each order must have one bill, which adds up (as
``pile-agent bill`` says) and has every Wh that the board's own meter has counted.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from agent.protocol.commands import STOP_REASONS
from sim.recovery import Outcome, Trial, plan
from sim.site import Site

SETTINGS = {"line": "poll_ms = 100"}
HEAD = """\
seed {seed:<23} power charge                 bill:
killed                       off   was        and then    ended by   bills parts   billed  metered  ready in"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="draws the instants (%(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="how many (%(default)s)")
    options = parser.parse_args()
    began_at = time.monotonic()
    outcomes = []
    print(HEAD.format(seed=options.seed))
    for outcome in _outcomes(options.seed, options.kills):
        outcomes.append(outcome)
        print(_row(outcome), flush=True)
    _sum_up(outcomes, time.monotonic() - began_at)


def _outcomes(seed: int, kills: int) -> Iterator[Outcome]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Site(Path(folder), baud=115_200, speedup=2, settings=SETTINGS) as site,
    ):
        site.start_agent()
        for number, kill in enumerate(plan(seed, kills)):
            yield Trial(site, f"K{number}", kill).run()


def _row(one: Outcome) -> str:
    kill, bill = one.kill, one.bills[0]
    killed = f"{kill.moment} {kill.offset_ms:+} ms"
    off = "pile" if kill.with_power else "agent"
    return (
        f"{killed:<28} {off:<5} {one.phase or 'over':<10} {_then(one):<11} {STOP_REASONS[bill.stop_reason]:<10} "
        f"{len(one.bills):>5} {len(bill.segments):>5} {bill.energy_wh:>5} Wh {one.metered_wh:>5} Wh "
        f"{one.recovered_ms:>6.0f} ms{'  WRONG: ' + ', '.join(one.wrong) if one.wrong else ''}"
    )


def _then(one: Outcome) -> str:
    if one.starts > 1:
        return "began again"
    return "went on" if one.has_resumed else "closed"


def _sum_up(outcomes: list[Outcome], took_s: float) -> None:
    then = ", ".join(f"{what} {number}" for what, number in Counter(map(_then, outcomes)).items())
    unbilled_wh, metered_wh = sum(one.unbilled_wh for one in outcomes), sum(one.metered_wh for one in outcomes)
    print(
        f"\n{len(outcomes)} kills, one right bill after {sum(not one.wrong for one in outcomes)}; {then}\n"
        f"not billed: {unbilled_wh} of {metered_wh} Wh\n"
        f"ready, that is connected and the board measured, after the kill:\n"
        f"  of the agent alone {_spread(outcomes, with_power=False)}\n"
        f"  of the pile {_spread(outcomes, with_power=True)}; its board is away for 750 ms\n"
        f"took {took_s:.0f} s"
    )


def _spread(outcomes: list[Outcome], with_power: bool) -> str:
    times_ms = [one.recovered_ms for one in outcomes if one.kill.with_power is with_power]
    return f"median {median(times_ms):.0f} ms, longest {max(times_ms):.0f} ms" if times_ms else "never"


if __name__ == "__main__":
    main()

"""A fleet on RabbitMQ as it is shipped, through the router: ``python -m bench.fleet [--piles 500,5000] [--tls]``.

Thousands of light piles (real MQTT, one process), three real agents, two routers, the platform. One phase after
another: all log in at once; a price change (110) to all at a steady rate, and all at once; a start (101) for all at
once; twice as many price changes while the working router is killed twice; the broker killed, and a price change when
it is back; and a few commands in mode "shared". Latencies run from the platform's publish to the pile's socket, CPU
times are of a command. Everything shares the cores of this machine. What has not come, or not been answered, within two
minutes is counted as lost, or unanswered.
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.process import memory_mib
from sim.fleet_site import FleetSite
from sim.fleet_trial import Outcome, Trial, Uplink, percentile

AGENTS = 3
SHARED_COMMANDS = 10
HEAD = (
    f"{'':<34}{'commands':>9}{'in s':>7}{'per s':>7}{'p50 ms':>9}{'p99 ms':>9}{'broker ms':>11}{'router ms':>11}"
    f"{'fleet ms':>10}{'lost':>6}{'unanswered':>12}{'repeated':>10}{'out of order':>14}{'astray':>8}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--piles", default="500,1000,2000,5000", help="sizes of the fleet (%(default)s)")
    parser.add_argument("--rate", type=float, default=200, help="of the steady phase, a second (%(default)s)")
    parser.add_argument("--spread", type=float, default=0, help="of the first dials, in seconds (%(default)s)")
    parser.add_argument("--cluster", action="store_true", help="three nodes, quorum queues; without mode shared")
    parser.add_argument("--login-only", action="store_true", help="nothing but the first login of all")
    parser.add_argument("--tls", action="store_true", help="the light piles log in by certificate, over TLS")
    options = parser.parse_args()
    for count in map(int, options.piles.split(",")):
        kind = f"{', TLS' if options.tls else ''}{', three nodes' if options.cluster else ''}"
        print(f"\n== {count} piles{kind} and {AGENTS} agents", flush=True)
        with (
            tempfile.TemporaryDirectory() as folder,
            FleetSite(Path(folder), count, AGENTS, options.tls, options.cluster) as site,
        ):
            _measure(site, options)


def _measure(site: FleetSite, options: argparse.Namespace) -> None:
    _register(site)
    site.start_routers()
    site.start_agents()
    trial = Trial(site)
    _log_in(site, trial, options.spread)
    if not options.login_only:
        rows = [_row(outcome) for outcome in _phases(site, trial, options)]
        print("\n".join([HEAD, *rows]), flush=True)


def _register(site: FleetSite) -> None:
    empty_mib, began_at = _broker_mib(site), time.monotonic()
    site.register()
    took_s, piles = time.monotonic() - began_at, len(site.piles)
    kib = (_broker_mib(site) - empty_mib) / piles * 1024
    print(f"registered {piles} in {took_s:.1f} s, {took_s / piles * 1000:.1f} ms each; broker {kib:.0f} KiB each")
    site.certify()


def _log_in(site: FleetSite, trial: Trial, spread_s: float) -> None:
    piles, log = len(site.light), site.fleet.log
    before_mib, before_s = _broker_mib(site), site.cpu_s()["broker"]
    waits_s = trial.log_in(spread_s)
    used_ms = (site.cpu_s()["broker"] - before_s) / piles * 1000
    kib = (_broker_mib(site) - before_mib) / piles * 1024
    fleet_mib, router_mib = _rss_mib(os.getpid()), _rss_mib(site.routers[0].pid)
    print(
        f"all log in, first dials within {spread_s:g} s: half are ready after {percentile(waits_s, 50):.1f} s, "
        f"all after {max(waits_s):.1f} s; broker {used_ms:.1f} ms CPU each; "
        f"{log.dials} dials, {log.timeouts} timeouts, {log.refusals} refused\n"
        f"memory of a connected pile: broker {kib:.0f} KiB, fleet {fleet_mib / piles * 1024:.0f} KiB; "
        f"broker {_broker_mib(site):.0f} MiB, fleet {fleet_mib:.0f} MiB, router {router_mib:.0f} MiB",
        flush=True,
    )


def _phases(site: FleetSite, trial: Trial, options: argparse.Namespace) -> Iterator[Outcome]:
    yield trial.prices(f"price change, {options.rate:g} a second", per_s=options.rate)
    yield trial.prices("price change, all at once")
    yield trial.starts("start storm")
    _say_uplink(trial.heartbeats(rounds=4))
    yield trial.routers_killed("router killed twice")
    back, outcome = trial.broker_killed("broker killed, piles come back")
    log = site.fleet.log
    print(
        f"broker killed: it listens after {back.up_s:.1f} s; half of the piles are ready after "
        f"{percentile(back.ready_s, 50):.1f} s, all after {max(back.ready_s):.1f} s; {log.dials} dials, "
        f"{log.timeouts} timeouts\n{histogram(back.ready_s)}",
        flush=True,
    )
    yield outcome
    if not options.cluster:
        yield trial.shared("mode shared, all at once", SHARED_COMMANDS)


def _say_uplink(up: Uplink) -> None:
    cpu = ", ".join(f"{who} {value / up.reports * 1000:.2f} ms" for who, value in up.cpu_s.items())
    print(f"heartbeats: {up.reports} in {up.lasted_s:.1f} s, {up.reports / up.lasted_s:.0f} per s; CPU each: {cpu}")


def _row(one: Outcome) -> str:
    cpu_ms = {who: value / one.commands * 1000 for who, value in one.cpu_s.items()}
    row = (
        f"{one.name:<34}{one.commands:>9}{one.lasted_s:>7.1f}{one.commands / one.lasted_s:>7.0f}"
        f"{percentile(one.latencies_ms, 50):>9.0f}{percentile(one.latencies_ms, 99):>9.0f}"
        f"{cpu_ms['broker']:>11.2f}{cpu_ms['router']:>11.2f}{cpu_ms['fleet']:>10.2f}"
        f"{one.lost:>6}{one.unanswered:>12}{one.repeated:>10}{one.out_of_order:>14}{one.astray:>8}"
    )
    print(f"{HEAD}\n{row}", flush=True)  # the whole table takes minutes
    return row


def _broker_mib(site: FleetSite) -> float:
    return sum(_rss_mib(node.pid) for node in site.nodes)


def _rss_mib(pid: int) -> float:
    return memory_mib(pid)["VmRSS"]


def histogram(seconds: Sequence[float], width: int = 50, columns: int = 20) -> str:
    """A line for each interval of whole seconds, with a bar."""
    step = max(1, -int(-max(seconds) // columns))
    counts = Counter(int(value // step) * step for value in seconds)
    most = max(counts.values())
    return "\n".join(
        f"{begin:>5} s {counts[begin]:>6} {'#' * round(counts[begin] / most * width)}"
        for begin in range(0, max(counts) + 1, step)
    )


if __name__ == "__main__":
    main()

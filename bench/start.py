"""How soon the agent is there, and in what memory: ``python -m bench.start``.

From exec to each step of a start, as a service manager would see it, at a slow and a fast serial line. The agent asks
its boards first, and loads what is left while they answer; it takes commands once it has looked at them. The stock
imports beside it are what any agent on the same packages would load, and nothing of its own.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.process import byte_code_kept, machine, memory_mib
from bench.sample import Target
from sim.site import Happening, Site

ROUNDS = 9
BAUDS = (9600, 115200)
SETTLE_S = 2.0
MOST_MS, MOST_MIB = 300.0, 26.0
STOCK = "import argparse, logging, tomllib, sqlite3, paho.mqtt.client, minimalmodbus"
SIZE = "; print(*[line for line in open('/proc/self/status') if line.startswith('VmRSS')])"
SIGNS: dict[str, Callable[[Happening], bool]] = {
    "journal open, state restored": lambda one: one.kind == "log" and "room=loop" in one.what,
    "first poll on the wire": lambda one: one.kind == "frame" and one.what["frame"] == "request",
    "boards measured": lambda one: one.kind == "log" and 'room=power msg="board on' in one.what,
    "connected and subscribed": lambda one: one.kind == "log" and "connected to" in one.what,
}


def main() -> list[Target]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="starts at each speed (%(default)s)")
    rounds = parser.parse_args().rounds
    print(machine())
    with byte_code_kept():
        targets = [target for baud in BAUDS for target in agent(baud, rounds)]
        stock(rounds)
    return targets


def agent(baud: int, rounds: int) -> list[Target]:
    with TemporaryDirectory() as folder, Site(Path(folder), baud=baud, settings={"line": "poll_ms = 1000"}) as site:
        begin(site)  # writes the byte code
        starts = [begin(site) for _ in range(rounds)]
    print(f"\nthe agent at {baud} baud, ms after exec{'':<6} {'median':>7}   of {rounds} starts")
    for name in SIGNS:
        _print_row(name, [times[name] for times, _ in starts], "7.0f")
    for name in starts[0][1]:
        _print_row(f"{name}, MiB", [sizes[name] for _, sizes in starts], "7.1f")
    took_ms = median(times["connected and subscribed"] for times, _ in starts)
    resident_mib = median(sizes["VmRSS"] for _, sizes in starts)
    return [
        Target(f"exec to subscribed, {baud} baud", "stock imports", took_ms, MOST_MS, "ms"),
        Target(
            f"memory of the running agent, {baud} baud", "ThingsBoard gateway: 62 MiB", resident_mib, MOST_MIB, "MiB"
        ),
    ]


def begin(site: Site) -> tuple[dict[str, float], dict[str, float]]:
    """One start and stop: when each sign was seen, in ms; and the memory a little later."""
    began_at = time.monotonic()
    site.start_agent()
    seen: dict[str, float] = {}
    while len(seen) < len(SIGNS):
        one = site.wait_for(lambda happening: True)
        for name, sign in SIGNS.items():
            if name not in seen and sign(one):
                seen[name] = (one.at - began_at) * 1000
    time.sleep(SETTLE_S)
    sizes = memory_mib(site.agent_pid)
    site.stop_agent()
    site.wait_for(lambda one: one.kind == "ended")
    while site.next(0.2) is not None:
        pass
    return seen, sizes


def stock(rounds: int) -> None:
    runs = []
    for _ in range(rounds + 1):
        began_at = time.monotonic()
        done = subprocess.run([sys.executable, "-c", STOCK + SIZE], capture_output=True, text=True, check=True)
        runs.append(((time.monotonic() - began_at) * 1000, int(done.stdout.split()[1]) / 1024))
    print(f"\nstock imports alone: {STOCK.removeprefix('import ')}")
    _print_row("exec to end", [took_ms for took_ms, _ in runs[1:]], "7.0f")
    _print_row("VmRSS, MiB", [size for _, size in runs[1:]], "7.1f")


def _print_row(name: str, values: list[float], form: str) -> None:
    print(f"{name:<44} {median(values):{form}}   {' '.join(f'{value:{form}}'.strip() for value in values)}")


if __name__ == "__main__":
    main()

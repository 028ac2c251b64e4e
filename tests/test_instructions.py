"""What the compiled code costs in instructions, which unlike time are the same on a busy machine: what comes from the
broker or the line costs no more than its length, and what is not ours next to nothing.

One run under valgrind. ``getppid`` is the mark between two pieces of work: callgrind writes its counts at each.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CALLS = 200
WORK = """
import os, sys
from agent.protocol.codec import Codec
from agent.protocol.rules import clock
from cext import rtu
from cext.message import pile_of

HEADER = "10.0.0.1,API:2.0.2,{},1795305600000,0000012345,"
START = (HEADER.format(101) + "1,0000012345,1,U1001,10000,5000,0,20261122000001").encode()

def tariff(periods):
    edges = [86400 * number // periods // 60 * 60 for number in range(periods + 1)]
    rows = ",".join(f"{clock(a)},{clock(b - 1)},100000,50000" for a, b in zip(edges, edges[1:]))
    return (HEADER.format(110) + f"T7,0,{periods}," + rows).encode()

def answered(count, values=rtu.registers):
    request = rtu.read_request(1, 3, 0, count)
    answer = rtu.frame(1, 3, bytes([2 * count]) + bytes(range(2 * count)))
    return lambda: values(rtu.check_answer(request, answer))

decode = Codec().decode
hours, halves = tariff(24), tariff(48)
work = {
    "nothing": lambda: None,
    "101": lambda: decode(START),
    "101 split": lambda: START.decode().split(","),
    "110, 24 periods": lambda: decode(hours),
    "110, 48 periods": lambda: decode(halves),
    "foreign": lambda: pile_of(START),
    "foreign, 64 KiB": lambda line=START.ljust(65536, b"x"): pile_of(line),
    "60 registers": answered(60),
    "120 registers": answered(120),
    "60 registers, list": answered(60, rtu.register_list),
    "60 integers": answered(60)().tolist,
}
print(*work, sep="\\n")
for call in work.values():
    call()
    os.getppid()
    for _ in range(int(sys.argv[1])):
        call()
    os.getppid()
"""


@pytest.fixture(scope="module")
def cost(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Instructions of each piece of work, without those of the call itself."""
    assert shutil.which("valgrind"), "valgrind is not installed; scripts/prerequisites does that"
    counts = tmp_path_factory.mktemp("callgrind") / "counts"
    valgrind = ["valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={counts}"]
    command = [*valgrind, sys.executable, "-c", WORK, str(CALLS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    spent = [_total(counts.with_name(f"counts.{number}")) for number in range(2, 2 * len(done.stdout.split("\n")), 2)]
    costs = {name: each / CALLS for name, each in zip(done.stdout.splitlines(), spent, strict=True)}
    call = costs.pop("nothing")
    return {name: each - call for name, each in costs.items()}


def _total(dump: Path) -> int:
    found = re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.MULTILINE)
    assert found is not None, dump
    return int(found[1])


def test_a_foreign_line_costs_the_same_however_long_it_is(cost: dict[str, float]) -> None:
    assert cost["foreign, 64 KiB"] == pytest.approx(
        cost["foreign"], rel=0.2
    )  # a copy of it would be tens of times as much
    assert cost["foreign"] < cost["101"] / 4


def test_a_tariff_costs_what_its_periods_cost(cost: dict[str, float]) -> None:
    a_period = (cost["110, 48 periods"] - cost["110, 24 periods"]) / 24
    assert a_period < 1200
    assert cost["110, 24 periods"] < cost["101"] + 24 * 1.2 * a_period


def test_a_start_is_read_and_checked_for_little_more_than_splitting_it_costs(cost: dict[str, float]) -> None:
    assert cost["101"] < 1.5 * cost["101 split"]


def test_a_register_costs_a_handful_of_instructions(cost: dict[str, float]) -> None:
    a_register = (cost["120 registers"] - cost["60 registers"]) / 60
    assert a_register < 15
    assert cost["60 registers"] < 2600


def test_a_list_of_registers_costs_little_more_than_its_integers(cost: dict[str, float]) -> None:
    assert cost["60 registers, list"] < 1.25 * cost["60 integers"]

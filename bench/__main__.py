"""``make bench``: this project beside what one would take instead, in one run on one machine, and the targets.

    python -m bench                      everything but the parts that take minutes
    python -m bench codec line           some parts
    python -m bench --into docs/performance   the plots and the table of targets go there

Nothing is asserted: machines are noisy. Ratios are of medians, the sides having taken turns.
"""

import argparse
import importlib
import sys
import time
import traceback
from inspect import cleandoc
from pathlib import Path

from bench.chart import Plot, draw
from bench.sample import TARGET_HEAD, Target, table

# In this order, with the arguments that keep all of them within eleven minutes.
PARTS: dict[str, list[str]] = {
    "frames": [], "codec": [], "line": [], "latency": [], "foreign": [], "commit": [], "stop": [], "growth": [],
    "records": [], "flashing": [], "fetch": [], "start": ["--rounds", "5"], "idle": ["--idle-s", "20", "--polls", "0"],
}  # fmt: skip
STOPS = 500
LONGER = ("recovery", "restart", "flash", "trust", "updates", "fleet")
INTO = Path(__file__).parents[1] / "build" / "bench"


def main() -> None:
    more = f"parts: {', '.join(PARTS)}; not run unless named: {', '.join(LONGER)}"
    parser = argparse.ArgumentParser(prog="python -m bench", description=cleandoc(__doc__ or ""), epilog=more,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--into", type=Path, default=INTO, metavar="FOLDER", help="of plots and targets (%(default)s)")
    options = parser.parse_args()
    began_at = time.monotonic()
    found = [one for name in options.parts or PARTS for one in run(name)]
    conclude([one for one in found if isinstance(one, Target)], options.into)
    for file in draw([one for one in found if isinstance(one, Plot)], options.into):
        print(file)
    print(f"took {time.monotonic() - began_at:.0f} s")


def run(name: str) -> list[Target | Plot]:
    part = importlib.import_module(f"bench.{name}")
    began_at = time.monotonic()
    title, _, more = cleandoc(part.__doc__ or "").partition("\n\n")
    print(f"\n== {name}: {title}\n{more}", flush=True)
    sys.argv[1:] = PARTS.get(name, [])
    try:
        return (part.main(STOPS) if name == "stop" else part.main()) or []
    except Exception:  # on a machine that is too busy; the other parts are not to be lost with it
        traceback.print_exc()
        return []
    finally:
        print(f"\n({name} took {time.monotonic() - began_at:.0f} s)")


def conclude(targets: list[Target], into: Path) -> None:
    if not targets:
        return
    rows = [one.cells for one in targets]
    table("== Targets", TARGET_HEAD, rows)
    lines = ["| " + " | ".join(row) + " |" for row in (TARGET_HEAD, ("---",) * len(TARGET_HEAD), *rows)]
    into.mkdir(parents=True, exist_ok=True)
    (into / "targets.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

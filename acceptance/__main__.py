"""``python -m acceptance [PACKAGE.deb]``: the package on a real systemd, from its installation to its removal."""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from acceptance import checks
from acceptance.board import BoardError
from acceptance.checks import Check
from acceptance.missing import MissingError, check_machine
from acceptance.rig import Rig

FIRST = (checks.installed, checks.first_start)  # without these nothing else can be shown
SHOWN_CHARACTERS = 150


def plan(cuts: int, seed: int) -> tuple[tuple[str, Check], ...]:
    named = (
        checks.installed, checks.first_start, checks.charge, checks.killed, checks.hung, checks.unplugged,
        checks.rebooted, checks.updated, checks.rolled_back, checks.package_again, checks.backed_up,
    )  # fmt: skip
    power = (("power cuts", checks.power_cut(cuts, seed)), ("without fsync", checks.negative_control(cuts, seed)))
    return (*((check.__name__.replace("_", " "), check) for check in named), *power, ("removed", checks.removed))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m acceptance", description=__doc__)
    parser.add_argument("package", type=Path, nargs="?", help="the .deb; without it, one is made from this tree")
    parser.add_argument("--cuts", type=int, default=10, help="power cuts (%(default)s)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="their moments")
    parser.add_argument(
        "--only", default="", metavar="NAMES", help="of what comes after the first start, separated by commas"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of all that is to be put away
    began = time.monotonic()
    try:
        check_machine()
        with (
            tempfile.TemporaryDirectory(prefix="pile-agent-acceptance-") as folder,
            Rig(Path(folder), options.package or made(Path(folder))) as rig,
        ):
            print(f"{'a board that runs':18} {time.monotonic() - began:6.1f} s  seed {options.seed}", flush=True)
            steps = plan(options.cuts, options.seed)
            only = options.only.split(",") if options.only else [name for name, _ in steps]
            failed = run(rig, tuple((name, check) for name, check in steps if check in FIRST or name in only))
    except MissingError as error:
        print(f"FAILED {error}")
        return 1
    return 1 if failed else 0


def made(folder: Path) -> Path:
    """The package of this tree, for this machine."""
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    dist = Path(__file__).parents[1] / "scripts" / "dist"
    subprocess.run([dist, "--out", folder, architecture], stdout=subprocess.DEVNULL, check=True)
    return next(folder.glob("*.deb"))


def run(rig: Rig, steps: tuple[tuple[str, Check], ...]) -> int:
    """Print a line for each; how many failed."""
    failed = passed = 0
    for name, check in steps:
        began = time.monotonic()
        try:
            shown, is_good = check(rig), True
        except (BoardError, TimeoutError) as error:
            shown, is_good = f"FAILED {error}", False
        print(
            f"{name:18} {time.monotonic() - began:6.1f} s  {shown[:SHOWN_CHARACTERS] if is_good else shown}", flush=True
        )
        passed, failed = passed + is_good, failed + (not is_good)
        if not is_good and check in FIRST:
            break
    print(f"{passed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(main())

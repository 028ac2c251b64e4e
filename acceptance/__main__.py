"""``python -m acceptance [PACKAGE.deb]``: the package on a real systemd, from its installation to its removal.

``python -m acceptance --image IMAGE``: the disk image, booted in an emulated arm64 machine.

Exit codes: 0 all is well, 1 something failed, 3 this machine lacks what it takes, which the last line names.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from acceptance import checks, image_checks
from acceptance.board import BoardError
from acceptance.checks import Check
from acceptance.missing import MissingError, check_container, check_emulation
from acceptance.rig import ImageRig, PackageRig, Rig

FIRST = (checks.installed, checks.first_start, image_checks.started)  # without these nothing else can be shown
SHOWN_CHARACTERS = 150
MISSING = 3  # exit code
Steps = tuple[tuple[str, Check], ...]


def plan(cuts: int, seed: int) -> Steps:
    first = (
        checks.installed, checks.first_start, checks.charge, checks.killed, checks.hung, checks.unplugged,
        checks.rebooted, checks.updated, checks.rolled_back, checks.package_again, checks.backed_up,
    )  # fmt: skip
    control = ("without fsync", checks.negative_control(cuts, seed))
    return (*named(*first), ("power cuts", checks.power_cut(cuts, seed)), control, *named(checks.removed))


def plan_of_image(cuts: int, seed: int) -> Steps:
    first = (
        image_checks.started, image_checks.read_only, image_checks.serial_lines, checks.charge, checks.killed,
        image_checks.unplugged, image_checks.bad_configuration, checks.updated,
    )  # fmt: skip
    return (*named(*first), ("power cuts", checks.power_cut(cuts, seed)), *named(image_checks.factory_reset))


def named(*steps: Check) -> Steps:
    return tuple((check.__name__.replace("_", " "), check) for check in steps)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m acceptance", description=__doc__)
    parser.add_argument("package", type=Path, nargs="?", help="the .deb; without it, one is made from this tree")
    parser.add_argument("--image", type=Path, help="boot this instead, from `make image`")
    parser.add_argument("--cuts", type=int, help="power cuts (10; of the image 2)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="their moments")
    parser.add_argument(
        "--only", default="", metavar="NAMES", help="of what comes after the first start, separated by commas"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of all that is to be put away
    try:
        with tempfile.TemporaryDirectory(prefix="pile-agent-acceptance-") as folder:
            failed = accept(options, Path(folder))
    except MissingError as error:
        print(f"FAILED {error}")
        return MISSING
    return 1 if failed else 0


def accept(options: argparse.Namespace, folder: Path) -> int:
    """How many checks failed. Raises MissingError."""
    began = time.monotonic()
    rig: Rig
    if options.image:
        check_emulation()
        rig, steps = ImageRig(folder, options.image), plan_of_image(options.cuts or 2, options.seed)
    else:
        check_container()
        rig, steps = PackageRig(folder, options.package or made(folder)), plan(options.cuts or 10, options.seed)
    with rig:
        print(f"{'a board that runs':18} {time.monotonic() - began:6.1f} s  seed {options.seed}", flush=True)
        only = options.only.split(",") if options.only else [name for name, _ in steps]
        return run(rig, tuple((name, check) for name, check in steps if check in FIRST or name in only))


def made(folder: Path) -> Path:
    """The package of this tree, for this machine."""
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    dist = Path(__file__).parents[1] / "scripts" / "dist"
    subprocess.run([dist, "--out", folder, architecture], stdout=subprocess.DEVNULL, check=True)
    return next(folder.glob("*.deb"))


def run(rig: Rig, steps: Steps) -> int:
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

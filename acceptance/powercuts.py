"""The power fails: whatever was acknowledged is there afterwards, and some release runs, whole."""

import json
import random
import subprocess
import time

from acceptance.board import BoardError
from acceptance.rig import Rig
from agent.protocol.commands import Period, SetTariff
from agent.protocol.results import Result

LONGEST_S = 6.0  # a cut comes within so long after the board works, or an update began
# The C library's durable writes, doing nothing.
NO_SYNC = """
int fsync(int fd) { (void)fd; return 0; }
int fdatasync(int fd) { (void)fd; return 0; }
int sync_file_range(int fd, long long offset, long long count, unsigned flags) { return 0; }
"""
UNITS = ("pile-agent", "pile-agent-update")


def with_power_cuts(rig: Rig, cuts: int, rng: random.Random) -> str:
    acknowledged = updates = 0
    for number in range(cuts):
        version = f"{rig.version.split('+')[0]}+cut{number}" if number % 2 else ""
        order = rig.upgrade(version) if version else 0
        acknowledged = cut_while_tariffs_are_set(rig, rng.uniform(0, LONGEST_S), acknowledged)
        rig.board.boot()
        rig.plug_line()
        rig.until_working()
        found = tariff_in_force(rig)
        if found < acknowledged:
            raise BoardError(f"cut {number}: tariff {acknowledged} was acknowledged, {found} is in force")
        if version:
            end_of_update(rig, order, version)
            updates += 1
    return (
        f"{cuts} cuts; nothing acknowledged was lost ({acknowledged} tariffs), {updates} updates went on to their end"
    )


def end_of_update(rig: Rig, order: int, version: str) -> None:
    """Cut at whatever stage, it ends by itself: the new release is in force."""
    rig.board.until(lambda: rig.board.status().get("version") == version, 120, f"{version} does not come into force")
    rig.until_working()
    rig.board.until(lambda: committed(rig) == version, 60, f"{version} is not committed")
    rig.board.until(lambda: stage(rig) == "committed", 60, f"the upgrade to {version} does not end")
    rig.version = version


def stage(rig: Rig) -> str:
    """How far the agent is with it, which learns of the commit a moment later, and takes no other 113 before."""
    told: str = rig.board.status()["upgrade"]["stage"]
    return told


def committed(rig: Rig) -> str:
    current: str = json.loads(rig.board.run("cat", "/opt/pile-agent/boot.json"))["current"]
    return current


def without_fsync(rig: Rig, cuts: int, rng: random.Random) -> str:
    """Ends at the first loss."""
    library = rig.folder / "nosync.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", library, "-x", "c", "-"], input=NO_SYNC.encode(), check=True)
    rig.board.put(library, "/usr/lib/nosync.so")
    for unit in UNITS:
        rig.board.run("install", "-d", f"/etc/systemd/system/{unit}.service.d")
        drop_in = "[Service]\nEnvironment=LD_PRELOAD=/usr/lib/nosync.so\n"
        rig.board.run("tee", f"/etc/systemd/system/{unit}.service.d/nosync.conf", given=drop_in)
    rig.board.run("systemctl", "daemon-reload")
    rig.board.run("systemctl", "restart", "pile-agent")
    rig.board.run("sync")
    rig.until_working()
    acknowledged = tariff_in_force(rig)
    for number in range(cuts):
        acknowledged = cut_while_tariffs_are_set(rig, rng.uniform(1, LONGEST_S), acknowledged)
        rig.board.boot()
        rig.plug_line()
        try:
            rig.until_working(20)
            found = tariff_in_force(rig)
        except BoardError as error:
            return f"caught at cut {number + 1}: {str(error)[:60]}"
        if found < acknowledged:
            return f"caught at cut {number + 1}: tariff {acknowledged} was acknowledged, {found} is in force"
    raise BoardError(f"{cuts} cuts without fsync lost nothing: the rig shows nothing")


def cut_while_tariffs_are_set(rig: Rig, after_s: float, number: int) -> int:
    """Set tariff after tariff, then cut the power; the last that was acknowledged."""
    end = time.monotonic() + after_s
    while time.monotonic() < end:
        try:
            rig.ask(110, tariff(number + 1), Result.OK, timeout_s=max(0.2, end - time.monotonic()))
        except TimeoutError:  # while the agent restarts for an update
            continue
        number += 1
    rig.board.cut_power()
    return number


def tariff(number: int) -> SetTariff:
    return SetTariff(f"T{number}", 0, (Period(0, 43200, 100_000, 50_000), Period(43200, 86400, 100_000, 50_000)))


def tariff_in_force(rig: Rig) -> int:
    rows = rig.board.run("pile-agent", "tariff", "--json").splitlines()
    template: str = json.loads(rows[0])["template"]
    return int(template[1:]) if template[1:].isdigit() else 0

"""What is shown, in this order: each says in a line what was seen, or raises."""

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acceptance.board import BoardError
from acceptance.powercuts import with_power_cuts, without_fsync
from acceptance.rig import CONFIG, PackageRig, Rig
from agent.protocol.commands import Reboot
from agent.protocol.results import Result
from sim.story import start, stop

Check = Callable[[Any], str]  # of a Rig, or of the kind it needs

MANUAL = Path(__file__).parents[1] / "docs" / "operations" / "install.md"

UNITS = ("pile-agent.service", "pile-agent-update.path", "pile-agent-reboot.path")
ACCEPTED, OK = Result.ACCEPTED, Result.OK
WATCHDOG_S = 20  # WatchdogSec of the unit


def installed(rig: PackageRig) -> str:
    """The package on a fresh Debian."""
    board = rig.board
    board.put(rig.package, "/root/pile-agent.deb")
    said = board.run("dpkg", "-i", "/root/pile-agent.deb")
    expect("not started, for want of" in said, f"dpkg did not say what is missing: {said}")
    for unit in UNITS:
        expect(board.run("systemctl", "is-enabled", unit).strip() == "enabled", f"{unit} is not enabled")
    expect(board.shows("pile-agent", "ActiveState") == "inactive", "it runs without a configuration")
    expect("nologin" in board.run("getent", "passwd", "pile-agent"), "the user may log in")
    expect(board.shows("pile-agent-update.path", "ActiveState") == "active", "nobody looks for updates")
    rules = board.run("sh", "-c", "udevadm test /sys/class/tty/tty0 2>&1 | grep pile-agent").splitlines()
    expect(len(rules) == 1 and rules[0].startswith("Reading rules file"), f"udev has something to say: {rules}")
    expect("0 loaded" in board.run("systemctl", "--failed", "--no-pager"), "a unit has failed")
    return "user, folders, three units enabled; waits for pile.toml"


def first_start(rig: PackageRig) -> str:
    """One file edited, the root of trust put there: READY, and connected both ways."""
    board = rig.board
    rig.configure()
    rig.plug_line()
    board.run("systemd-tmpfiles", "--create", "pile-agent.conf")
    expect(
        board.run("stat", "-c", "%U:%G %a", CONFIG).split() == ["root:pile-agent", "640"], "pile.toml is open to all"
    )
    board.run("tee", "/root/root.json", given=rig.maker.root.decode())
    board.run("pile-agent", "bundle", "install-root", "--trust", "/opt/pile-agent/trust", "/root/root.json")
    board.run("runuser", "-u", "pile-agent", "--", "pile-agent", "check")
    board.run("systemctl", "start", "pile-agent")
    ready_s = int(board.shows("pile-agent", "ActiveEnterTimestampMonotonic")) / 1e6
    began_s = int(board.shows("pile-agent", "InactiveExitTimestampMonotonic")) / 1e6
    rig.until_working()
    return f"READY {ready_s - began_s:.1f} s after the start; broker and power board answer"


def charge(rig: Rig) -> str:
    """101 start and stop, and the bill."""
    start_charge(rig, "A1")
    rig.board.until(lambda: rig.board.status()["guns"][0]["session"]["energy_wh"] > 20, 30, "no energy flows")
    rig.ask(101, stop(1, "A1"), ACCEPTED, OK)
    bill = bill_of(rig, "A1")
    return f"{bill['energy_wh']} Wh, {bill['total_fen']} fen, the bill adds up"


def start_charge(rig: Rig, order: str) -> None:
    rig.site.board({"do": "plug", "gun": 1})
    rig.board.until(lambda: rig.board.status()["guns"][0]["status"] != "idle", 10, "the car is not noticed")
    rig.ask(101, start(1, order), ACCEPTED, OK)


def killed(rig: Rig) -> str:
    """kill -9 while a car charges: back before the power board's own watchdog."""
    start_charge(rig, "A2")
    before = rig.main_pid()
    rig.board.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "pile-agent")
    rig.board.until(lambda: rig.main_pid() not in (0, before), 10, "it is not started again")
    rig.until_working()
    gun = rig.site.board({"do": "state"})["state"]["guns"][0]
    expect(gun["state"] == "charging" and gun["order"] == "A2", f"the charge did not go on: {gun}")
    rig.ask(101, stop(1, "A2"), ACCEPTED, OK)
    return f"the charge went on, then {bill_of(rig, 'A2')['energy_wh']} Wh billed"


def hung(rig: Rig) -> str:
    """SIGSTOP: the power board stops the charge, systemd starts the agent again."""
    board, restarts = rig.board, int(rig.board.shows("pile-agent", "NRestarts"))
    start_charge(rig, "A3")
    board.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", "pile-agent")
    board.until(
        lambda: rig.site.board({"do": "state"})["state"]["guns"][0]["state"] != "charging",
        WATCHDOG_S, "the power board goes on charging without an agent",
    )  # fmt: skip
    board.until(
        lambda: int(board.shows("pile-agent", "NRestarts")) > restarts,
        2 * WATCHDOG_S,
        "systemd's watchdog does not bite",
    )
    rig.until_working()
    expect("watchdog" in board.journal("pile-agent").lower(), "the journal does not say why")
    board.until(lambda: bill_of(rig, "A3"), 20, "no bill of the charge")
    return f"stopped by the board, killed by systemd, back; {bill_of(rig, 'A3')['energy_wh']} Wh billed"


def unplugged(rig: PackageRig) -> str:
    """The serial adaptor pulled, and back as another device of the same name."""
    was = rig.board.run("readlink", "/dev/pile0").strip()
    rig.container.unplug_line()
    rig.site.board({"do": "cut"})
    rig.board.until(lambda: rig.board.status()["lines"][0]["reason"], 20, "the agent does not notice")
    reason = rig.board.status()["lines"][0]["reason"]
    keeper = rig.site.board({"do": "restore"})
    expect("error" not in keeper, str(keeper))
    rig.plug_line()
    rig.until_working()
    now = rig.board.run("readlink", "/dev/pile0").strip()
    return f"{reason!r}; works again ({was.rsplit('/', 1)[1]} → {now.rsplit('/', 1)[1]})"


def rebooted(rig: Rig) -> str:
    """108 with gun 0: the whole Linux board."""
    rig.ask(108, Reboot(0), OK)
    rig.board.until_rebooted()
    rig.plug_line()
    rig.until_working()
    return "by the agent's mark and a path unit; up and working by itself"


def updated(rig: Rig) -> str:
    """113 and 114 with a signed bundle: agent, path unit, installer, launcher."""
    version = f"{rig.version}.1"
    rig.answered(rig.upgrade(version), ACCEPTED, OK, timeout_s=120)
    rig.until_working()
    expect(rig.board.status()["version"] == version, f"{rig.board.status()['version']} runs")
    expect(f"stage {version}: done" in rig.board.journal("pile-agent-update"), "the installer has not said so")
    was, rig.version = rig.version, version
    return f"{was} → {version}"


def rolled_back(rig: Rig) -> str:
    """A signed release that passes its self-test and then does not run."""
    fault = 'import sys\nif "run" in sys.argv:\n    sys.exit("this release is broken")'
    reply = rig.answered(rig.upgrade(f"{rig.version}.9", fault), ACCEPTED, Result.ROLLED_BACK, timeout_s=120)
    rig.until_working()
    expect(rig.board.status()["version"] == rig.version, f"{rig.board.status()['version']} runs")
    return f"{rig.version} runs; {reply.body!r}"


def package_again(rig: Rig) -> str:
    """The same package once more does not take an update back, and the agent runs on."""
    said = rig.board.run("dpkg", "-i", "/root/pile-agent.deb")
    expect("it stays" in said, said)
    rig.until_working()
    expect(rig.board.status()["version"] == rig.version, f"{rig.board.status()['version']} runs")
    return f"{rig.version} stays"


def backed_up(rig: Rig) -> str:
    """docs/operations/install.md: copy, purge, install, put back."""
    board, order = rig.board, "A1"
    bill = bill_of(rig, order)
    board.run("sh", "-ec", commands("Backup"))
    board.run("dpkg", "--purge", "pile-agent")
    left = board.run("sh", "-c", LEFT)
    expect(left == "", f"a purge leaves {left.split()}")
    board.run("dpkg", "-i", "/root/pile-agent.deb")
    board.run("sh", "-ec", commands("Restore"))
    rig.until_working()
    expect(bill_of(rig, order) == bill, "the bill is another one")
    rig.version = board.status()["version"]
    return f"nothing left by the purge; the bill of {order} is back, {rig.version} runs"


LEFT = """
ls -d /opt/pile-agent /var/lib/pile-agent /etc/pile-agent /usr/lib/pile-agent 2>/dev/null
ls /etc/systemd/system/multi-user.target.wants | grep pile-agent
true
"""


def commands(section: str) -> str:
    """What docs/operations/install.md tells the operator to type first in that section."""
    text = MANUAL.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2]
    lines = itertools.dropwhile(lambda line: not line.startswith("    "), text.splitlines())
    return "\n".join(itertools.takewhile(lambda line: line.startswith("    "), lines))


def power_cut(cuts: int, seed: int) -> Check:
    def check(rig: Rig) -> str:
        return with_power_cuts(rig, cuts, random.Random(seed))

    check.__doc__ = f"{cuts} power cuts at random moments, every other one during an update (seed {seed})."
    return check


def negative_control(cuts: int, seed: int) -> Check:
    def check(rig: Rig) -> str:
        return without_fsync(rig, cuts, random.Random(seed))

    check.__doc__ = "The same with an fsync that does nothing must lose something: else the cuts prove nothing."
    return check


def removed(rig: Rig) -> str:
    """dpkg --remove takes the program, and leaves configuration, journal and trust."""
    rig.board.run("dpkg", "--remove", "pile-agent")
    expect(rig.board.shows("pile-agent", "ActiveState") == "inactive", "it still runs")
    rig.board.run("test", "!", "-e", "/opt/pile-agent/releases")
    rig.board.run(
        "sh", "-ec", f"test -e {CONFIG}; test -e /var/lib/pile-agent/journal.db; test -d /opt/pile-agent/trust"
    )
    return "program gone; configuration, journal and trust are there"


def bill_of(rig: Rig, order: str) -> dict[str, int]:
    """Its bill, done again; empty while there is none. Raises BoardError when it does not add up."""
    done = rig.board.try_run("pile-agent", "bill", "--json", order)
    if done.returncode != 0:
        return {}
    bill: dict[str, int] = json.loads(done.stdout)
    expect(not bill["faults"], f"the bill does not add up: {bill}")
    return bill


def expect(is_so: object, otherwise: str) -> None:
    if not is_so:
        raise BoardError(otherwise)

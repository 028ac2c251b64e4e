"""A new release of the agent, by 113 and 114: installed, tried, and taken back where it does not prove itself. Real
agent, launcher, installer, FTP server and broker."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from update_helpers import ACCEPTED, DEFERRED, OK, Upgrades, upgradable

from agent.protocol.results import Result

WATCHDOG_S = 8.0  # an agent starts within that, on an emulated processor too
AS_AGENT = 'import sys\nif sys.argv[1:2] == ["run"]:\n    '  # but not in the installer's self-test
IMPATIENT = "import agent.pile.upgrade\nagent.pile.upgrade.GATE_MS = 1000\n"
NEVER_LINKED = f"{IMPATIENT}import agent.link.link\nagent.link.link.Link.start = lambda link, delay_s: None\n"
NOT_PROVED = "it was started as often as allowed and did not prove itself"
TRIES = 3
STAGES_SHOWN = ["waiting", "arming", "committed"]  # those that last a second


@pytest.fixture(scope="module")
def upgrades(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrades]:
    with upgradable(tmp_path_factory.mktemp("site"), watchdog_s=WATCHDOG_S) as upgrades:
        yield upgrades


def test_a_release_is_in_force_once_the_charge_has_ended(upgrades: Upgrades) -> None:
    watch = upgrades.watch
    upgrades.release("0.2.0")
    watch.charge(1, "A1")
    operator = begin_to_watch(upgrades)

    line = upgrades.order("R1", "0.2.0")
    watch.until_answered(line, ACCEPTED, DEFERRED, timeout_s=30)
    assert upgrades.password_stands_in() == ["login.json"], "as long as it may be needed"
    assert watch.phase(1) == "charging"
    watch.until_answered(watch.stop(1, "A1"), ACCEPTED, OK)

    upgrades.until_over(line, ACCEPTED, DEFERRED, OK)
    assert upgrades.versions() == ("0.2.0", "1.4.2")
    assert upgrades.told("R1") == [2, 3, 4, 1, 5, 4, 6]
    assert upgrades.releases() == ["0.1.0", "0.2.0"]
    assert upgrades.starts() == 1
    (row,) = upgrades.site.updates()
    assert [row[name] for name in ("record_id", "kind", "version", "state")] == ["R1", "agent", "0.2.0", "OK"]
    upgrades.check_nothing_is_left()
    shown = watched(operator)
    assert [stage for stage in STAGES_SHOWN if ("0.1.0", stage) in shown or ("0.2.0", stage) in shown] == STAGES_SHOWN
    assert shown[-1] == ("0.2.0", "committed"), "it was followed through the restart"


def begin_to_watch(upgrades: Upgrades) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "agent.cli.main", "watch", "--json", "--config", str(upgrades.site.config_file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def watched(operator: "subprocess.Popen[str]") -> list[tuple[str, str]]:
    """Version and stage as they were shown, up to the end of the upgrade."""
    shown = []
    assert operator.stdout is not None
    for line in operator.stdout:
        snapshot = json.loads(line)
        if snapshot["upgrade"]:
            shown.append((snapshot["version"], snapshot["upgrade"]["stage"]))
            if shown[-1][1] == "committed":
                break
    operator.terminate()
    operator.communicate()
    return shown


def test_a_release_that_cannot_be_imported_is_never_started(upgrades: Upgrades) -> None:
    upgrades.release("0.3.0", 'raise ImportError("a file is missing")')
    starts = upgrades.starts()
    text = upgrades.until_over(upgrades.order("R2", "0.3.0"), ACCEPTED, Result.INSTALL_FAILED)
    assert text.startswith("the self-test ended with 1: ")
    assert text.endswith("ImportError: a file is missing")
    upgrades.until_dropped("0.3.0")
    assert (upgrades.starts(), upgrades.releases()) == (starts, ["0.1.0", "0.2.0"])
    assert upgrades.told("R2") == [2, 3, 4, 59]
    upgrades.check_nothing_is_left()


@pytest.mark.parametrize(
    ("version", "fault", "reason"),
    [
        ("0.4.0", f"{AS_AGENT}sys.exit(3)", NOT_PROVED),
        ("0.5.0", f"{AS_AGENT}import time; time.sleep(3600)", NOT_PROVED),
        ("0.6.0", NEVER_LINKED, "the broker is not reached within 1 s"),
    ],
    ids=["crashes", "hangs", "never gets ready"],
)
def test_a_release_that_does_not_work_is_rolled_back(upgrades: Upgrades, version: str, fault: str, reason: str) -> None:
    upgrades.release(version, fault)
    starts = upgrades.starts()
    check_rolled_back(upgrades, upgrades.order(version, version), version, reason, starts)


def test_a_release_that_loses_the_power_board_is_rolled_back(upgrades: Upgrades) -> None:
    upgrades.release("0.7.0", IMPATIENT)
    starts = upgrades.starts()
    line = upgrades.order("0.7.0", "0.7.0")
    upgrades.watch.until(lambda: upgrades.starts() > starts, timeout_s=30)
    upgrades.site.board({"do": "silent"})  # before the new release has asked it anything
    upgrades.watch.until(lambda: upgrades.starts() > starts + TRIES, timeout_s=60)
    upgrades.site.board({"do": "silent", "on": False})
    reason = "the broker is not reached and the power board of gun 1; 2 does not answer within 1 s"
    check_rolled_back(upgrades, line, "0.7.0", reason, starts)


def check_rolled_back(upgrades: Upgrades, line: bytes, version: str, reason: str, starts: int) -> None:
    assert upgrades.until_over(line, ACCEPTED, Result.ROLLED_BACK, timeout_s=120) == reason
    assert upgrades.starts() == starts + 1 + TRIES
    assert upgrades.told(version) == [2, 3, 4, 1, 5, 60], "the last one unasked, by the release before"
    assert upgrades.versions() == ("0.2.0", "1.4.2")
    upgrades.until_dropped(version)
    assert upgrades.releases() == ["0.1.0", "0.2.0"]
    row = upgrades.site.updates()[-1]
    assert (row["version"], row["state"], row["text"]) == (version, "ROLLED_BACK", reason.replace(";", ","))
    upgrades.check_nothing_is_left()

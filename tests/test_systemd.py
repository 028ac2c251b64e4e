"""The unit files: nothing in them that systemd does not know, hardened, and of one mind with what they start."""

import configparser
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.exits import CONFIG
from agent.cli.main import DEFAULT_CONFIG
from agent.config_keys import BY_NAME
from firmware_bridge.requests import REQUEST, TAKEN, WHY

SYSTEMD = Path(__file__).parents[1] / "systemd"
AGENT, UPDATE, ASKED = "pile-agent.service", "pile-agent-update.service", "pile-agent-update.path"
REBOOT = "pile-agent-reboot.path"
EXPOSURE_MOST = {AGENT: 15, UPDATE: 11}  # tenths of 10. Root that may become another user: no less than 1.1
ROOT, FIRMWARE = "/opt/pile-agent", "/var/lib/pile-agent/firmware"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Copies whose program exists on this machine."""
    for name in (AGENT, UPDATE, ASKED, REBOOT):
        text = (SYSTEMD / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/usr/bin/python3", sys.executable), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", [AGENT, UPDATE, ASKED, REBOOT])
def test_systemd_has_nothing_to_say_about_the_unit(units: Path, name: str) -> None:
    assert _verify(units / name) == ""


@pytest.mark.parametrize(("name", "right"), [(AGENT, "ProtectSystem="), (UPDATE, "UMask="), (ASKED, "PathExists=")])
def test_a_misspelt_directive_would_be_noticed(units: Path, name: str, right: str) -> None:
    """systemd-analyze ends with 0 all the same: only its words tell."""
    unit = units / name
    unit.write_text(unit.read_text().replace(right, right[1:]))
    assert "Unknown key" in _verify(unit)


@pytest.mark.parametrize("name", EXPOSURE_MOST)
def test_the_units_are_exposed_to_no_more_than_their_limits(units: Path, name: str) -> None:
    _security(units / name)


@pytest.mark.parametrize("name", EXPOSURE_MOST)
def test_a_looser_unit_would_be_noticed(units: Path, name: str) -> None:
    unit = units / name
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "").replace("NoNewPrivileges=yes", ""))
    with pytest.raises(subprocess.CalledProcessError):
        _security(unit)


def test_the_unit_starts_the_agent_with_the_default_configuration() -> None:
    assert _launch(_section(AGENT)["ExecStart"]) == ("exec", ["run", "--config", str(DEFAULT_CONFIG)])


def test_the_release_is_chosen_as_root_before_and_a_failure_there_does_not_hinder_the_start() -> None:
    before = _section(AGENT)["ExecStartPre"]
    assert before.startswith("-+/usr/bin/python3")
    assert _launch(before.removeprefix("-+")) == ("take", [])
    assert f"--why {FIRMWARE}/{WHY} " in before


def test_the_committed_release_installs_what_the_agent_asks_for() -> None:
    do, arguments = _launch(_section(UPDATE)["ExecStart"])
    assert do == "committed"
    assert arguments == [
        "-m", "firmware_bridge.installer", "--root", ROOT, "--requests", FIRMWARE,
        "--user", _section(AGENT)["User"], "--config", str(DEFAULT_CONFIG),
    ]  # fmt: skip


def test_the_installer_is_started_for_a_request_and_for_one_that_was_not_finished() -> None:
    lines = (SYSTEMD / ASKED).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("PathExists=")] == [
        f"PathExists={FIRMWARE}/{REQUEST}",
        f"PathExists={FIRMWARE}/{TAKEN}",
    ]
    assert _section(ASKED, "Path")["Unit"] == UPDATE


def test_the_mark_that_restarts_the_board_lies_where_the_agent_may_write_and_the_boot_forgets() -> None:
    assert _section(REBOOT, "Path") == {
        "PathExists": f"/run/{_section(AGENT)['RuntimeDirectory']}/reboot",
        "Unit": "reboot.target",
    }


def test_a_board_without_a_configuration_is_not_broken() -> None:
    assert _section(AGENT, "Unit")["ConditionPathExists"] == str(DEFAULT_CONFIG)


def test_what_fetches_firmware_may_make_itself_nice() -> None:
    """os.nice() is setpriority, of @resources: refused, every 114 ended with INTERNAL."""
    lines = (SYSTEMD / AGENT).read_text(encoding="utf-8").splitlines()
    filters = [line for line in lines if line.startswith("SystemCallFilter=")]
    assert filters.index("SystemCallFilter=setpriority") > filters.index("SystemCallFilter=~@privileged @resources")


def test_the_user_and_the_folders_are_those_of_the_unit(tmp_path: Path) -> None:
    service = _section(AGENT)
    (tmp_path / "etc").mkdir()
    subprocess.run(["systemd-sysusers", "--root", tmp_path, SYSTEMD / "pile-agent.sysusers"], check=True, timeout=60)
    (account,) = (tmp_path / "etc/passwd").read_text().splitlines()
    assert account.split(":")[0] == service["User"] == service["Group"]
    assert account.split(":")[5:] == ["/nonexistent", "/usr/sbin/nologin"]
    made = {line.split()[1]: line.split()[2:] for line in _plain(SYSTEMD / "pile-agent.tmpfiles")}
    owner = [service["User"], service["Group"]]
    assert made[f"/var/lib/{service['StateDirectory']}"] == [service["StateDirectoryMode"], *owner]
    assert made[f"/run/{service['RuntimeDirectory']}"] == [service["RuntimeDirectoryMode"], *owner]
    assert made[str(DEFAULT_CONFIG)] == ["0640", "root", service["Group"]]
    for folder in (ROOT, f"{ROOT}/releases", f"{ROOT}/trust", str(DEFAULT_CONFIG.parent)):
        assert made[folder] == ["0755", "root", "root"]


def test_systemd_has_nothing_to_say_about_the_folders(tmp_path: Path) -> None:
    for file in ("passwd", "group"):
        (tmp_path / "etc").mkdir(exist_ok=True)
        (tmp_path / "etc" / file).write_text("pile-agent:x:990:990::/nonexistent:/usr/sbin/nologin\n")
    command = ["systemd-tmpfiles", "--create", "--root", tmp_path, SYSTEMD / "pile-agent.tmpfiles"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert [line for line in done.stderr.splitlines() if "Operation not permitted" not in line] == []


def test_the_line_has_the_example_s_name_and_the_agent_s_group() -> None:
    rules = _plain(SYSTEMD / "pile-agent.udev")
    name = next(key.sample for key in BY_NAME["line"].keys if key.name == "port")
    assert [rule for rule in rules if f'SYMLINK+="{Path(str(name)).name}"' in rule]
    assert f'GROUP="{_section(AGENT)["Group"]}", MODE="0660"' in rules[-2]


def test_the_agent_cannot_write_its_own_code_and_the_installer_can() -> None:
    assert "ReadWritePaths" not in _section(AGENT)
    assert _section(AGENT)["ProtectSystem"] == _section(UPDATE)["ProtectSystem"] == "strict"
    assert _section(UPDATE)["ReadWritePaths"].split() == [ROOT, "-/var/lib/pile-agent"]


def test_the_unit_makes_the_directories_that_the_agent_uses_by_default() -> None:
    service, defaults = _section(AGENT), {key.name: key.default for key in BY_NAME["pile"].keys}
    assert defaults["data_dir"] == f"/var/lib/{service['StateDirectory']}"
    assert f"{defaults['data_dir']}/firmware" == FIRMWARE
    assert str(Path(defaults["socket"]).parent) == f"/run/{service['RuntimeDirectory']}"
    assert str(DEFAULT_CONFIG.parent) == f"/etc/{service['ConfigurationDirectory']}"


def test_a_configuration_that_cannot_be_used_is_not_tried_again() -> None:
    service = _section(AGENT)
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(CONFIG)


def _plain(path: Path) -> list[str]:
    """A file's lines without comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _section(name: str, section: str = "Service") -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(SYSTEMD / name, encoding="utf-8")
    return dict(parser[section])


def _launch(line: str) -> tuple[str, list[str]]:
    """What the launcher is to do, and the release's arguments."""
    program, isolated, launcher, option, root, *rest = shlex.split(line)
    assert (program, isolated, launcher) == ("/usr/bin/python3", "-I", f"{ROOT}/launcher.py")
    assert (option, root) == ("--root", ROOT)
    do, *arguments = rest[2:] if rest[0] == "--why" else rest
    return do, arguments


def _verify(unit: Path) -> str:
    """What systemd says about this unit; other units of the machine are not ours to judge."""
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return "\n".join(line for line in (done.stdout + done.stderr).splitlines() if unit.name in line)


def _security(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MOST[unit.name]}", str(unit)]
    subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

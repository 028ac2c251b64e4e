"""The unit file: nothing in it that systemd does not know, hardened, and of one mind with the agent it starts."""

import configparser
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.exits import CONFIG
from agent.cli.main import DEFAULT_CONFIG
from agent.config_keys import BY_NAME

UNIT = Path(__file__).parents[1] / "systemd" / "pile-agent.service"
EXPOSURE_MOST = 15  # tenths: 1.5 of 10


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """A copy whose program exists on this machine."""
    text = UNIT.read_text(encoding="utf-8")
    program = _service()["ExecStart"].split()[0]
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace(f"ExecStart={program}", f"ExecStart={sys.executable}"), encoding="utf-8")
    return copy


def test_systemd_has_nothing_to_say_about_the_unit(unit: Path) -> None:
    assert _verify(unit) == ""


def test_a_misspelt_directive_would_be_noticed(unit: Path) -> None:
    """systemd-analyze ends with 0 all the same: only its words tell."""
    unit.write_text(unit.read_text().replace("ProtectSystem=", "ProtectSytem="))
    assert "Unknown key" in _verify(unit)


def test_the_unit_is_exposed_to_no_more_than_1_5(unit: Path) -> None:
    _security(unit)


def test_a_looser_unit_would_be_noticed(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "").replace("PrivateUsers=yes", ""))
    with pytest.raises(subprocess.CalledProcessError):
        _security(unit)


def test_the_unit_starts_the_agent_with_the_default_configuration() -> None:
    program, *arguments = shlex.split(_service()["ExecStart"])
    assert Path(program).name == "pile-agent"
    assert arguments == ["run", "--config", str(DEFAULT_CONFIG)]


def test_the_unit_makes_the_directories_that_the_agent_uses_by_default() -> None:
    service, defaults = _service(), {key.name: key.default for key in BY_NAME["pile"].keys}
    assert defaults["data_dir"] == f"/var/lib/{service['StateDirectory']}"
    assert str(Path(defaults["socket"]).parent) == f"/run/{service['RuntimeDirectory']}"
    assert str(DEFAULT_CONFIG.parent) == f"/etc/{service['ConfigurationDirectory']}"


def test_a_configuration_that_cannot_be_used_is_not_tried_again() -> None:
    service = _service()
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(CONFIG)


def _service() -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT, encoding="utf-8")
    return dict(parser["Service"])


def _verify(unit: Path) -> str:
    """What systemd says about this unit; other units of the machine are not ours to judge."""
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return "\n".join(line for line in (done.stdout + done.stderr).splitlines() if unit.name in line)


def _security(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MOST}", str(unit)]
    subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

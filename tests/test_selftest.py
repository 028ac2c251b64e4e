"""``pile-agent selftest``: what a new release must show before anything is replaced by it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.cli import selftest
from agent.cli.main import main
from agent.journal import Journal, schema
from agent.power import profile
from agent.version import VERSION


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pile.toml"
    path.write_text(
        f'[pile]\nnumber = "0000012345"\ndata_dir = "{tmp_path}"\nsocket = "{tmp_path}/control.sock"\n'
        f'[broker]\nhost = "127.0.0.1"\n[[line]]\nport = "{tmp_path}/no-port"\n[[line.device]]\nguns = [1]\n'
    )
    return path


def test_a_good_release_says_so_in_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--config", str(config), "--release", VERSION]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"pile-agent {VERSION} can run here: ")
    assert said.endswith(f" profiles, journal, {config}\n")
    assert said.count("\n") == 1


def test_a_release_that_was_signed_under_another_version_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--release", "9.9"]) == 1
    assert capsys.readouterr().err == f"pile-agent {VERSION} can't run here: UnfitError: it was signed as '9.9'\n"


def test_a_configuration_that_it_cannot_use_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace("guns = [1]", "guns = [0]"))
    assert main(["selftest", "--config", str(config)]) == 78
    assert "guns" in capsys.readouterr().err


def test_on_trial_such_a_configuration_does_not_keep_the_release_before_from_starting(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit does not start again what ends with 78; what ends with 1 is tried twice more and gone back from."""
    config.write_text("")
    assert main(["run", "--config", str(config)]) == 78
    monkeypatch.setenv("PILE_AGENT_TRIAL", VERSION)
    assert main(["run", "--config", str(config)]) == 1


def test_a_missing_module_shows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(selftest.sys.modules, "agent.cli.bill", None)
    assert main(["selftest"]) == 1
    assert "import of agent.cli.bill halted" in capsys.readouterr().err


def test_a_damaged_profile_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(profile, "PROFILES", tmp_path)
    monkeypatch.setattr(selftest, "PROFILES", tmp_path)
    assert main(["selftest"]) == 1
    assert f"no device profile in {tmp_path}" in capsys.readouterr().err
    (tmp_path / "half.toml").write_text("[registers")
    assert main(["selftest"]) == 1
    assert "ProfileError" in capsys.readouterr().err


def test_a_release_whose_journal_the_present_one_could_not_use_is_refused(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The release before must run on what this one wrote, or there is no way back."""
    Journal.open(config.parent / "journal.db", 0).close()
    now = len(schema.MIGRATIONS)
    adds = "ALTER TABLE outbox ADD COLUMN record INTEGER; CREATE TABLE uploads (id INTEGER PRIMARY KEY) STRICT"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, adds))
    assert main(["selftest", "--config", str(config)]) == 0
    breaks = f"{adds}; UPDATE meta SET value = {now + 1} WHERE key = 'compatible_from'"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS[:now], breaks))
    assert main(["selftest", "--config", str(config)]) == 1
    assert f"its journal needs schema {now + 1}, the one here has {now}: no way back" in capsys.readouterr().err
    with closing(sqlite3.connect(config.parent / "journal.db")) as connection:
        assert schema.version_of(connection) == now  # nothing was migrated

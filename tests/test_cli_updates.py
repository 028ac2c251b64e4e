"""``pile-agent updates``: past upgrades and the one under way as table, JSON or CSV; and what ``status`` says of it."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from office_helpers import CONFIG

from agent.cli.main import main
from agent.cli.show import readable
from agent.journal import Journal
from agent.pile.firmware import PastUpgrade, Stage, Ticket, Upgrade
from agent.pile.parts import to_json
from agent.pile.request import Request
from agent.protocol.results import Result

T_MS = 1_795_305_600_000  # 2026-11-22 08:00:00 at +08:00
TICKET = Ticket("R10", "ftp.example", "pile")
PAST = (
    PastUpgrade("R8", "power-board", "1.5.0", T_MS, T_MS + 60_000, Result.OK),
    PastUpgrade("R9", "", "0.2.0", T_MS + 3600_000, T_MS + 3700_000, Result.FTP_NO_FILE, "ftp.example:21 '/f': no"),
)
NOW = Upgrade(Request(114, "1", "k"), TICKET, "0.3.0", "/f", 1024, T_MS + 7200_000, Stage.DOWNLOADING)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "pile.toml"
    file.write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    with closing(Journal.open(tmp_path / "journal.db", 0)) as journal, journal.transaction():
        journal.put("past_upgrades", to_json(PAST))
        journal.put("upgrade", to_json(NOW))
    return file


def test_as_a_table(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["updates", "--config", str(config)]) == 0
    assert capsys.readouterr().out == (
        "2026-11-22 08:00:00+08:00  record R8: power-board 1.5.0: OK\n"
        "2026-11-22 09:00:00+08:00  record R9: firmware 0.2.0: FTP_NO_FILE: ftp.example:21 '/f': no\n"
        "2026-11-22 10:00:00+08:00  record R10: firmware 0.3.0: downloading\n"
    )


def test_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["updates", "--json", "--config", str(config)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["result"] for row in rows] == [0, 53, ""]
    assert rows[0] == {
        "record_id": "R8", "kind": "power-board", "version": "1.5.0", "state": "OK",
        "ordered": "2026-11-22T08:00:00+08:00", "ended": "2026-11-22T08:01:00+08:00",
        "ordered_ms": T_MS, "ended_ms": T_MS + 60_000, "result": 0, "text": "",
    }  # fmt: skip


def test_as_csv(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["updates", "--csv", "--config", str(config)]) == 0
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert header == "record_id,kind,version,state,ordered,ended,ordered_ms,ended_ms,result,text"
    assert first.startswith("R8,power-board,1.5.0,OK,2026-11-22T08:00:00+08:00,")


def test_where_there_was_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pile.toml").write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    Journal.open(tmp_path / "journal.db", 0).close()
    assert main(["updates", "--config", str(tmp_path / "pile.toml")]) == 0
    assert capsys.readouterr().out == "there was no upgrade\n"


@pytest.mark.parametrize(
    ("stage", "percent", "text", "line"),
    [
        ("downloading", 83, "", "downloading [################····]  83 %"),
        ("staging", 0, "", "staging"),
        ("waiting", 0, "", "waiting: until no gun has a charge"),
        ("flashing", 5, "", "flashing [#···················]   5 %"),
        ("trial", 0, "", "trial: it must show that it works"),
        ("committed", 0, "not made final: disk full", "committed: not made final: disk full"),
        ("rolled back", 0, "it hangs", "rolled back: it hangs"),
    ],
)
def test_status_says_how_far_it_is(stage: str, percent: int, text: str, line: str) -> None:
    upgrade = {"record_id": "R9", "version": "0.2.0", "kind": None, "stage": stage, "percent": percent, "text": text}
    snapshot = {
        "pile": "1", "version": "0.1.0", "uptime_s": 1, "outbox": 0, "messages": {}, "journal": "", "guns": [],
        "link": {"connected": True, "broker": "b:1"}, "lines": [], "site": None, "parameters": None,
        "is_configuring": False, "upgrade": upgrade,
    }  # fmt: skip
    assert readable(snapshot)[3] == f"upgrade R9 to 0.2.0: {line}"

"""``pile-agent records``: the journal of a running or stopped agent as a table, JSON or CSV."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from office_helpers import CONFIG

from agent.cli.main import main
from agent.journal import Journal
from agent.protocol.commands import ChargingRecord, ProcessRecord, Segment
from agent.protocol.records import body_of

T_MS = 1_795_305_600_000  # 2026-11-22 08:00:00 at +08:00
BILL = ChargingRecord(
    type=1, number=1, total=1, order="A1", gun=1, account="U1001", start_type=1, start_ms=T_MS, end_ms=T_MS + 60_000,
    meter_start_wh=500_000, meter_end_wh=507_200, energy_wh=7200, stop_reason=3, electricity_fen=720, service_fen=361,
    total_fen=1081, free_used_fen=0, offline=0, template="T7",
    segments=(Segment(T_MS, T_MS + 60_000, 7200, 100_000, 50_139, 720, 361),),
)  # fmt: skip
POINT = ProcessRecord(2, 1, 1, "A1", 1, T_MS + 30_000, 4012, 318, 12758, 55, 212, 31, 285)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pile.toml").write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    return tmp_path


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    """A journal that an agent has open."""
    with closing(filled(folder)) as journal:
        yield journal


def filled(folder: Path) -> Journal:
    journal = Journal.open(folder / "journal.db", T_MS)
    with journal.transaction():
        journal.records.add(3, T_MS, 0, "", "1,version 0.1.0")
        journal.records.add(4, T_MS + 10_000, 2, "", "108,1,gun 2: lock")
        journal.records.add(2, POINT.at_ms, 1, "A1", body_of(POINT))
        journal.records.add(4, T_MS + 40_000, 2, "", "108,0,gun 2: lock is over")
        journal.records.add(1, BILL.end_ms, 1, "A1", body_of(BILL))
        journal.records.add(3, T_MS + 61_000, 1, "A1", "5,gun 1; order A1: ended; full")
    return journal


@pytest.fixture
def show(folder: Path, journal: Journal, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def show(*options: str) -> str:
        assert main(["records", "--config", str(folder / "pile.toml"), *options]) == 0
        return capsys.readouterr().out

    return show


TABLE = """\
time                       type        number  gun  order                 what
2026-11-22T08:00:00+08:00  event            1    -  -                     version 0.1.0
2026-11-22T08:00:10+08:00  alarm            1    2  -                     raised: gun 2: lock
2026-11-22T08:00:30+08:00  process          1    1  A1                    401.2 V, 31.8 A, 12758 W, 55 %, 28.5 °C, 212 Wh, 0.31 yuan
2026-11-22T08:00:40+08:00  alarm            2    2  -                     cleared: gun 2: lock is over
2026-11-22T08:01:00+08:00  charging         1    1  A1                    7.200 kWh, 10.81 yuan, full
2026-11-22T08:01:01+08:00  event            2    1  A1                    gun 1; order A1: ended; full
"""  # noqa: E501


def test_everything_as_a_table_in_the_piles_local_time(show) -> None:  # type: ignore[no-untyped-def]
    assert show() == TABLE


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (["--type", "alarm"], [2, 4]),
        (["--type", "charging"], [5]),
        (["--order", "A1"], [3, 5, 6]),
        (["--order", "nobody's"], []),
        (["--gun", "2"], [2, 4]),
        (["--gun", "0"], [1]),
        (["--since", "2026-11-22T08:00:40"], [4, 5, 6]),
        (["--since", "2026-11-22T00:01:00+00:00"], [5, 6]),
        (["--since", "2026-11-22T00:01:00Z", "--type", "event"], [6]),
        (["--limit", "2"], [5, 6]),
        (["--limit", "0"], [1, 2, 3, 4, 5, 6]),
        (["--order", "A1", "--limit", "1", "--gun", "1"], [6]),
    ],
)
def test_what_is_asked_for(show, options: list[str], lines: list[int]) -> None:  # type: ignore[no-untyped-def]
    rows = TABLE.splitlines()
    assert show(*options).splitlines() == [rows[0], *(rows[number] for number in lines)]


def test_json_has_every_field_by_name(show) -> None:  # type: ignore[no-untyped-def]
    rows = [json.loads(line) for line in show("--json").splitlines()]
    assert rows[0] == {
        "type": "event", "sequence": 1, "time": "2026-11-22T08:00:00+08:00", "at_ms": T_MS, "gun": 0, "order": "",
        "code": 1, "text": "version 0.1.0",
    }  # fmt: skip
    assert rows[1]["raised"] == 1
    assert rows[2]["voltage_dv"] == 4012
    assert {name: rows[4][name] for name in ("order", "total_fen", "stop_reason", "segments")} == {
        "order": "A1", "total_fen": 1081, "stop_reason": 3,
        "segments": [{"start_ms": T_MS, "end_ms": T_MS + 60_000, "energy_wh": 7200, "price": 100_000,
                      "service_fee": 50_139, "electricity_fen": 720, "service_fen": 361}],
    }  # fmt: skip


def test_csv_of_one_type_has_its_fields_as_columns(show) -> None:  # type: ignore[no-untyped-def]
    (row,) = csv.DictReader(show("--csv", "--type", "charging").splitlines())
    assert list(row)[:9] == ["type", "sequence", "time", "at_ms", "gun", "order", "account", "start_type", "start_ms"]
    assert (row["order"], row["energy_wh"], row["total_fen"]) == ("A1", "7200", "1081")
    assert json.loads(row["segments"])[0]["price"] == 100_000


def test_csv_of_all_types_has_what_they_share(show) -> None:  # type: ignore[no-untyped-def]
    rows = list(csv.DictReader(show("--csv").splitlines()))
    assert list(rows[0]) == ["type", "sequence", "time", "at_ms", "gun", "order", "what"]
    assert [(row["type"], row["what"]) for row in rows][3:5] == [
        ("alarm", "cleared: gun 2: lock is over"),
        ("charging", "7.200 kWh, 10.81 yuan, full"),
    ]


def test_a_record_in_a_newer_form_is_shown_as_it_stands(journal: Journal, show) -> None:  # type: ignore[no-untyped-def]
    with journal.transaction():
        journal.records.add(4, T_MS + 99_000, 1, "", "108,1,gun 1: lock,severity 7")
    last = json.loads(show("--json", "--type", "alarm").splitlines()[-1])
    assert last["body"] == "108,1,gun 1: lock,severity 7"
    assert show().splitlines()[-1].endswith("108,1,gun 1: lock,severity 7")


def test_a_stopped_agents_journal_is_read_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(folder).close()
    before = (folder / "journal.db").read_bytes()
    assert main(["records", "--config", str(folder / "pile.toml")]) == 0
    assert capsys.readouterr().out == TABLE
    assert (folder / "journal.db").read_bytes() == before


def test_a_killed_agents_journal_is_read_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = """
import os, sys
from pathlib import Path
from agent.journal import Journal
journal = Journal.open(Path(sys.argv[1]), 0)
with journal.transaction():
    journal.records.add(3, 1795305600000, 0, "", "1,version 0.1.0")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", writer, str(folder / "journal.db")], check=False)
    assert (folder / "journal.db-wal").stat().st_size > 0
    assert main(["records", "--config", str(folder / "pile.toml"), "--type", "event"]) == 0
    assert capsys.readouterr().out.splitlines() == TABLE.splitlines()[:2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--type", "bill"], "invalid choice: 'bill'"),
        (["--since", "yesterday"], "'yesterday': expected a time such as 2026-11-22T08:00:00"),
        (["--limit", "-1"], "'-1': expected an integer from 0"),
        (["--json", "--csv"], "not allowed with argument"),
    ],
)
def test_wrong_usage_is_named(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["records", *options])
    assert said in capsys.readouterr().err


def test_without_a_journal_it_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["records", "--config", str(folder / "pile.toml")]) == 1
    assert capsys.readouterr().err == f"journal {folder}/journal.db: cannot open it: there is no journal here\n"


def test_a_configuration_that_cannot_be_used_has_its_own_exit_code(tmp_path: Path) -> None:
    assert main(["records", "--config", str(tmp_path / "pile.toml")]) == 78


def test_nobody_is_held_up_while_it_reads(journal: Journal, folder: Path) -> None:
    """The agent writes on while a reader stands in the middle of its output."""
    with journal.transaction():
        for number in range(5000):
            journal.records.add(3, T_MS + number, 0, "", f"1,{'x' * 200}")
    command = [sys.executable, "-m", "agent.cli.main", "records", "--limit", "0", "--config", str(folder / "pile.toml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent) as reader:
        assert reader.stdout is not None
        head, first = reader.stdout.readline(), reader.stdout.readline()  # the pipe is full behind them
        with journal.transaction():
            journal.records.add(3, T_MS, 0, "", "1,meanwhile")
        rest = reader.stdout.read()
    assert reader.returncode == 0
    assert (head + first + rest).count(b"\n") == 5007
    assert b"meanwhile" not in rest

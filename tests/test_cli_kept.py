"""``pile-agent tariff`` and ``reservations``: what the platform has set, as a table, JSON or CSV."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from office_helpers import CONFIG

from agent.cli.main import main
from agent.journal import Journal
from agent.pile.parameters import Reservation, Site
from agent.pile.parts import to_json
from agent.pile.state import GunTariff
from agent.pile.tariff import tariff_of

T_S = 1_795_305_600  # 2026-11-22 08:00:00 at +08:00
T7 = tariff_of("T7", [(21600, 79200, 100_000, 50_000), (79200, 21600, 40_000, 30_000)])
Show = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pile.toml").write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    return tmp_path


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    """A journal that an agent has open; nothing is set."""
    with closing(Journal.open(folder / "journal.db", 0)) as journal:
        yield journal


@pytest.fixture
def show(folder: Path, journal: Journal, capsys: pytest.CaptureFixture[str]) -> Show:
    def show(*arguments: str) -> str:
        assert main([*arguments, "--config", str(folder / "pile.toml")]) == 0
        return capsys.readouterr().out

    return show


@pytest.fixture
def filled(journal: Journal) -> None:
    """110 and 102 have come."""
    with journal.transaction():
        journal.put("tariffs", to_json((GunTariff(2, T7),)))
        journal.put("reservations", to_json((Reservation(1, "U1001", T_S, T_S + 3600), Reservation(2, "客,户", 0, 1))))


@pytest.mark.usefixtures("filled")
def test_the_tariffs_as_a_table(show: Show) -> None:
    assert (
        show("tariff")
        == """\
gun 2: tariff T7
  00:00:00-06:00:00  electricity 0.40000, service 0.30000 yuan per kWh
  06:00:00-22:00:00  electricity 1.00000, service 0.50000 yuan per kWh
  22:00:00-24:00:00  electricity 0.40000, service 0.30000 yuan per kWh
"""
    )


@pytest.mark.usefixtures("filled")
def test_the_tariffs_as_csv_a_row_each_period(show: Show) -> None:
    assert (
        show("tariff", "--csv")
        == """\
gun,template,start,end,start_s,end_s,price,service_fee
2,T7,00:00:00,06:00:00,0,21600,40000,30000
2,T7,06:00:00,22:00:00,21600,79200,100000,50000
2,T7,22:00:00,24:00:00,79200,86400,40000,30000
"""
    )


@pytest.mark.usefixtures("filled")
def test_the_tariffs_as_json_a_line_each_period(show: Show) -> None:
    rows = [json.loads(line) for line in show("tariff", "--json").splitlines()]
    assert rows[1] == {
        "gun": 2, "template": "T7", "start": "06:00:00", "end": "22:00:00", "start_s": 21600, "end_s": 79200,
        "price": 100_000, "service_fee": 50_000,
    }  # fmt: skip
    assert len(rows) == 3


@pytest.mark.usefixtures("filled")
def test_the_reservations_as_a_table_in_local_time(show: Show) -> None:
    assert show("reservations").splitlines()[0] == (
        "gun 1: account U1001 from 2026-11-22 08:00:00+08:00 to 2026-11-22 09:00:00+08:00"
    )


def test_a_reservation_that_never_ends_is_shown_on_a_32_bit_board_too(show: Show, journal: Journal) -> None:
    with journal.transaction():
        journal.put("reservations", to_json((Reservation(1, "U1001", T_S, 4_102_444_799),)))
    assert show("reservations").splitlines() == [
        "gun 1: account U1001 from 2026-11-22 08:00:00+08:00 to 2100-01-01 07:59:59+08:00"
    ]


@pytest.mark.usefixtures("filled")
def test_the_reservations_as_csv_and_json_say_the_same(show: Show) -> None:
    rows = list(csv.DictReader(show("reservations", "--csv").splitlines()))
    assert rows[0] == {
        "gun": "1", "account": "U1001", "start": "2026-11-22T08:00:00+08:00", "end": "2026-11-22T09:00:00+08:00",
        "start_s": "1795305600", "end_s": "1795309200",
    }  # fmt: skip
    assert rows[1]["account"] == "客,户"
    objects = [json.loads(line) for line in show("reservations", "--json").splitlines()]
    assert [{name: str(value) for name, value in one.items()} for one in objects] == rows


@pytest.mark.parametrize(
    ("what", "words", "header"),
    [
        ("tariff", "the pile has no tariff: starts are refused",
         "gun,template,start,end,start_s,end_s,price,service_fee"),
        ("reservations", "there are no reservations", "gun,account,start,end,start_s,end_s"),
    ],
)  # fmt: skip
def test_with_nothing_set(show: Show, what: str, words: str, header: str) -> None:
    assert show(what) == f"{words}\n"
    assert show(what, "--csv") == f"{header}\n"
    assert show(what, "--json") == ""


def test_a_public_free_pile_has_one_price_of_nothing_at_each_gun(show: Show, journal: Journal) -> None:
    with journal.transaction():
        journal.put("site", to_json(Site(1, 121.4, 31.2, 12, 3, "ST01", "310000", 3)))
    assert show("tariff", "--csv").splitlines()[1:] == [
        "1,free,00:00:00,24:00:00,0,86400,0,0",
        "2,free,00:00:00,24:00:00,0,86400,0,0",
    ]


def test_the_price_of_the_configuration_counts_until_110_has_set_one(show: Show, folder: Path, filled: None) -> None:
    with (folder / "pile.toml").open("a", encoding="utf-8") as file:
        file.write("[charging]\nprice = 100000\nservice_fee = 50000\n")
    assert show("tariff", "--csv").splitlines()[1:3] == [
        "1,config,00:00:00,24:00:00,0,86400,100000,50000",
        "2,T7,00:00:00,06:00:00,0,21600,40000,30000",
    ]


@pytest.mark.parametrize("what", ["tariff", "reservations"])
def test_what_can_go_wrong(what: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([what, "--config", str(folder / "pile.toml")]) == 1
    assert capsys.readouterr().err == f"journal {folder}/journal.db: cannot open it: there is no journal here\n"
    with pytest.raises(SystemExit, match="2"):
        main([what, "--json", "--csv"])
    assert "not allowed with argument" in capsys.readouterr().err

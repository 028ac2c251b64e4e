"""``pile-agent bill`` for an order that has no bill: it runs, or nobody knows it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from core_helpers import Pile, charging_pile, starting_pile
from office_helpers import CONFIG

from agent.cli.main import main
from agent.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal that an agent has open."""
    (tmp_path / "pile.toml").write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    with closing(Journal.open(tmp_path / "journal.db", 0)) as journal:
        yield journal


def said(journal: Journal, pile: Pile, order: str, capsys: pytest.CaptureFixture[str]) -> str:
    with journal.transaction():
        for key, value in pile.stored.items():
            journal.put(key, value)
    assert main(["bill", order, "--config", str(journal.path.parent / "pile.toml")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_a_charge_that_runs_says_what_it_has_come_to(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    pile = charging_pile()
    pile.pass_time(10)
    pile.charging(1000)
    words = "order A1: no bill yet, gun 1 is charging; at the last checkpoint 1000 Wh, 100 fen\n"
    assert said(journal, pile, "A1", capsys) == words


def test_one_without_current_says_that_it_is_starting(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(journal, starting_pile(), "A1", capsys) == "order A1: no bill yet, gun 1 is starting\n"


def test_an_order_that_is_not_known_says_so(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(journal, charging_pile(), "A2", capsys) == f"order A2: there is no bill in {journal.path}\n"

"""docs/updates.md, drawn from the table of an upgrade's stages."""

from pathlib import Path

from agent.pile.firmware import LOCKED, OVER, REPORTS, STAGES, Stage
from agent.protocol.results import UpdateState
from agent.updates_page import render

PAGE = Path(__file__).parent.parent / "docs" / "updates.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "docs/updates.md is stale: run `make docs`"


def test_every_stage_has_its_row() -> None:
    assert [row.stage for row in STAGES] == list(Stage)


def test_every_state_of_111_but_none_is_shown_by_some_stage() -> None:
    assert {*REPORTS.values()} - {None} == set(UpdateState) - {UpdateState.NONE}


def test_only_what_came_to_nothing_reports_an_error() -> None:
    assert {stage for stage, report in REPORTS.items() if report is None} == OVER - {Stage.COMMITTED}
    assert not LOCKED & OVER

"""A gun's states: the tables the core runs by, and the page that is drawn from them. That nothing else ever happens is
checked by ``core_helpers.Pile`` in every test of the core, on random lives too (test_core_machine)."""

from pathlib import Path

import pytest
from core_helpers import charging_pile, plugged_pile, starting_pile, stopping_pile

from agent.pile.charging import ORDERED, POLLED, RESTING, TIMED
from agent.pile.state import Phase
from agent.pile.status import RESTS, status_of
from agent.protocol.results import GunStatus
from agent.states_page import edges, render

PAGE = Path(__file__).parent.parent / "docs" / "states.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "docs/states.md is stale: run `make docs`"


def test_every_state_of_the_protocol_stands_in_the_tables() -> None:
    shown = {to for row in (*POLLED, *TIMED) for to in row.to} | {rest.status for rest in RESTS}
    assert shown == set(GunStatus)


def test_some_row_holds_for_every_gun_at_rest() -> None:
    pile = plugged_pile()
    assert RESTS[-1].holds(pile.gun(), 0)


@pytest.mark.parametrize("phase", [Phase.CHARGING, Phase.STOPPING])
def test_a_poll_during_current_always_finds_a_row(phase: Phase) -> None:
    *_, last = (row for row in POLLED if row.phase is phase)
    assert last.holds.__name__ == "_always"


@pytest.mark.parametrize(
    ("pile", "status"),
    [
        (plugged_pile, GunStatus.PLUGGED),
        (starting_pile, GunStatus.STARTING),
        (charging_pile, GunStatus.CHARGING),
        (stopping_pile, GunStatus.STOPPING),
    ],
)
def test_what_a_gun_shows(pile, status: GunStatus) -> None:  # type: ignore[no-untyped-def]
    world = pile()
    assert status_of(world.gun(), world.mono_ms) is status


def test_a_charge_is_only_left_for_a_resting_state_or_its_own_next() -> None:
    charges = set(GunStatus) - set(RESTING)
    onward = {(before, to) for before, to, _ in edges() if {before, to} <= charges and before != to}
    starting, charging, stopping = GunStatus.STARTING, GunStatus.CHARGING, GunStatus.STOPPING
    assert onward == {(starting, charging), (starting, stopping), (charging, stopping)}


def test_only_a_start_leads_out_of_rest() -> None:
    into = {order.when for order in ORDERED for before in order.before for to in order.to
            if before in RESTING and to not in RESTING}  # fmt: skip
    assert len(into) == 3
    assert all("starts it" in when for when in into)

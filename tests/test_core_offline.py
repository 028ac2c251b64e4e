"""Charges begun at the pile, by card or button (spec 106, "offline"): allowed, refused, limited, billed."""

from dataclasses import replace

import pytest
from core_helpers import METER_WH, PILE, WALL_MS, Done, Pile, plugged_pile

from agent.pile.actions import StopGun
from agent.pile.events import Delivered
from agent.pile.parameters import BoardSettings, Parameters
from agent.protocol.results import StopReason

ORDER = f"L{PILE}-1-{WALL_MS}"


def offline_pile(allowed: bool = True, records: int = 100, **config: object) -> Pile:
    """A 106 with that permission and record limit is in force."""
    pile = plugged_pile(**config)
    parameters = Parameters(BoardSettings(None), 2, 1000, allowed, records, reservations_allowed=True)
    pile.state = replace(pile.state, parameters=parameters)
    return pile


def card(pile: Pile, used_wh: int = 0, state: str = "charging", gun: int = 1, **values: object) -> Done:
    """A poll of a board that a card or the button has started: it holds no order."""
    return pile.measured(state, gun, **{"order": "", "energy_wh": METER_WH + used_wh} | values)


def test_a_charge_begun_at_the_pile_gets_an_order_of_its_own() -> None:
    pile = offline_pile()
    done = card(pile)
    assert done.jobs == []
    assert done.ends == [f"0,1,{ORDER},3"]
    assert pile.session().order == ORDER
    assert pile.tick().jobs == []
    assert pile.state.guns[1].session is not None


def test_it_is_billed_like_any_other() -> None:
    """3,600 Wh at 0.60 and 0.40 yuan: 216 + 144 fen; start type 5, offline, ended at the pile."""
    pile = offline_pile()
    card(pile)
    pile.pass_time(1800)
    card(pile, 3600)
    done = card(pile, 3600, "ended", stop_reason=StopReason.LOCAL)
    (bill,) = done.bills
    assert (bill.order, bill.account, bill.start_type, bill.offline) == (ORDER, "", 5, 1)
    assert (bill.energy_wh, bill.total_fen, bill.stop_reason) == (3600, 360, 13)
    assert done.ends == [f"0,1,{ORDER},6,13"]


def test_the_energy_of_the_handshake_and_before_the_first_poll_is_billed() -> None:
    pile = offline_pile()
    card(pile, 0, "starting")
    assert pile.session().meter_start_wh == METER_WH
    card(pile, 7)
    (bill,) = card(pile, 9, "ended", stop_reason=StopReason.LOCAL).bills
    assert bill.energy_wh == 9


@pytest.mark.parametrize(
    ("pile", "why"),
    [
        (plugged_pile(), "not allowed"),  # no 106 has ever come
        (offline_pile(allowed=False), "not allowed"),
        (offline_pile(records=0), "0 are allowed"),
        (offline_pile(price=None), "no tariff"),
    ],
)
def test_one_that_is_not_allowed_is_stopped_and_billed_with_reason_9(pile: Pile, why: str) -> None:
    done = card(pile)
    assert done.jobs == [StopGun(1)]
    assert any(why in record.words for record in done.records)
    pile.pass_time(1)
    (bill,) = card(pile, 2, "ended", stop_reason=StopReason.LOCAL).bills
    assert (bill.stop_reason, bill.energy_wh) == (9, 2)


def test_one_at_a_gun_with_a_fault_is_stopped() -> None:
    done = card(offline_pile(), faults=("over_temperature",))
    assert done.jobs == [StopGun(1)]
    assert any("the gun has a fault: over_temperature" in record.words for record in done.records)


def test_the_record_limit_counts_bills_until_everything_is_delivered() -> None:
    pile = offline_pile(records=1)
    card(pile)
    pile.pass_time(1)
    card(pile, 2, "ended", stop_reason=StopReason.LOCAL)
    assert pile.state.offline_bills == 1
    pile.pass_time(60)
    assert card(pile, 2).jobs == [StopGun(1)]
    pile.pass_time(1)
    card(pile, 2, "ended", stop_reason=StopReason.LOCAL)
    pile.take(Delivered())
    pile.pass_time(60)
    assert card(pile, 2).jobs == []


def test_the_count_outlives_a_restart() -> None:
    pile = offline_pile()
    card(pile)
    card(pile, 2, "ended", stop_reason=StopReason.LOCAL)
    pile.restart()
    assert pile.state.offline_bills == 1


def test_the_platform_may_stop_it_by_its_order() -> None:
    pile = offline_pile()
    card(pile)
    assert pile.stop(ORDER).jobs == [StopGun(1)]
    pile.pass_time(1)
    assert card(pile, 2, "ended", stop_reason=StopReason.LOCAL).answers == [(f"stop {ORDER}", f"0,1,{ORDER},6,1")]


def test_it_goes_on_after_a_restart() -> None:
    pile = offline_pile()
    card(pile)
    pile.pass_time(20)
    card(pile, 60)
    pile.restart()
    assert card(pile, 66).jobs == []
    (bill,) = card(pile, 68, "ended", stop_reason=StopReason.LOCAL).bills
    assert (bill.order, bill.energy_wh) == (ORDER, 68)


def test_a_handshake_that_leads_to_nothing_yields_a_bill_of_zero() -> None:
    pile = offline_pile()
    card(pile, 0, "starting")
    (bill,) = pile.after(60).bills
    assert (bill.order, bill.energy_wh, bill.stop_reason) == (ORDER, 0, 11)

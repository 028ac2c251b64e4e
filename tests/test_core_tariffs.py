"""Setting the day's prices (spec 110)."""

from core_helpers import CAP_FEN, Pile, charging_pile, plugged_pile

from agent.pile.actions import StartGun
from agent.pile.money import Price, energy_for_wh

DAY_AND_NIGHT = "2,06:00:00,21:59:59,100000,50000,22:00:00,05:59:59,40000,30000"


def template_of(pile: Pile, gun: int) -> list[str]:
    return [one.tariff.template for one in pile.state.tariffs if one.gun == gun]


def test_a_tariff_for_all_guns() -> None:
    pile = plugged_pile()
    assert pile.command(110, f"T7,0,{DAY_AND_NIGHT}").replies == ["0,T7,0,0"]
    assert (template_of(pile, 1), template_of(pile, 2)) == (["T7"], ["T7"])


def test_a_tariff_for_one_gun() -> None:
    pile = plugged_pile()
    pile.command(110, f"T7,0,{DAY_AND_NIGHT}")
    assert pile.command(110, f"T8,2,{DAY_AND_NIGHT}").replies == ["0,T8,2,0"]
    assert (template_of(pile, 1), template_of(pile, 2)) == (["T7"], ["T8"])


def test_no_such_gun() -> None:
    assert plugged_pile().command(110, f"T7,3,{DAY_AND_NIGHT}").replies == ["12,gun = 3: this pile has 1..2"]


def test_a_running_order_keeps_its_tariff() -> None:
    pile = charging_pile()
    assert pile.command(110, f"T7,1,{DAY_AND_NIGHT}").replies == ["0,T7,1,1"]  # from the next order on
    assert pile.session().tariff.template == "config"
    assert pile.command(110, f"T7,2,{DAY_AND_NIGHT}").replies == ["0,T7,2,0"]


def test_without_any_tariff_a_start_is_refused_and_110_mends_it() -> None:
    pile = plugged_pile(price=None)
    assert pile.start("A1").replies == ["26,the pile has no tariff"]
    pile.command(110, f"T7,0,{DAY_AND_NIGHT}")
    assert pile.start("A2").replies == ["1,1,A2,3"]
    assert pile.session().tariff.template == "T7"


def test_the_board_may_deliver_what_the_cap_buys_at_the_cheapest_hour() -> None:
    """The agent stops the charge at the cap exactly; the board's own limit must never stop it before."""
    pile = plugged_pile()
    pile.command(110, f"T7,0,{DAY_AND_NIGHT}")
    (job,) = pile.start().jobs
    assert job == StartGun(1, "A1", energy_for_wh(CAP_FEN, Price(40_000, 30_000)), 320)


def test_tariffs_outlive_a_restart() -> None:
    pile = plugged_pile()
    pile.command(110, f"T7,0,{DAY_AND_NIGHT}")
    tariffs = pile.state.tariffs
    pile.restart()
    assert pile.state.tariffs == tariffs

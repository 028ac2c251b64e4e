"""A pile that does not know the time, or not for sure: what it bills, refuses, and puts right once it knows."""

from dataclasses import replace

import pytest
from core_helpers import METER_WH, MONO_MS, PILE, WALL_MS, Done, Pile, plugged_pile

from agent.pile.actions import MarkStamps, PutStampsRight, StopGun
from agent.pile.parameters import BoardSettings, Parameters
from agent.pile.state import KnownTime
from agent.protocol.commands import Segment
from agent.protocol.results import StopReason

DAY_AND_NIGHT = "T7,0,2,06:00:00,21:59:59,100000,50000,22:00:00,05:59:59,40000,30000"
DAY, NIGHT = (100_000, 50_000), (40_000, 30_000)
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
TEN_PM_MS = WALL_MS + 14 * HOUR_MS  # the tests begin at 08:00 local time
BOOTED_MS = WALL_MS - MONO_MS  # when the kernel began, if it is 08:00 now


def dark_pile(**config: object) -> Pile:
    """The system's clock says 1970; the pile may charge without the platform."""
    pile = plugged_pile(**config)
    parameters = Parameters(BoardSettings(None), 2, 1000, True, 100, reservations_allowed=True)
    pile.state = replace(pile.state, parameters=parameters)
    lose_time(pile)
    pile.tick()
    return pile


def two_prices(pile: Pile) -> Pile:
    pile.command(110, DAY_AND_NIGHT)
    return pile


def lose_time(pile: Pile) -> None:
    pile.trusted, pile.wall_ms = False, pile.mono_ms


def learn_time(pile: Pile, wall_ms: int, is_estimate: bool = False) -> Done:
    pile.trusted, pile.wall_ms, pile.is_estimate = True, wall_ms, is_estimate
    return pile.tick()


def power_cut(pile: Pile, boot: str = "boot 2") -> None:
    """The kernel starts anew and its clock says 1970; the agent runs 30 s later."""
    pile.boot, pile.mono_ms = boot, 30_000 - 7  # the helper adds these
    lose_time(pile)
    pile.restart(0)
    lose_time(pile)


def card(pile: Pile, used_wh: int = 0, state: str = "charging", **values: object) -> Done:
    return pile.measured(state, **{"order": "", "energy_wh": METER_WH + used_wh} | values)


def flow(pile: Pile, minutes: int, from_wh: int, to_wh: int, order: str = "A1") -> None:
    """A poll each minute of an even flow."""
    for minute in range(1, minutes + 1):
        pile.pass_time(60)
        pile.charging(from_wh + (to_wh - from_wh) * minute // minutes, order=order)


# ---- what may begin


def test_a_local_start_that_cannot_be_priced_is_stopped_and_costs_no_more_than_the_cheapest_hour() -> None:
    pile = two_prices(dark_pile())
    done = card(pile)
    assert done.jobs == [StopGun(1)]
    assert "the time is not known, and tariff T7 has 2 prices" in done.records[0].words
    pile.pass_time(2)
    (bill,) = card(pile, 100, "ended", stop_reason=StopReason.LOCAL).bills
    assert (bill.stop_reason, bill.energy_wh, bill.template) == (9, 100, "T7")
    assert (bill.segments[0].price, bill.segments[0].service_fee) == NIGHT


def test_a_local_start_at_one_price_runs() -> None:
    assert card(dark_pile()).jobs == []


def test_periods_that_cost_the_same_are_one_price() -> None:
    pile = dark_pile()
    pile.command(110, "T8,0,2,06:00:00,21:59:59,100000,50000,22:00:00,05:59:59,100000,50000")
    assert card(pile).jobs == []


def test_a_platform_start_that_cannot_be_priced_is_refused() -> None:
    """Its own stamp was of no use, or the time would be known."""
    pile = two_prices(dark_pile())
    assert pile.start(timestamp=0).replies == ["26,the time is not known; and tariff T7 has 2 prices"]
    assert learn_time(pile, WALL_MS).replies == []
    assert pile.start("A2").replies == ["1,1,A2,3"]


def test_an_order_number_of_its_own_names_the_boot_while_it_has_no_time() -> None:
    pile = dark_pile()
    card(pile)
    assert pile.session().order == f"L{PILE}-1-boot 1-{MONO_MS}"


# ---- what is stale


def test_a_command_expires_by_the_stamp_of_a_later_one() -> None:
    """The stamps of commands say how late it is at least: what is too old by them is too old."""
    pile = dark_pile()
    learn_time(pile, WALL_MS, is_estimate=True)
    assert pile.start(timestamp=WALL_MS - 120_001).replies[0].startswith("15,")


def test_a_stamp_does_not_prove_its_own_command_fresh_nor_old() -> None:
    pile = dark_pile()
    learn_time(pile, WALL_MS, is_estimate=True)  # heard with this very command, which may have waited for hours
    assert pile.start(timestamp=WALL_MS).replies == ["1,1,A1,3"]


# ---- what is put right


def test_a_charge_that_began_without_the_time_has_it_when_its_bill_closes() -> None:
    pile = dark_pile()
    card(pile)
    pile.pass_time(600)
    card(pile, 1000)
    pile.pass_time(1)
    done = learn_time(pile, WALL_MS + 601_000)
    assert done.notes == ["time-known"]
    assert PutStampsRight(BOOTED_MS) in done
    assert pile.session().accepted_ms == WALL_MS
    pile.pass_time(1)
    (bill,) = card(pile, 1000, "ended", stop_reason=StopReason.LOCAL).bills
    assert (bill.start_ms, bill.end_ms) == (WALL_MS, WALL_MS + 602_000)


def test_it_is_put_right_without_any_reading_too() -> None:
    """A start that came to nothing: its bill has no energy, and the time at which it was accepted."""
    pile = dark_pile()
    pile.start(timestamp=0)
    pile.pass_time(10)
    learn_time(pile, WALL_MS + 10_000)
    (bill,) = pile.after(50).bills
    assert (bill.start_ms, bill.end_ms) == (WALL_MS, WALL_MS + 60_000)


def test_a_time_that_was_behind_puts_energy_into_its_right_period() -> None:
    """The first command had waited an hour at the broker: what seemed 21:20 to 21:50 was 22:20 to 22:50."""
    pile = two_prices(dark_pile())
    learn_time(pile, TEN_PM_MS - 40 * MINUTE_MS, is_estimate=True)
    pile.start(balance=5000)
    pile.charging()
    flow(pile, 30, 0, 3000)
    assert pile.gun().ledger.total_fen == 450  # 3 kWh by day
    assert learn_time(pile, pile.wall_ms + HOUR_MS, is_estimate=True).notes == ["time-known"]
    assert pile.gun().ledger.total_fen == 210
    pile.stop()
    pile.pass_time(1)
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 3000).bills
    begin_ms = TEN_PM_MS + 20 * MINUTE_MS
    assert bill.segments == (Segment(begin_ms, begin_ms + 30 * MINUTE_MS + 1000, 3000, *NIGHT, 120, 90),)


def test_the_system_clock_wins_over_a_command_that_was_ahead() -> None:
    pile = dark_pile()
    learn_time(pile, WALL_MS + 5000, is_estimate=True)
    pile.start()
    pile.charging()
    learn_time(pile, WALL_MS)
    assert pile.session().accepted_ms == WALL_MS
    assert pile.state.time == KnownTime("boot 1", BOOTED_MS, is_sure=True)


def test_an_estimate_that_comes_a_little_nearer_moves_nothing() -> None:
    pile = dark_pile()
    learn_time(pile, WALL_MS, is_estimate=True)
    pile.start()
    pile.charging()
    before = pile.state
    assert learn_time(pile, WALL_MS + 999, is_estimate=True).notes == []
    assert pile.state.guns[1].session is before.guns[1].session


def test_a_charge_that_is_put_right_is_as_if_the_time_had_been_known() -> None:
    """From 21:17 to 22:57, 10,000 Wh evenly; known at whatever minute."""
    bills = []
    for minute in (0, 1, 4, 5, 6, 42, 43, 44, 99):
        pile = two_prices(dark_pile())
        learn_time(pile, WALL_MS, is_estimate=True)
        pile.start(balance=5000)
        pile.charging()
        flow(pile, minute, 0, 100 * minute)
        learn_time(pile, TEN_PM_MS + (minute - 43) * MINUTE_MS)
        flow(pile, 100 - minute, 100 * minute, 10_000)
        pile.stop()
        bills += pile.measured("ended", energy_wh=METER_WH + 10_000).bills
    assert {bill.total_fen for bill in bills} == {430 + 215 + 228 + 171}
    assert {bill.segments for bill in bills} == {
        (
            Segment(TEN_PM_MS - 43 * MINUTE_MS, TEN_PM_MS, 4300, *DAY, 430, 215),
            Segment(TEN_PM_MS, TEN_PM_MS + 57 * MINUTE_MS, 5700, *NIGHT, 228, 171),
        )
    }


def test_what_is_kept_for_it_stays_small() -> None:
    pile = dark_pile()
    card(pile)
    for minute in range(1, 601):
        pile.pass_time(60)
        card(pile, minute * 10)
    marks = pile.stored["gun/1"]["ledger"]["unsure"]["marks"]
    assert len(marks) == 151  # one in four minutes: a fifth would lie MARK_MS behind the one before


def test_a_clock_that_is_sure_keeps_nothing() -> None:
    pile = plugged_pile()
    pile.start()
    pile.charging()
    pile.pass_time(10)
    pile.charging(30)
    assert pile.stored["gun/1"]["ledger"]["unsure"] is None
    assert pile.stored["gun/1"]["accepted_mono_ms"] is None


def test_a_clock_that_was_set_back_to_1970_goes_on_from_the_last_stamp() -> None:
    pile = plugged_pile()
    pile.start()
    pile.charging()
    flow(pile, 10, 0, 600)
    lose_time(pile)
    flow(pile, 10, 600, 1200)
    learn_time(pile, WALL_MS + 20 * MINUTE_MS)
    pile.stop()
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 1200).bills
    assert (bill.start_ms, bill.end_ms, bill.energy_wh) == (WALL_MS, WALL_MS + 20 * MINUTE_MS, 1200)


# ---- killed, same kernel


def test_a_kill_forgets_no_stamp_of_this_boot() -> None:
    pile = dark_pile()
    card(pile)
    pile.pass_time(60)
    card(pile, 60)
    pile.restart(seconds=60)
    booted_ms = BOOTED_MS - 7  # what the helper adds to the monotonic clock
    card(pile, 180)
    learn_time(pile, pile.mono_ms + booted_ms)
    (bill,) = card(pile, 180, "ended", stop_reason=StopReason.LOCAL).bills
    assert (bill.start_ms, bill.end_ms) == (WALL_MS - 7, WALL_MS + 120_000)


def test_a_start_has_what_is_left_of_its_time_by_this_boots_clock() -> None:
    pile = dark_pile()
    pile.start(timestamp=0)
    pile.restart(seconds=20)
    assert pile.after(39.9).replies == []
    assert pile.after(0.1).replies == ["29,no current within 60 s"]


# ---- a power cut, and no time after it


def cut_at_half_past_nine() -> Pile:
    """3,500 Wh by day, from 21:00 on; back at 22:30 without the time, the board charges the same order on."""
    pile = two_prices(plugged_pile())
    pile.pass_time(13 * 3600)
    pile.start(balance=5000)
    pile.charging()
    flow(pile, 30, 0, 3500)
    power_cut(pile)
    pile.charging(3500)
    return pile


def test_energy_goes_on_from_the_last_stamp_while_the_time_is_not_known() -> None:
    pile = cut_at_half_past_nine()
    flow(pile, 10, 3500, 4500)
    (segment,) = pile.gun().ledger.segments
    assert (segment.start_ms, segment.end_ms) == (TEN_PM_MS - HOUR_MS, TEN_PM_MS - 20 * MINUTE_MS)
    assert segment.energy_wh == 4500


def test_once_it_is_known_the_energy_goes_where_it_belongs() -> None:
    """3,500 Wh by day: 350 + 175 fen; 1,000 Wh by night: 40 + 30 fen."""
    pile = cut_at_half_past_nine()
    flow(pile, 10, 3500, 4500)
    assert learn_time(pile, TEN_PM_MS + 40 * MINUTE_MS).notes == ["time-known"]
    pile.stop()
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 4500).bills
    assert bill.segments == (
        Segment(TEN_PM_MS - HOUR_MS, TEN_PM_MS, 3500, *DAY, 350, 175),
        Segment(TEN_PM_MS, TEN_PM_MS + 40 * MINUTE_MS, 1000, *NIGHT, 40, 30),
    )


def test_what_flowed_later_is_billed_by_the_time_that_is_known_by_then() -> None:
    pile = cut_at_half_past_nine()
    learn_time(pile, TEN_PM_MS + 30 * MINUTE_MS, is_estimate=True)
    flow(pile, 10, 3500, 4500)
    assert [one.energy_wh for one in pile.gun().ledger.segments] == [3500, 1000]


def test_a_bill_that_closes_without_the_time_says_so_and_stands() -> None:
    pile = cut_at_half_past_nine()
    flow(pile, 10, 3500, 4500)
    done = pile.measured("ended", order="A1", energy_wh=METER_WH + 4500)
    (bill,) = done.bills
    assert (bill.start_ms, bill.end_ms) == (TEN_PM_MS - HOUR_MS, TEN_PM_MS - 20 * MINUTE_MS)
    assert bill.total_fen == 675
    assert done.notes == ["charge-ended", "time-unknown"]
    assert learn_time(pile, TEN_PM_MS + HOUR_MS).bills == []


def test_a_charge_that_the_cut_ended_is_billed_up_to_the_last_stamp() -> None:
    pile = two_prices(plugged_pile())
    pile.start(balance=5000)
    pile.charging()
    flow(pile, 5, 0, 500)
    power_cut(pile)
    (bill,) = pile.measured("plugged", order="", energy_wh=METER_WH + 510).bills
    assert (bill.start_ms, bill.end_ms) == (WALL_MS, WALL_MS + 5 * MINUTE_MS)
    assert (bill.energy_wh, bill.stop_reason) == (510, 10)


def test_a_charge_that_never_had_the_time_ends_before_the_next_boot() -> None:
    """Begun without the time, cut, and the time is known only to the next kernel: more can't be known."""
    pile = dark_pile()
    card(pile)
    pile.pass_time(600)
    card(pile, 1000)
    power_cut(pile)
    pile.pass_time(30)
    learn_time(pile, WALL_MS)
    booted_ms = WALL_MS - 60_000
    (segment,) = pile.gun().ledger.segments
    assert (segment.start_ms, segment.end_ms) == (booted_ms - 600_000, booted_ms)
    card(pile, 1000)
    (bill,) = card(pile, 1000, "ended", stop_reason=StopReason.LOCAL).bills
    assert (bill.start_ms, bill.end_ms) == (booted_ms - 600_000, WALL_MS)


def test_it_may_go_on_through_that_boot_too() -> None:
    pile = dark_pile()
    card(pile)
    pile.pass_time(600)
    card(pile, 1000)
    power_cut(pile)
    card(pile, 1000)
    pile.pass_time(60)
    card(pile, 1100)
    learn_time(pile, WALL_MS)
    (bill,) = card(pile, 1100, "ended", stop_reason=StopReason.LOCAL).bills
    assert (bill.start_ms, bill.end_ms) == (WALL_MS - 90_000 - 600_000, WALL_MS)
    assert bill.energy_wh == 1100


# ---- what the shell is told


@pytest.mark.parametrize("is_known", [True, False])
def test_a_new_boot_is_marked_where_the_time_is_not_known(is_known: bool) -> None:
    pile = plugged_pile()
    pile.boot, pile.trusted = "boot 2", is_known
    done = pile.restart()
    assert (MarkStamps() in done) == (not is_known)
    assert done.notes == ["agent-started"] + ([] if is_known else ["time-unknown"])
    assert pile.tick().actions[:1] != (MarkStamps(),)


def test_stamps_are_put_right_once_from_nothing_to_something() -> None:
    pile = dark_pile()
    assert PutStampsRight(BOOTED_MS) in learn_time(pile, WALL_MS, is_estimate=True)
    done = learn_time(pile, WALL_MS + HOUR_MS)
    assert done.notes == ["time-known"]
    assert not [action for action in done.actions if isinstance(action, PutStampsRight)]


def test_a_clock_that_is_known_from_the_start_is_no_news() -> None:
    assert plugged_pile().restart().notes == ["agent-started"]

"""What a charge is billed: bills worked by hand, meters that lie, power cuts."""

import pytest
from core_helpers import METER_WH, WALL_MS, Pile, charging_pile, plugged_pile, starting_pile

from agent.pile.actions import StopGun
from agent.protocol.commands import Segment
from agent.protocol.results import RecordType, Result

DAY_AND_NIGHT = "T7,0,2,06:00:00,21:59:59,100000,50000,22:00:00,05:59:59,40000,30000"
HOUR_MS = 3_600_000
TEN_PM_MS = WALL_MS + 14 * HOUR_MS  # the tests begin at 08:00 local time


def charge(pile: Pile, *steps: tuple[float, int]) -> None:
    """Polls: so many seconds later, so many Wh used."""
    for seconds, used_wh in steps:
        pile.pass_time(seconds)
        pile.charging(used_wh)


# ---- bills


def test_a_bill_at_one_price() -> None:
    """7,200 Wh at 0.60 and 0.40 yuan per kWh: 7.2 x 60 = 432 fen and 7.2 x 40 = 288 fen."""
    pile = charging_pile()
    charge(pile, (1800, 3600), (1800, 7200))
    pile.stop()
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 7200).bills
    assert (bill.order, bill.gun, bill.account, bill.start_type, bill.template) == ("A1", 1, "ACC", 1, "config")
    assert (bill.meter_start_wh, bill.meter_end_wh, bill.energy_wh) == (500_000, 507_200, 7200)
    assert (bill.electricity_fen, bill.service_fen, bill.total_fen) == (432, 288, 720)
    assert (bill.stop_reason, bill.offline, bill.free_used_fen) == (1, 0, 0)
    assert bill.segments == (Segment(WALL_MS, WALL_MS + HOUR_MS, 7200, 60_000, 40_000, 432, 288),)


def test_a_bill_across_ten_in_the_evening() -> None:
    """From 21:00 to 23:00, 14,000 Wh evenly: 7 kWh by day (700 + 350 fen), 7 kWh by night (280 + 210 fen)."""
    pile = plugged_pile()
    pile.command(110, DAY_AND_NIGHT)
    pile.pass_time(13 * 3600)
    pile.start(balance=5000)
    pile.charging()
    charge(pile, (1800, 3500), (3600, 10_500), (1800, 14_000))  # the second poll lies half an hour past the boundary
    pile.stop()
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 14_000).bills
    assert bill.segments == (
        Segment(TEN_PM_MS - HOUR_MS, TEN_PM_MS, 7000, 100_000, 50_000, 700, 350),
        Segment(TEN_PM_MS, TEN_PM_MS + HOUR_MS, 7000, 40_000, 30_000, 280, 210),
    )
    assert (bill.electricity_fen, bill.service_fen, bill.total_fen) == (980, 560, 1540)


def test_readings_that_waited_to_be_handled_belong_to_the_hour_in_which_they_were_taken() -> None:
    """The same charge, but storage was slow from 21:20 to 23:00, and its polls are handled one after another then."""
    pile = plugged_pile()
    pile.command(110, DAY_AND_NIGHT)
    pile.pass_time(13 * 3600)
    pile.start(balance=5000)
    pile.charging()
    began_ms = pile.mono_ms
    pile.pass_time(2 * 3600)
    for minutes, used_wh in ((30, 3500), (60, 7000), (90, 10_500), (120, 14_000)):
        pile.charging(used_wh, at_ms=began_ms + minutes * 60_000)
    pile.stop()
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 14_000).bills
    assert bill.segments == (
        Segment(TEN_PM_MS - HOUR_MS, TEN_PM_MS, 7000, 100_000, 50_000, 700, 350),
        Segment(TEN_PM_MS, TEN_PM_MS + HOUR_MS, 7000, 40_000, 30_000, 280, 210),
    )


def test_a_charge_begins_when_its_current_was_read_not_when_that_was_handled() -> None:
    pile = starting_pile()
    read_ms = pile.mono_ms
    pile.pass_time(20)
    pile.charging(at_ms=read_ms)
    pile.stop()
    (bill,) = pile.measured("ended").bills
    assert bill.segments[0].start_ms == WALL_MS


def test_the_free_amount_is_used_first() -> None:
    """7,200 Wh cost 720 fen, of which 500 are free."""
    pile = plugged_pile()
    pile.start(balance=5000, free=500)
    charge(pile, (0, 0), (3600, 7200))
    pile.stop()
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 7200).bills
    assert (bill.total_fen, bill.free_used_fen) == (720, 500)


def test_energy_after_the_stop_was_ordered_is_billed_too() -> None:
    pile = charging_pile()
    charge(pile, (3600, 7200))
    pile.stop()
    pile.pass_time(1)
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 7202).bills
    assert bill.energy_wh == 7202


def test_a_free_pile_bills_nothing() -> None:
    pile = plugged_pile()
    pile.command(109, "1,121.4,31.2,12,3,ST01,310000,3")
    pile.start(balance=0)
    charge(pile, (0, 0), (3600, 7200))
    pile.stop()
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 7200).bills
    assert (bill.energy_wh, bill.total_fen, bill.template) == (7200, 0, "free")


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        (lambda pile: pile.after(60), 11),
        (lambda pile: pile.measured("idle"), 5),
        (lambda pile: pile.measured("fault", faults=("insulation",)), 7),
    ],
)
def test_a_start_that_fails_yields_a_bill_of_zero(failing, reason: int) -> None:  # type: ignore[no-untyped-def]
    (bill,) = failing(starting_pile()).bills
    assert (bill.order, bill.energy_wh, bill.total_fen, bill.stop_reason, bill.segments) == ("A1", 0, 0, reason, ())


def test_a_refused_start_yields_none() -> None:
    assert plugged_pile(price=None).start().bills == []


def test_a_cap_that_was_passed_is_said() -> None:
    pile = charging_pile()  # 1000 fen buy 10,008 Wh
    charge(pile, (3600, 10_100))
    done = pile.measured("ended", energy_wh=METER_WH + 10_100)
    assert done.bills[0].total_fen == 1010
    assert "cap-passed" in done.notes


def test_the_cap_counts_the_price_of_the_hour() -> None:
    """10 yuan at 1.00 and 0.50 by day: 6,669 Wh cost 667 + 333 fen, one more costs 667 + 334."""
    pile = plugged_pile()
    pile.command(110, DAY_AND_NIGHT)
    pile.start(balance=1000)
    pile.charging()
    pile.pass_time(3600)
    assert pile.charging(6668, power_w=0).jobs == []
    assert pile.charging(6669, power_w=0).jobs == [StopGun(1)]


def test_a_slow_gun_is_stopped_earlier_the_next_time() -> None:
    pile = charging_pile()
    pile.stop()
    pile.pass_time(6)
    pile.measured("ended")
    assert pile.gun().stop_latency_ms == 6000


# ---- meters


def test_a_meter_that_goes_back_is_not_billed() -> None:
    pile = charging_pile()
    charge(pile, (1800, 3600))
    pile.pass_time(1)
    assert pile.charging(100).alarms == ["+meter-doubtful"]
    pile.pass_time(1)
    assert pile.charging(3602).alarms == ["-meter-doubtful"]
    pile.stop()
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 3602).bills
    assert bill.energy_wh == 3602


def test_a_meter_that_jumps_is_not_billed_and_goes_on_from_there_once_believed() -> None:
    pile = charging_pile(max_power_w=360_000)  # 100 Wh a second
    charge(pile, (60, 600))
    for used_wh in (900_000, 900_010, 900_020, 900_030, 900_040):
        charge(pile, (1, used_wh))
    pile.stop()
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 900_040).bills
    assert bill.energy_wh == 600 + 10  # the jump and the readings until it was believed are the maker's loss


def test_a_missing_reading_is_caught_up_by_the_next() -> None:
    pile = charging_pile()
    charge(pile, (60, 600))
    pile.pass_time(60)
    pile.charging(energy_wh=None)
    charge(pile, (60, 1800))
    pile.stop()
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 1800).bills
    assert bill.energy_wh == 1800


# ---- clocks


@pytest.mark.parametrize("jump_ms", [-20 * HOUR_MS, 20 * HOUR_MS])
def test_setting_the_clock_moves_no_energy_into_another_period(jump_ms: int) -> None:
    pile = plugged_pile()
    pile.command(110, DAY_AND_NIGHT)
    pile.start(balance=5000)
    charge(pile, (0, 0), (600, 1000))
    pile.wall_ms += jump_ms
    charge(pile, (600, 2000))
    pile.stop()
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 2000).bills
    assert bill.segments == (Segment(WALL_MS, WALL_MS + 1_200_000, 2000, 100_000, 50_000, 200, 100),)


# ---- power cuts


def test_the_ledger_is_kept_every_ten_seconds() -> None:
    pile = charging_pile()
    kept = []
    for second in range(1, 31):
        charge(pile, (1, second * 3))
        kept.append(pile.stored["gun/1"]["ledger"]["meter_wh"] - METER_WH)
    assert [kept[9], kept[19], kept[29]] == [30, 60, 90]
    assert len(set(kept)) <= 5


def test_a_charge_that_goes_on_after_a_restart_loses_nothing() -> None:
    pile = charging_pile()
    charge(pile, (15, 30), (5, 45))  # the last 15 Wh are not kept
    pile.restart(seconds=5)
    charge(pile, (1, 60))
    pile.stop()
    (bill,) = pile.measured("ended", energy_wh=METER_WH + 62).bills
    assert (bill.energy_wh, len(bill.segments)) == (62, 1)


def test_a_power_cut_leaves_a_bill_with_reason_10_up_to_the_meters_last_reading() -> None:
    pile = charging_pile()
    charge(pile, (15, 30), (5, 45))
    pile.restart(seconds=1800)
    (bill,) = pile.measured("plugged", order="", energy_wh=METER_WH + 47).bills
    assert (bill.energy_wh, bill.stop_reason) == (47, 10)


def test_a_1970_clock_after_the_cut_loses_no_order() -> None:
    pile = charging_pile()
    charge(pile, (15, 30))
    pile.wall_ms, pile.trusted = 5_000, False
    pile.restart()
    (bill,) = pile.measured("plugged", order="", energy_wh=METER_WH + 33).bills
    assert (bill.order, bill.energy_wh) == ("A1", 33)
    assert bill.start_ms <= bill.end_ms


# ---- process records


def test_a_process_record_each_minute() -> None:
    pile = charging_pile()
    kinds = []
    for _ in range(180):
        pile.pass_time(1)
        kinds += [record.type for record in pile.charging(power_w=7000, soc_pct=40, voltage_dv=3805).records]
    assert kinds == [RecordType.PROCESS] * 3


def test_the_bill_follows_the_reply() -> None:
    pile = charging_pile()
    pile.stop()
    done = pile.measured("ended")
    assert done.replies == ["0,1,A1,6,1"]
    assert [Result.OK.value] * len(done.bills) == [0]

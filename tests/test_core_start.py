"""101, a start: what it needs, how it is answered, and that it happens once."""

from collections.abc import Callable
from typing import Any

import pytest
from core_helpers import (
    CAP_FEN,
    CAP_WH,
    METER_WH,
    PRICE,
    WALL_MS,
    Pile,
    charging_pile,
    plugged_pile,
    start_job,
    starting_pile,
)

from agent.pile.actions import StartGun, StopGun
from agent.pile.board import order_context
from agent.pile.events import Repeated
from agent.pile.money import Price, total_fen
from agent.pile.state import Phase, Request
from agent.protocol.results import Result

# ---- accepted, then OK or not


def test_accepted_at_once_then_ok_when_current_flows() -> None:
    pile = plugged_pile()
    done = pile.start("A1")
    assert done.replies == ["1,1,A1,3"]
    assert done.jobs == [StartGun(1, "A1", CAP_WH, 320)]
    assert pile.job_done(start_job()).replies == []  # written is not yet flowing
    assert pile.measured("starting", order="A1").replies == []
    assert pile.charging().answers == [("start A1", "0,1,A1,4")]
    assert pile.session().phase is Phase.CHARGING


def test_ok_is_said_once() -> None:
    pile = charging_pile()
    assert pile.charging(1).replies == []


def test_start_timeout_at_exactly_sixty_seconds() -> None:
    pile = starting_pile()
    assert pile.after(59.999).replies == []
    done = pile.after(0.001)
    assert done.replies == ["29,no current within 60 s"]
    assert done.jobs == [StopGun(1)]
    assert pile.gun().session is None


def test_a_reading_too_late_times_out_as_well() -> None:
    pile = starting_pile()
    pile.pass_time(60)
    assert pile.measured("starting", order="A1").replies == ["29,no current within 60 s"]


def test_current_at_the_last_moment_counts() -> None:
    pile = starting_pile()
    pile.pass_time(60)
    assert pile.charging().replies == ["0,1,A1,4"]


@pytest.mark.parametrize(
    ("state", "values", "reply"),
    [
        ("fault", {"faults": ("insulation", "lock")}, "24,gun 1: insulation; lock"),
        ("fault", {}, "24,gun 1: no details"),
        ("idle", {}, "20,the car at gun 1 was unplugged"),
    ],
)
def test_a_start_fails_by_what_the_board_reports(state: str, values: dict[str, Any], reply: str) -> None:
    pile = starting_pile()
    done = pile.measured(state, **values)
    assert done.replies == [reply]
    assert done.jobs == [StopGun(1)]  # it may have heard the start and not been heard
    assert pile.gun().session is None


@pytest.mark.parametrize(
    "result", [Result.DEVICE_SILENT, Result.DEVICE_REFUSED, Result.NOT_APPLIED, Result.OUT_OF_RANGE]
)
def test_a_start_that_could_not_be_written_fails_with_the_reason(result: Result) -> None:
    pile = plugged_pile()
    pile.start()
    done = pile.job_done(start_job(), result, "wrote 0001, read back 0000")
    assert done.replies == [f"{result.value},wrote 0001; read back 0000"]
    assert done.jobs == [StopGun(1)]


def test_the_failure_of_an_older_start_does_not_touch_the_next_one() -> None:
    pile = starting_pile("A1")
    pile.after(60)
    pile.start("A2")
    assert pile.job_done(start_job("A1"), Result.DEVICE_SILENT).replies == []
    assert pile.session().order == "A2"


def test_another_orders_current_is_not_taken_for_ours() -> None:
    pile = starting_pile("A1")
    assert pile.charging(order="A0").replies == []
    assert pile.charging(order="").replies == []
    assert pile.session().phase is Phase.STARTING


def test_a_board_without_order_register_is_believed() -> None:
    pile = starting_pile()
    assert pile.measured("charging", order=None).replies == ["0,1,A1,4"]


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("order", ["1" * 16, "1" * 40, "订单 7", "#7"])
def test_the_order_is_known_again_in_whatever_form_the_board_keeps_it(order: str, size: int) -> None:
    pile = starting_pile(order)
    assert pile.measured("charging", order=order_context(order, size)).replies == [f"0,1,{order},4"]


def test_both_guns_charge_side_by_side() -> None:
    pile = charging_pile("A1")
    assert pile.start("B1", gun=2).replies == ["1,2,B1,3"]
    assert pile.charging(order="B1", gun=2).replies == ["0,2,B1,4"]
    assert pile.stop("B1", gun=2).jobs == [StopGun(2)]
    assert pile.session(1).phase is Phase.CHARGING


# ---- what a start needs, in the order in which it is looked at


def rebooting(pile: Pile) -> None:
    pile.command(108, "1")


def silent(pile: Pile) -> None:
    pile.silenced()


def updating(pile: Pile) -> None:
    pile.measured("updating")


def occupied(pile: Pile) -> None:
    pile.start("A0")


def faulty(pile: Pile) -> None:
    pile.measured("plugged", faults=("emergency_stop",))


def flowing(pile: Pile) -> None:
    pile.measured("charging", order="X9")


def unplugged(pile: Pile) -> None:
    pile.measured("idle")


@pytest.mark.parametrize(
    ("hinder", "reply"),
    [
        (rebooting, "25,gun 1 is about to reboot; or rebooting"),
        (silent, "40,the power board of gun 1 does not answer"),
        (updating, "25,gun 1 is being updated"),
        (occupied, "21,gun 1 has order A0"),
        (faulty, "24,gun 1 has a fault: emergency_stop"),
        (flowing, "21,gun 1 is charging"),
        (unplugged, "20,no car is plugged in at gun 1"),
    ],
)
def test_what_stands_in_the_way_of_a_start(hinder: Callable[[Pile], None], reply: str) -> None:
    pile = plugged_pile()
    hinder(pile)
    done = pile.start("A1")
    assert done.replies == [reply]
    assert done.jobs == []
    assert "A1" not in {past.order for past in pile.state.past_orders}  # it may be tried again


def test_a_gun_that_never_answered_is_silent() -> None:
    assert Pile().start().replies == ["40,the power board of gun 1 does not answer"]


def test_no_such_gun() -> None:
    assert plugged_pile().start(gun=3).replies == ["12,gun = 3: this pile has 1..2"]


def test_no_tariff() -> None:
    assert plugged_pile(price=None).start().replies == ["26,the pile has no tariff"]


@pytest.mark.parametrize(
    ("earlier", "later", "reply"),
    [
        (silent, faulty, "24"),  # it answers again, with a fault
        (unplugged, silent, "40"),
        (faulty, rebooting, "25"),
        (unplugged, rebooting, "25"),
    ],
)
def test_of_two_obstacles_the_first_in_the_order_is_named(
    earlier: Callable[[Pile], None], later: Callable[[Pile], None], reply: str
) -> None:
    pile = plugged_pile()
    earlier(pile)
    later(pile)
    assert pile.start().replies[0].startswith(reply + ",")


def test_plug_comes_before_tariff_and_tariff_before_money() -> None:
    pile = plugged_pile(price=None)
    assert pile.start(balance=0).replies[0].startswith("26,")
    pile.measured("idle")
    assert pile.start(balance=0).replies[0].startswith("20,")


# ---- money


@pytest.mark.parametrize(
    ("balance", "prepaid", "free", "cap_fen"),
    [(1000, 0, 0, 1000), (1000, 500, 0, 500), (1000, 500, 30, 530), (0, 0, 30, 30), (1000, 0, 30, 1030)],
)
def test_the_cap_is_prepaid_or_else_balance_plus_free(balance: int, prepaid: int, free: int, cap_fen: int) -> None:
    pile = plugged_pile()
    (job,) = pile.start(balance=balance, prepaid=prepaid, free=free).jobs
    assert isinstance(job, StartGun)
    assert job.energy_limit_wh is not None
    assert total_fen(job.energy_limit_wh, PRICE) <= cap_fen < total_fen(job.energy_limit_wh + 1, PRICE)


def test_all_three_zero_is_insufficient_although_the_first_watt_hours_round_to_nothing() -> None:
    assert plugged_pile().start(balance=0).replies == ["23,cap_fen = 0: expected enough for 1 Wh"]


def test_money_for_less_than_a_watt_hour_is_insufficient() -> None:
    pile = plugged_pile(price=Price(10**9, 0))  # 1000 fen per Wh
    assert pile.start(balance=999).replies == ["23,cap_fen = 999: expected enough for 1 Wh"]
    assert pile.start(balance=1000).replies == ["1,1,A1,3"]


def test_a_free_pile_needs_no_money_and_has_no_cap() -> None:
    pile = plugged_pile(price=Price(0, 0))
    assert pile.start(balance=0).jobs == [StartGun(1, "A1", None, 320)]
    assert pile.session().cap_fen is None


def test_the_meter_counts_from_before_the_start() -> None:
    pile = starting_pile()
    pile.charging(used_wh=20)  # the first reading with current comes when some has flowed
    assert pile.session().meter_start_wh == METER_WH


def test_the_largest_amounts_of_the_wire_are_taken() -> None:
    most = 2**63 - 1
    pile = plugged_pile()
    assert pile.start(balance=most, prepaid=most, free=most).replies == ["1,1,A1,3"]
    pile.restart()
    assert pile.session().cap_fen == 2 * most


# ---- stale


def test_a_start_older_than_two_minutes_is_expired() -> None:
    pile = plugged_pile()
    done = pile.start(timestamp=WALL_MS - 120_001)
    assert done.replies == [f"15,timestamp = {WALL_MS - 120_001}: older than 120 s"]
    assert done.jobs == []
    assert pile.start(timestamp=WALL_MS - 120_000).replies == ["1,1,A1,3"]


def test_a_timestamp_in_seconds_is_understood() -> None:
    pile = plugged_pile()
    assert pile.start(timestamp=WALL_MS // 1000 - 121).replies[0].startswith("15,")
    assert pile.start(timestamp=WALL_MS // 1000 - 120).replies == ["1,1,A1,3"]


@pytest.mark.parametrize("timestamp", [0, -5, -(2**63)])
def test_a_timestamp_of_long_ago_is_expired(timestamp: int) -> None:
    assert plugged_pile().start(timestamp=timestamp).replies[0].startswith("15,")


@pytest.mark.parametrize("timestamp", [WALL_MS + 10**9, 2**63 - 1])
def test_a_timestamp_of_the_future_is_not_stale(timestamp: int) -> None:
    assert plugged_pile().start(timestamp=timestamp).replies == ["1,1,A1,3"]


def test_an_untrusted_clock_expires_nothing() -> None:
    pile = plugged_pile()
    pile.trusted = False
    assert pile.start(timestamp=1).replies == ["1,1,A1,3"]


def test_command_ttl_is_a_setting() -> None:
    assert plugged_pile(command_ttl_s=5).start(timestamp=WALL_MS - 5001).replies[0].startswith("15,")


# ---- once


def test_a_second_start_of_a_starting_order_is_a_duplicate_of_accepted() -> None:
    pile = starting_pile()
    done = pile.start("A1", key="again")
    assert done.answers == [("again", "3,1,1,A1,3")]
    assert done.jobs == []


def test_a_second_start_of_a_running_order_is_a_duplicate_of_ok() -> None:
    pile = charging_pile()
    done = pile.start("A1")
    assert done.replies == ["3,0,1,A1,4"]
    assert done.jobs == []


def test_a_second_start_of_a_finished_order_is_a_duplicate_with_its_stop_reason() -> None:
    pile = charging_pile()
    pile.stop()
    pile.measured("ended", order="A1")
    assert pile.start("A1").replies == ["3,0,1,A1,6,1"]
    assert pile.gun().session is None


def test_a_second_start_of_a_failed_order_is_a_duplicate_of_the_failure() -> None:
    pile = starting_pile()
    pile.after(60)
    assert pile.start("A1").replies == ["3,29,order A1 was tried before"]


def test_a_second_start_of_an_order_stopped_while_it_started_is_a_duplicate_of_that() -> None:
    pile = starting_pile()
    pile.stop()
    assert pile.start("A1").replies == ["3,1,1,A1,5"]  # the start's final reply is still owed
    pile.measured("plugged")
    assert pile.start("A1").replies == ["3,27,order A1 was tried before"]


def test_the_same_order_on_the_other_gun_is_a_duplicate_too() -> None:
    pile = charging_pile("A1")
    assert pile.start("A1", gun=2).replies == ["3,0,1,A1,4"]


def test_a_duplicate_is_seen_although_the_command_is_stale_and_the_money_gone() -> None:
    pile = charging_pile()
    assert pile.start("A1", balance=0, timestamp=1).replies == ["3,0,1,A1,4"]


def test_a_duplicate_of_an_order_on_a_gun_that_was_taken_away() -> None:
    pile = plugged_pile()
    pile.start("B1", gun=2)
    pile.after(60)
    smaller = Pile(plugged_pile(guns=1).config)
    smaller.stored = pile.stored
    smaller.restart()
    assert smaller.start("B1").replies == ["3,29,order B1 was tried before"]


def test_a_repeated_command_is_answered_with_its_first_outcome() -> None:
    pile = charging_pile()
    again = Request(101, "1795305600000", "again")
    assert pile.take(Repeated(again, "0,1,A1,4")).replies == ["3,0,1,A1,4"]
    assert pile.take(Repeated(again, "3,0,1,A1,4")).replies == ["3,0,1,A1,4"]  # the first one was a DUPLICATE itself
    assert pile.take(Repeated(again, "")).replies == []  # its reply, still to come, answers both


# ---- strange orders


def test_an_order_that_would_not_fit_the_replies_is_refused() -> None:
    pile = plugged_pile()
    (reply,) = pile.start("9" * 60_000).replies
    assert reply == f"13,order = {'9' * 64}…: expected at most 1024 bytes"
    assert pile.start("9" * 1024).replies == [f"1,1,{'9' * 1024},3"]


def test_texts_show_a_long_order_in_short() -> None:
    pile = starting_pile("9" * 1024)
    for done in (pile.start("A2"), pile.stop("8" * 60_000), pile.after(60)):
        assert all(len(reply) < 300 for reply in done.replies)


def test_a_start_uses_the_configured_current() -> None:
    (job,) = plugged_pile(current_limit_da=2500).start(balance=CAP_FEN).jobs
    assert job == StartGun(1, "A1", CAP_WH, 2500)

"""101, a stop, and every other way in which a charge ends: by the cap, by the board, by silence."""

from typing import Any

import pytest
from core_helpers import (
    CAP_WH,
    METER_WH,
    PRICE,
    Pile,
    charging_pile,
    plugged_pile,
    start_job,
    starting_pile,
    stopping_pile,
)

from agent.pile.actions import StopGun
from agent.pile.events import LinkChanged
from agent.pile.money import Price, energy_for_wh, total_fen
from agent.pile.state import Phase
from agent.protocol.results import Result, StopReason

PLATFORM, APP = 2, 4

# ---- by command


@pytest.mark.parametrize(("kind", "reason"), [(PLATFORM, 1), (APP, 2)])
def test_a_stop_is_accepted_then_ok_with_its_reason(kind: int, reason: int) -> None:
    pile = charging_pile()
    done = pile.stop(kind=kind)
    assert done.replies == ["1,1,A1,5"]
    assert done.jobs == [StopGun(1)]
    assert pile.measured("stopping", order="A1").replies == []
    assert pile.measured("ended", order="A1").answers == [("stop A1", f"0,1,A1,6,{reason}")]
    assert pile.gun().session is None


def test_a_stop_of_another_order_is_a_mismatch() -> None:
    pile = charging_pile()
    done = pile.stop("A2")
    assert done.replies == ["28,order = A2: gun 1 has A1"]
    assert done.jobs == []
    assert pile.session().phase is Phase.CHARGING


def test_a_stop_without_a_charge_is_refused() -> None:
    assert plugged_pile().stop().replies == ["27,gun 1 is not charging"]


def test_a_stop_after_the_end_is_refused() -> None:
    pile = stopping_pile()
    pile.measured("ended")
    assert pile.stop(key="again").replies == ["27,gun 1 is not charging"]


def test_a_stop_is_never_stale() -> None:
    assert charging_pile().stop(timestamp=1).replies == ["1,1,A1,5"]


def test_a_stop_for_no_such_gun() -> None:
    assert charging_pile().stop(gun=3).replies == ["12,gun = 3: this pile has 1..2"]


def test_a_second_stop_is_answered_with_the_first_and_writes_nothing() -> None:
    pile = charging_pile()
    pile.stop(key="first")
    done = pile.stop(kind=APP, key="second")
    assert done.replies == ["1,1,A1,5"]
    assert done.jobs == []
    assert pile.measured("ended").answers == [("first", "0,1,A1,6,1"), ("second", "0,1,A1,6,1")]


def test_a_stop_reaches_a_charge_whose_board_is_silent() -> None:
    pile = charging_pile()
    pile.silenced()
    done = pile.stop()
    assert done.replies == ["1,1,A1,5"]
    assert done.jobs == [StopGun(1)]


# ---- during starting


def test_a_stop_during_starting_answers_the_start_as_well() -> None:
    pile = starting_pile()
    assert pile.stop().jobs == [StopGun(1)]
    done = pile.measured("plugged")
    assert done.answers == [
        ("start A1", "27,order A1 was stopped before current flowed"),
        ("stop A1", "0,1,A1,6,1"),
    ]


def test_current_after_a_stop_during_starting_is_no_ok_for_the_start() -> None:
    pile = starting_pile()
    pile.stop()
    assert pile.charging().replies == []
    assert pile.session().phase is Phase.STOPPING


def test_a_reading_from_before_the_stop_does_not_end_the_charge() -> None:
    """The start may be on the wire while the reading is on its way: its "plugged" is of before."""
    pile = starting_pile()
    polled_ms = pile.mono_ms
    pile.pass_time(0.1)
    pile.stop()
    assert pile.measured("plugged", at_ms=polled_ms).replies == []
    assert pile.measured("charging", order="A1").replies == []
    assert pile.measured("ended", order="A1").answers[1] == ("stop A1", "0,1,A1,6,1")


# ---- a stop that does not take


def test_a_stop_is_repeated_every_five_seconds() -> None:
    pile = stopping_pile()
    assert pile.after(4.999).jobs == []
    assert pile.after(0.001).jobs == [StopGun(1)]
    assert pile.charging().jobs == []
    pile.pass_time(5)
    assert pile.charging().jobs == [StopGun(1)]  # a reading that shows current does the same


def test_not_applied_after_thirty_seconds_and_it_is_still_tried() -> None:
    pile = stopping_pile()
    assert [reply for _ in range(29) for reply in pile.after(1).replies] == []
    assert pile.after(1).replies == ["42,gun 1 is still charging 30 s after the stop"]
    done = pile.after(5)
    assert done.replies == []
    assert done.jobs == [StopGun(1)]


def test_the_end_of_such_a_charge_is_reported_unasked() -> None:
    pile = stopping_pile()
    pile.after(30)
    done = pile.measured("ended", order="A1")
    assert done.replies == []
    assert done.ends == ["0,1,A1,6,1"]


@pytest.mark.parametrize("result", [Result.DEVICE_SILENT, Result.DEVICE_REFUSED, Result.NOT_APPLIED])
def test_a_stop_that_could_not_be_written_is_told_and_tried_again(result: Result) -> None:
    pile = stopping_pile()
    done = pile.job_done(StopGun(1), result, "no answer")
    assert done.answers == [("stop A1", f"{result.value},no answer")]
    assert done.notes == ["stop-failed"]
    assert pile.after(5).jobs == [StopGun(1)]
    assert pile.session().phase is Phase.STOPPING


def test_a_stop_after_a_failed_one_is_answered_again() -> None:
    pile = stopping_pile()
    pile.job_done(StopGun(1), Result.DEVICE_SILENT)
    assert pile.stop(key="again").replies == ["1,1,A1,5"]
    assert pile.measured("ended").answers == [("again", "0,1,A1,6,1")]


# ---- by the cap


def test_the_cap_is_held_by_prediction() -> None:
    """120 kW for the 3 s that a stop takes are 100 Wh, so 10,008 Wh are cut off from 9,908 on."""
    pile = charging_pile()
    assert pile.charging(CAP_WH - 101, power_w=120_000).jobs == []
    done = pile.charging(CAP_WH - 100, power_w=120_000)
    assert done.jobs == [StopGun(1)]
    assert pile.session().stop_reason is StopReason.AMOUNT_REACHED
    assert pile.measured("ended", order="A1").ends == ["0,1,A1,6,4"]


def test_a_fraction_of_a_watt_hour_counts_whole() -> None:
    """7 kW for 3 s are 5.83 Wh: 6."""
    pile = charging_pile()
    assert pile.charging(CAP_WH - 7, power_w=7_000).jobs == []
    assert pile.charging(CAP_WH - 6, power_w=7_000).jobs == [StopGun(1)]


def test_without_power_only_what_was_used_counts() -> None:
    pile = charging_pile()
    assert pile.charging(CAP_WH - 1, power_w=None).jobs == []
    assert pile.charging(CAP_WH, power_w=None).jobs == [StopGun(1)]


def test_without_a_meter_reading_the_board_alone_holds_the_cap() -> None:
    assert charging_pile().charging(power_w=120_000, energy_wh=None).jobs == []


def test_a_meter_that_was_invalid_at_the_start_counts_from_its_first_reading() -> None:
    pile = plugged_pile()
    pile.measured("plugged", energy_wh=None)
    pile.start()
    pile.charging(energy_wh=None)
    pile.charging(used_wh=30)
    assert pile.session().meter_start_wh == METER_WH + 30


def test_a_free_charge_has_no_cap() -> None:
    pile = plugged_pile(price=Price(0, 0))
    pile.start(balance=0)
    pile.charging()
    assert pile.charging(10**9, power_w=10**6).jobs == []


def test_a_stop_command_after_the_cap_keeps_the_reason() -> None:
    pile = charging_pile()
    pile.charging(CAP_WH, power_w=0)
    assert pile.stop().replies == ["1,1,A1,5"]
    assert pile.measured("ended").answers == [("stop A1", "0,1,A1,6,4")]


@pytest.mark.parametrize("power_w", [1_400, 7_000, 60_000, 120_000, 480_000])
@pytest.mark.parametrize("fen", [100, 101, 999])
def test_a_steady_charge_never_passes_its_money(power_w: int, fen: int) -> None:
    """A poll a second, and a stop that takes 2 s: together the 3 s of stop_latency."""
    pile = plugged_pile()
    pile.start(balance=fen)
    cap_wh = energy_for_wh(fen, PRICE)
    seconds = 0
    while not pile.charging(power_w * seconds // 3600, power_w=power_w).jobs:
        seconds += 1
        pile.pass_time(1)
    used_wh = power_w * (seconds + 2) // 3600
    assert cap_wh is not None
    assert total_fen(used_wh, PRICE) <= fen
    assert used_wh <= cap_wh


# ---- by the board


@pytest.mark.parametrize(
    ("state", "values", "reason"),
    [
        ("ended", {"stop_reason": StopReason.FULL}, 3),
        ("ended", {"stop_reason": StopReason.AMOUNT_REACHED}, 4),
        ("idle", {}, 5),
        ("fault", {"stop_reason": StopReason.EMERGENCY_STOP, "faults": ("emergency_stop",)}, 6),
        ("fault", {}, 7),
        ("plugged", {"faults": ("meter",)}, 7),
        ("updating", {"stop_reason": StopReason.POWER_LOST}, 10),
        ("plugged", {"order": ""}, 10),  # it does not know any more: its power was gone in between
        ("charging", {"order": "A9"}, 10),
        ("charging", {"order": ""}, 10),
    ],
)
def test_a_charge_that_the_board_ends_is_reported_with_the_reason(
    state: str, values: dict[str, Any], reason: int
) -> None:
    pile = charging_pile()
    (report,) = pile.measured(state, **{"order": "A1"} | values).ends
    assert report.startswith("0,1,A1,")
    assert report.endswith(f",{reason}")
    assert pile.gun().session is None


def test_the_report_of_an_end_is_durable() -> None:
    done = charging_pile().measured("ended", order="A1", stop_reason=StopReason.FULL)
    assert [action.durable for action in done.actions if hasattr(action, "durable")] == [True]


def test_a_board_that_lowers_its_current_is_not_over_yet() -> None:
    pile = charging_pile()
    assert pile.measured("stopping", order="A1").reports == []
    assert pile.session().phase is Phase.CHARGING


# ---- silence


def test_a_device_that_falls_silent_does_not_end_its_charge() -> None:
    pile = charging_pile()
    assert pile.silenced().alarms == ["+device-silent"]
    assert pile.silenced().alarms == []
    assert pile.after(299).ends == []
    assert pile.session().phase is Phase.CHARGING
    done = pile.charging(100)
    assert done.alarms == ["-device-silent"]
    assert pile.after(299).ends == []  # the silence is over; the next one would count anew


def test_the_charge_is_closed_after_the_silence_limit() -> None:
    pile = charging_pile()
    pile.silenced()
    done = pile.after(300)
    assert done.ends == ["0,1,A1,8,8"]  # out of service, device silent
    assert pile.gun().session is None


def test_whoever_waits_for_a_stop_is_told_when_the_silence_closes_the_charge() -> None:
    pile = charging_pile()
    pile.silenced()
    pile.pass_time(299)
    pile.stop()
    assert pile.after(1).answers == [("stop A1", "0,1,A1,8,8")]


def test_a_start_fails_with_device_silent_where_the_limit_is_shorter_than_the_timeout() -> None:
    pile = starting_pile(silence_limit_s=10)
    pile.silenced()
    assert pile.after(10).replies == ["40,the power board of gun 1 has been silent for 10 s"]


def test_a_board_that_comes_back_and_still_charges_the_closed_order_is_stopped() -> None:
    pile = charging_pile()
    pile.silenced()
    pile.after(300)
    done = pile.charging(500)
    assert done.jobs == [StopGun(1)]
    assert done.notes == ["charge-without-order"]


# ---- charges nobody ordered


@pytest.mark.parametrize("state", ["starting", "charging"])
def test_a_charge_without_order_is_stopped(state: str) -> None:
    pile = plugged_pile()
    done = pile.measured(state, order="")
    assert done.jobs == [StopGun(1)]
    assert done.notes == ["charge-without-order"]


def test_the_stop_of_a_charge_without_order_is_repeated_every_five_seconds() -> None:
    pile = plugged_pile()
    pile.measured("charging", order="")
    pile.pass_time(4.999)
    assert pile.measured("charging", order="").jobs == []
    pile.pass_time(0.001)
    assert pile.measured("charging", order="").jobs == [StopGun(1)]


def test_current_after_a_failed_start_is_stopped() -> None:
    pile = starting_pile()
    pile.after(60)
    pile.pass_time(5)
    assert pile.charging().jobs == [StopGun(1)]


def test_a_gun_is_free_for_the_next_order_at_once() -> None:
    pile = stopping_pile()
    pile.measured("ended", order="A1")
    assert pile.start("A2").replies == ["1,1,A2,3"]
    assert pile.measured("ended", order="A1").replies == []  # still of the charge before
    pile.job_done(start_job("A2"))
    assert pile.charging(order="A2").replies == ["0,1,A2,4"]


# ---- link


def test_a_lost_link_does_not_stop_a_charge() -> None:
    pile = charging_pile()
    done = pile.take(LinkChanged(False))
    assert done.jobs == []
    assert pile.after(3600).jobs == []
    assert pile.charging(50).jobs == []
    assert pile.session().phase is Phase.CHARGING


def test_a_charge_may_start_and_end_while_the_link_is_down() -> None:
    pile = starting_pile()
    pile.take(LinkChanged(False))
    assert pile.charging().replies == ["0,1,A1,4"]
    assert pile.measured("ended", order="A1", stop_reason=StopReason.FULL).ends == ["0,1,A1,6,3"]


def test_the_order_is_forgotten_after_many_others() -> None:
    pile = Pile()
    pile.measured()
    for number in range(65):
        pile.start(f"A{number}")
        pile.after(60)
    assert pile.start("A1").replies == ["3,29,order A1 was tried before"]
    assert pile.start("A0").replies == ["1,1,A0,3"]  # 64 are remembered; the inbox still knows the command itself

"""What outlives a kill: at every phase of a charge, at every step of a reboot, and as real JSON."""

from dataclasses import replace

import pytest
from core_helpers import (
    METER_WH,
    MONO_MS,
    PRICE,
    WALL_MS,
    Pile,
    charging_pile,
    plugged_pile,
    start_job,
    starting_pile,
    stopping_pile,
)

from agent.pile.actions import ReadVersions, RebootBoards, RebootGun, RebootHost, StopGun
from agent.pile.board import DeviceVersion
from agent.pile.durable import changed_parts, restore
from agent.pile.events import Delivered, VersionsRead
from agent.pile.state import Now, PastOrder, Phase, Settings, new_state
from agent.protocol.results import Result, StopReason

# ---- a start


def test_a_start_that_was_not_written_yet_is_written_after_the_restart() -> None:
    pile = plugged_pile()
    pile.start()
    assert pile.restart().jobs == []  # the board is asked first
    assert pile.measured("plugged").jobs == [start_job()]
    assert pile.measured("plugged").jobs == []
    assert pile.charging().answers == [("start A1", "0,1,A1,4")]


def test_a_start_that_the_board_has_heard_is_not_written_again() -> None:
    pile = starting_pile()
    pile.restart()
    assert pile.measured("starting", order="A1").jobs == []
    assert pile.charging().answers == [("start A1", "0,1,A1,4")]


def test_a_charge_that_began_meanwhile_is_found() -> None:
    pile = starting_pile()
    pile.restart()
    done = pile.charging(3)
    assert done.answers == [("start A1", "0,1,A1,4")]
    assert done.jobs == []
    assert pile.session().meter_start_wh == METER_WH  # the 3 Wh are paid


def test_a_charge_that_ended_meanwhile_does_not_begin_again() -> None:
    pile = starting_pile()
    pile.restart()
    assert pile.measured("ended", order="A1").jobs == []
    assert pile.after(58).replies == ["29,no current within 60 s"]


def test_a_start_has_what_is_left_of_its_time() -> None:
    pile = starting_pile()
    pile.restart(seconds=20)
    assert pile.after(39.999).replies == []
    assert pile.after(0.001).answers == [("start A1", "29,no current within 60 s")]


def test_a_start_whose_time_is_over_waits_for_the_boards_word() -> None:
    pile = starting_pile()
    pile.restart(seconds=90)
    assert pile.tick().replies == []
    assert pile.charging(2).replies == ["0,1,A1,4"]


def test_a_start_whose_time_is_over_fails_when_the_board_says_nothing() -> None:
    pile = starting_pile()
    pile.restart(seconds=90)
    assert pile.after(4.999).replies == []
    done = pile.after(0.001)
    assert done.replies == ["29,no current within 60 s"]
    assert done.jobs == [StopGun(1)]


@pytest.mark.parametrize("jump_s", [-50 * 365 * 86400, -3600, 3600, 50 * 365 * 86400])
def test_a_clock_that_jumped_changes_no_more_than_the_time_left(jump_s: int) -> None:
    pile = starting_pile()
    pile.wall_ms += jump_s * 1000
    pile.trusted = pile.wall_ms >= WALL_MS - 10**9
    pile.restart()
    assert pile.tick().replies == []
    assert pile.charging().replies == ["0,1,A1,4"]


def test_a_clock_that_jumps_while_the_agent_runs_changes_nothing() -> None:
    pile = starting_pile()
    pile.wall_ms -= 50 * 365 * 86400 * 1000
    assert pile.after(59.999).replies == []
    assert pile.after(0.001).replies == ["29,no current within 60 s"]


# ---- a charge


def test_a_charge_goes_on() -> None:
    pile = charging_pile()
    pile.restart(seconds=40)
    assert pile.tick().jobs == []
    assert pile.charging(200).actions[1:] == ()  # but for the note that the board answers
    assert pile.stop().replies == ["1,1,A1,5"]


def test_the_cap_is_held_from_where_the_meter_began() -> None:
    pile = charging_pile()
    pile.charging(9_000)
    pile.restart()
    assert pile.charging(10_008).jobs == [StopGun(1)]


def test_a_charge_that_ended_meanwhile_is_reported() -> None:
    pile = charging_pile()
    pile.restart()
    assert pile.measured("ended", order="A1", stop_reason=StopReason.FULL).ends == ["0,1,A1,6,3"]


def test_a_charge_whose_board_lost_its_power_meanwhile_is_reported() -> None:
    pile = charging_pile()
    pile.restart()
    assert pile.measured("plugged", order="").ends == ["0,1,A1,6,10"]


def test_the_price_of_the_start_stays_although_the_configuration_changed() -> None:
    pile = charging_pile()
    pile.config = replace(pile.config, price=None)
    pile.restart()
    assert pile.session().tariff.prices == (PRICE,)


def test_a_stray_charge_is_stopped_after_a_restart_too() -> None:
    pile = plugged_pile()
    pile.restart()
    assert pile.measured("charging", order="A1").jobs == [StopGun(1)]


# ---- a stop


def test_a_stop_is_written_again_at_once_and_gets_its_time_anew() -> None:
    pile = stopping_pile()
    pile.restart(seconds=300)
    assert pile.tick().jobs == [StopGun(1)]
    assert pile.after(29.999).replies == []
    assert pile.after(5).answers == [("stop A1", "42,gun 1 is still charging 30 s after the stop")]


def test_a_stop_that_took_meanwhile_is_answered() -> None:
    pile = charging_pile()
    pile.stop(kind=4)
    pile.restart()
    assert pile.measured("ended", order="A1").answers == [("stop A1", "0,1,A1,6,2")]


def test_a_stop_during_starting_still_owes_both_replies() -> None:
    pile = starting_pile()
    pile.stop()
    pile.restart()
    assert [key for key, _ in pile.measured("plugged").answers] == ["start A1", "stop A1"]


# ---- orders, settings, versions


def test_a_finished_order_stays_a_duplicate() -> None:
    pile = stopping_pile()
    pile.measured("ended", order="A1")
    pile.restart()
    pile.measured("plugged")
    assert pile.start("A1").replies == ["3,0,1,A1,2,1"]


def test_versions_are_asked_again() -> None:
    pile = plugged_pile()
    pile.command(112, key="asked")
    assert ReadVersions() in pile.restart()
    assert pile.take(VersionsRead((DeviceVersion("board", "1"),))).answers == [("asked", "0,0.1.0,board,1")]
    assert ReadVersions() not in pile.restart()


# ---- a reboot


def test_a_deferred_reboot_is_done_after_a_restart() -> None:
    pile = charging_pile()
    pile.command(108, "1", key="reboot")
    pile.restart()
    assert pile.charging().replies == []
    assert pile.measured("ended", order="A1").answers == [("reboot", "0,1")]
    assert pile.take(Delivered()).jobs == [RebootGun(1)]


def test_a_deferred_reboot_is_done_at_once_when_nothing_charges_after_the_restart() -> None:
    pile = charging_pile()
    pile.command(108, "0", key="reboot")
    pile.stored["gun/1"] = None
    assert pile.restart().answers == [("reboot", "0,0")]


@pytest.mark.parametrize("begun", [False, True])
def test_a_reboot_is_not_repeated_after_the_restart_it_caused(begun: bool) -> None:
    pile = plugged_pile()
    pile.command(108, "0")
    if begun:
        pile.take(Delivered())
    done = pile.restart()
    assert done.replies == []
    later = [pile.take(Delivered()), pile.after(60)]
    assert not any({RebootBoards(), RebootHost()} & set(done.actions) for done in later)


def test_a_deferred_reboot_of_a_gun_that_was_taken_away_is_refused() -> None:
    pile = plugged_pile()
    pile.start("B1", gun=2)
    pile.command(108, "2", key="reboot")
    smaller = Pile(replace(pile.config, guns=1))
    smaller.stored = pile.stored
    assert smaller.restart().answers == [("reboot", "12,gun = 2: this pile has 1..1")]
    assert smaller.restart().answers == []


# ---- the parts themselves


@pytest.mark.parametrize("make", [Pile, plugged_pile, starting_pile, charging_pile, stopping_pile])
def test_a_kill_at_any_phase_loses_nothing_durable(make: type[Pile]) -> None:
    pile = make()
    before = pile.state
    pile.restart()
    assert pile.gun().session == before.guns[1].session
    assert pile.state.settings == before.settings
    assert pile.state.past_orders == before.past_orders


def test_only_what_changed_is_written() -> None:
    pile = plugged_pile()
    before = pile.state
    pile.start()
    assert list(changed_parts(before, pile.state)) == ["gun/1"]
    assert changed_parts(pile.state, pile.state) == {}
    charging = charging_pile()
    before = charging.state
    charging.charging(100)
    assert changed_parts(before, charging.state) == {}  # a poll costs the flash nothing


def test_a_part_that_is_no_more_is_told() -> None:
    pile = stopping_pile()
    before = pile.state
    pile.measured("ended")
    parts = changed_parts(before, pile.state)
    assert parts["gun/1"] is None
    assert parts["past_orders"] == [{"order": "A1", "gun": 1, "result": 0, "stop_reason": 1}]


def test_a_new_pile_is_told_whole() -> None:
    state = new_state(plugged_pile().config, Now(0, 0))
    parts = {"gun/1", "gun/2", "settings", "past_orders", "pending_reboot", "versions_requests"}
    assert parts <= set(changed_parts(None, state))


def test_nothing_stored_is_a_new_pile() -> None:
    now = Now(WALL_MS, MONO_MS)
    config = plugged_pile().config
    assert restore(config, {}, now) == new_state(config, now)


def test_what_a_newer_release_wrote_beside_our_fields_is_left_out() -> None:
    """The release before must run on what this one wrote: a trial may go back."""
    pile = charging_pile()
    pile.command(107, "10,40")
    pile.command(112)
    pile.stored["gun/1"] |= {"weather": [1, 2], "tariff": pile.stored["gun/1"]["tariff"] | {"colour": "red"}}
    pile.stored["settings"]["language"] = "zh"
    pile.stored["versions_requests"][0]["lane"] = 1
    pile.restart()
    assert pile.session().phase is Phase.CHARGING
    assert pile.state.settings == Settings(10, 40)


def test_the_last_orders_come_back_as_they_were() -> None:
    pile = starting_pile()
    pile.after(60)
    pile.restart()
    assert pile.state.past_orders == (PastOrder("A1", 1, Result.START_TIMEOUT, None),)
    assert isinstance(pile.state.past_orders[0].result, Result)

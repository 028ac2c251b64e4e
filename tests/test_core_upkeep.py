"""Heartbeat (100, 107), reboot (108), versions (112), and feeding the watchdogs."""

from typing import Any

import pytest
from core_helpers import WALL_MS, Pile, charging_pile, plugged_pile, starting_pile

from agent.pile.actions import FeedWatchdogs, ReadVersions, RebootBoards, RebootGun, RebootHost, Report
from agent.pile.board import DeviceVersion
from agent.pile.core import HANDLERS
from agent.pile.events import Delivered, LinkChanged, Refused, VersionsRead
from agent.pile.state import Request, Settings
from agent.protocol.commands import COMMANDS
from agent.protocol.results import Result

# ---- 100


def test_100_says_uptime_and_every_guns_status() -> None:
    pile = charging_pile()
    pile.pass_time(12.9)
    assert pile.command(100).replies == ["0,12,2,1,4,2,2"]


@pytest.mark.parametrize(
    ("state", "values", "status"),
    [
        ("idle", {}, 1),
        ("plugged", {}, 2),
        ("ended", {}, 2),  # whose end nobody here has seen
        ("fault", {}, 9),
        ("plugged", {"faults": ("lock",)}, 9),
        ("updating", {}, 10),
    ],
)
def test_a_guns_status_without_a_charge(state: str, values: dict[str, Any], status: int) -> None:
    pile = plugged_pile()
    pile.measured(state, **values)
    assert pile.command(100).replies == [f"0,0,2,1,{status},2,2"]


def test_a_guns_status_through_a_charge() -> None:
    pile = plugged_pile()
    statuses = []
    for step in (
        lambda: pile.start(),
        lambda: pile.charging(),
        lambda: pile.stop(),
        lambda: pile.measured("ended"),
        lambda: pile.measured("idle"),
        lambda: pile.silenced(),
    ):
        step()
        statuses.append(pile.command(100).replies[0].split(",")[4])
    assert statuses == ["3", "4", "5", "6", "1", "8"]


def test_a_heartbeat_goes_out_unasked_every_report_period() -> None:
    pile = plugged_pile()
    assert pile.after(29.999).reports == []
    assert pile.after(0.001).reports == ["100:0,30,2,1,2,2,2"]
    assert pile.after(29.999).reports == []
    assert pile.after(0.001).reports == ["100:0,60,2,1,2,2,2"]


def test_a_heartbeat_is_worthless_later_and_never_stored() -> None:
    (report,) = [action for action in plugged_pile().after(30).actions if isinstance(action, Report)]
    assert not report.durable


def test_a_heartbeat_goes_out_when_the_broker_is_reached() -> None:
    pile = plugged_pile()
    pile.pass_time(7)
    assert pile.take(LinkChanged(True)).reports == ["100:0,7,2,1,2,2,2"]
    assert pile.take(LinkChanged(False)).reports == []


# ---- 107


def test_107_is_in_force_at_once_and_kept() -> None:
    pile = plugged_pile()
    assert pile.command(107, "10,40").replies == ["0,10,40"]
    assert pile.after(9.999).reports == []
    assert pile.after(0.001).reports == ["100:0,10,2,1,2,2,2"]
    pile.restart()
    assert pile.state.settings == Settings(10, 40)


def test_the_report_period_is_thirty_seconds_until_107_says_otherwise() -> None:
    assert Pile().state.settings == Settings(30, 90)


# ---- 112


def test_112_asks_the_devices_and_replies_when_they_have_answered() -> None:
    pile = plugged_pile()
    done = pile.command(112, key="first")
    assert done.replies == []
    assert done.actions == (ReadVersions(),)
    versions = (DeviceVersion("board", "1.4.2"), DeviceVersion("gun-1", "unknown"))
    assert pile.take(VersionsRead(versions)).answers == [("first", "0,0.1.0,board,1.4.2,gun-1,unknown")]


def test_two_that_ask_are_both_answered_and_only_once() -> None:
    pile = plugged_pile()
    pile.command(112, key="first")
    pile.command(112, key="second")
    answer = VersionsRead((DeviceVersion("board", "1"),))
    assert pile.take(answer).answers == [("first", "0,0.1.0,board,1"), ("second", "0,0.1.0,board,1")]
    assert pile.take(answer).answers == []


@pytest.mark.parametrize(("version", "shown"), [("1,4", "1;4"), ("1.4\n", "1.4?"), ("\ufffd", "\ufffd"), ("", "?")])
def test_a_version_that_would_break_the_line_is_made_to_fit(version: str, shown: str) -> None:
    pile = plugged_pile()
    pile.command(112)
    assert pile.take(VersionsRead((DeviceVersion("board", version),))).replies == [f"0,0.1.0,board,{shown}"]


# ---- 108


def test_108_says_ok_first_and_reboots_when_that_is_delivered() -> None:
    pile = plugged_pile()
    done = pile.command(108, "1")
    assert done.replies == ["0,1"]
    assert done.jobs == []
    assert pile.take(Delivered()).jobs == [RebootGun(1)]
    assert pile.take(Delivered()).jobs == []
    assert pile.job_done(RebootGun(1)).actions == ()


def test_108_reboots_after_five_seconds_whether_delivered_or_not() -> None:
    pile = plugged_pile()
    pile.command(108, "1")
    assert pile.after(4.999).jobs == []
    assert pile.after(0.001).jobs == [RebootGun(1)]
    assert pile.after(60).jobs == []


def test_108_with_gun_0_reboots_the_boards_and_then_the_host() -> None:
    pile = plugged_pile()
    assert pile.command(108, "0").replies == ["0,0"]
    assert pile.take(Delivered()).jobs == [RebootBoards()]
    assert RebootHost() in pile.job_done(RebootBoards())


def test_the_host_reboots_although_a_board_did_not_hear() -> None:
    pile = plugged_pile()
    pile.command(108, "0")
    pile.take(Delivered())
    done = pile.job_done(RebootBoards(), Result.DEVICE_SILENT, "board: no answer")
    assert done.replies == ["40,board: no answer"]
    assert RebootHost() in done


def test_a_reboot_that_failed_is_told_after_the_ok() -> None:
    pile = plugged_pile()
    pile.command(108, "1")
    pile.take(Delivered())
    done = pile.job_done(RebootGun(1), Result.DEVICE_REFUSED, "exception 6")
    assert done.replies == ["41,exception 6"]
    assert done.notes == ["reboot-failed"]


@pytest.mark.parametrize("gun", ["0", "1"])
def test_a_reboot_is_deferred_while_its_gun_charges_and_done_once(gun: str) -> None:
    pile = charging_pile()
    assert pile.command(108, gun, key="reboot").replies == [f"2,{gun}"]
    assert pile.charging(10).replies == []
    pile.stop()
    done = pile.measured("ended", order="A1")
    assert done.answers == [("stop A1", "0,1,A1,6,1"), ("reboot", f"0,{gun}")]
    assert len(pile.take(Delivered()).jobs) == 1
    assert pile.after(5).jobs == []
    assert pile.after(60).jobs == []


def test_a_reboot_of_an_idle_gun_does_not_wait_for_the_other() -> None:
    assert charging_pile().command(108, "2").replies == ["0,2"]


def test_a_reboot_waits_for_a_start_that_was_accepted() -> None:
    assert starting_pile().command(108, "1").replies == ["2,1"]


def test_a_reboot_waits_for_a_start_that_fails() -> None:
    pile = starting_pile()
    pile.command(108, "1")
    assert pile.after(60).replies == ["29,no current within 60 s", "0,1"]


@pytest.mark.parametrize(("reboot_gun", "start_gun"), [("0", 1), ("0", 2), ("1", 1)])
def test_no_start_while_a_reboot_is_ordered(reboot_gun: str, start_gun: int) -> None:
    pile = plugged_pile()
    pile.command(108, reboot_gun)
    assert pile.start(gun=start_gun).replies[0].startswith("25,")
    pile.take(Delivered())
    assert pile.start(gun=start_gun).replies[0].startswith("25,")


def test_no_start_on_the_other_gun_either_while_the_whole_pile_waits() -> None:
    pile = charging_pile()
    pile.command(108, "0")
    assert pile.start("B1", gun=2).replies[0].startswith("25,")


def test_the_other_gun_may_start_meanwhile() -> None:
    pile = plugged_pile()
    pile.command(108, "1")
    assert pile.start(gun=2).replies == ["1,2,A1,3"]


def test_a_second_reboot_meanwhile_is_busy() -> None:
    pile = charging_pile()
    pile.command(108, "1", key="first")
    assert pile.command(108, "2", key="second").replies == ["25,another reboot is under way"]


def test_a_rebooting_gun_is_out_of_service_until_it_answers_again() -> None:
    pile = plugged_pile()
    pile.command(108, "1")
    pile.take(Delivered())
    pile.job_done(RebootGun(1))
    pile.pass_time(2.9)
    pile.measured("plugged")  # it may not have gone yet
    assert pile.command(100).replies == ["0,2,2,1,8,2,2"]
    pile.pass_time(0.1)
    pile.measured("plugged")
    assert pile.command(100).replies == ["0,3,2,1,2,2,2"]
    assert pile.start().replies == ["1,1,A1,3"]


def test_a_reboot_older_than_two_minutes_is_expired() -> None:
    pile = plugged_pile()
    assert pile.command(108, "1", timestamp=WALL_MS - 120_001).replies[0].startswith("15,")
    assert pile.take(Delivered()).jobs == []


def test_a_deferred_reboot_does_not_expire() -> None:
    pile = charging_pile()
    pile.command(108, "1")
    pile.pass_time(3600)
    assert pile.measured("ended").replies[-1:] == ["0,1"]


def test_a_reboot_with_an_untrusted_clock_is_done() -> None:
    pile = plugged_pile()
    pile.trusted = False
    assert pile.command(108, "1", timestamp=1).replies == ["0,1"]


def test_a_reboot_of_no_such_gun() -> None:
    assert plugged_pile().command(108, "3").replies == ["12,gun = 3: this pile has 1..2"]


# ---- watchdogs


def test_the_watchdogs_are_fed_at_once_and_then_every_period() -> None:
    pile = Pile()
    assert FeedWatchdogs() in pile.tick()
    assert FeedWatchdogs() not in pile.after(2.999)
    assert FeedWatchdogs() in pile.after(0.001)


def test_nothing_but_the_clock_feeds() -> None:
    pile = plugged_pile()
    pile.pass_time(10)
    assert FeedWatchdogs() not in pile.measured()
    assert FeedWatchdogs() not in pile.command(100)
    assert FeedWatchdogs() in pile.tick()


# ---- faults, and what is not carried out


def test_every_fault_raised_and_cleared_is_noted_once() -> None:
    pile = plugged_pile()
    assert pile.measured("fault", faults=("lock", "meter")).alarms == ["+lock", "+meter"]
    assert pile.measured("fault", faults=("lock",)).alarms == ["-meter"]
    assert pile.measured("fault", faults=("lock",)).alarms == []


def test_every_command_of_the_table_has_a_handler() -> None:
    assert HANDLERS.keys() == COMMANDS.keys()


def test_a_line_that_is_no_command_is_answered_with_what_is_wrong() -> None:
    refused = Refused(Request(101, "17", "k"), Result.MALFORMED, "gun = 'x': expected an integer, 1..n")
    assert plugged_pile().take(refused).replies == ["10,gun = 'x': expected an integer; 1..n"]

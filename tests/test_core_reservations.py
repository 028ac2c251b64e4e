"""102 and 103: a gun kept for an account, and what that means for everybody else."""

from dataclasses import replace

import pytest
from core_helpers import WALL_MS, Pile, charging_pile, plugged_pile

from agent.pile.parameters import BoardSettings, Parameters
from agent.pile.reservations import WINDOWS_MOST
from agent.protocol.results import GunStatus

NOW_S = WALL_MS // 1000
HOUR = 3600
NO_RESERVATIONS = Parameters(BoardSettings(320), 2, 0, True, 0, reservations_allowed=False)


def reserve(pile: Pile, account: str, start_s: int, end_s: int, gun: int = 1) -> list[str]:
    return pile.command(102, f"1,{account},{gun},{start_s},{end_s}").replies


def cancel(pile: Pile, account: str, start_s: int = 0, end_s: int = 0, gun: int = 1) -> list[str]:
    return pile.command(102, f"2,{account},{gun},{start_s},{end_s}").replies


def query(pile: Pile, gun: int = 1) -> str:
    (reply,) = pile.command(103, str(gun)).replies
    return reply


def status(pile: Pile, gun: int = 1) -> int:
    """The gun's status in a heartbeat."""
    (reply,) = pile.command(100).replies
    return int(reply.split(",")[2 + 2 * gun])


def starts(pile: Pile, account: str, order: str = "A1") -> list[str]:
    return pile.command(101, f"1,0000012345,1,{account},1000,0,0,{order}").replies


def reserved_pile(account: str = "U1") -> Pile:
    """Gun 1 is plugged and kept for an account from now on, for an hour."""
    pile = plugged_pile()
    assert reserve(pile, account, NOW_S, NOW_S + HOUR) == [f"0,1,{account},{NOW_S},{NOW_S + HOUR}"]
    return pile


# ---- taking


def test_a_window_is_taken_and_told() -> None:
    pile = plugged_pile()
    assert reserve(pile, "U1", NOW_S + 600, NOW_S + HOUR) == [f"0,1,U1,{NOW_S + 600},{NOW_S + HOUR}"]
    assert query(pile) == f"0,1,1,U1,{NOW_S + 600},{NOW_S + HOUR},{HOUR}"
    assert query(pile, 2) == "0,2,0,,0,0,0"


def test_a_gun_has_several_windows_and_the_next_one_is_told() -> None:
    pile = plugged_pile()
    reserve(pile, "U2", NOW_S + 2 * HOUR, NOW_S + 3 * HOUR)
    reserve(pile, "U1", NOW_S + HOUR, NOW_S + 2 * HOUR)  # they touch, and do not overlap
    assert query(pile).startswith("0,1,1,U1,")
    pile.pass_time(2 * HOUR)
    assert query(pile) == f"0,1,1,U2,{NOW_S + 2 * HOUR},{NOW_S + 3 * HOUR},{HOUR}"


@pytest.mark.parametrize(("start_s", "end_s"), [(-1, 1), (100, 200), (HOUR - 1, HOUR + 1), (-HOUR, 2 * HOUR)])
def test_a_window_that_overlaps_another_accounts_is_refused(start_s: int, end_s: int) -> None:
    pile = plugged_pile()
    reserve(pile, "U1", NOW_S + 2 * HOUR, NOW_S + 3 * HOUR)
    (reply,) = reserve(pile, "U2", NOW_S + 2 * HOUR + start_s, NOW_S + 2 * HOUR + end_s)
    assert reply == f"22,gun 1 is reserved from {NOW_S + 2 * HOUR} until {NOW_S + 3 * HOUR}"
    assert query(pile).startswith("0,1,1,U1,")


def test_the_same_time_at_another_gun_is_free() -> None:
    pile = reserved_pile()
    assert reserve(pile, "U2", NOW_S, NOW_S + HOUR, gun=2)[0].startswith("0,2,U2,")


def test_the_same_account_moves_its_window() -> None:
    pile = plugged_pile()
    reserve(pile, "U1", NOW_S + 600, NOW_S + HOUR)
    reserve(pile, "U1", NOW_S + 2 * HOUR, NOW_S + 3 * HOUR)
    reserve(pile, "U1", NOW_S + 900, NOW_S + HOUR + 900)
    assert [(one.start_s - NOW_S, one.end_s - NOW_S) for one in pile.state.reservations] == [
        (900, HOUR + 900),
        (2 * HOUR, 3 * HOUR),
    ]


@pytest.mark.parametrize("end_s", [NOW_S, NOW_S - 1])
def test_a_window_that_is_over_is_out_of_range(end_s: int) -> None:
    pile = plugged_pile()
    assert reserve(pile, "U1", end_s - 600, end_s) == [f"13,end_s = {end_s}: expected a time after now {NOW_S}"]


def test_a_window_needs_an_account() -> None:
    assert reserve(plugged_pile(), "", NOW_S, NOW_S + HOUR) == ["13,account: expected 1..256 bytes"]


def test_a_gun_that_charges_for_another_account_cannot_be_reserved_from_now_on() -> None:
    pile = charging_pile()
    assert reserve(pile, "U1", NOW_S, NOW_S + HOUR) == ["21,gun 1 is charging for another account"]
    assert reserve(pile, "U1", NOW_S + 1, NOW_S + HOUR)[0].startswith("0,")


def test_106_can_forbid_them_and_those_taken_stay() -> None:
    pile = reserved_pile("U1")
    pile.state = replace(pile.state, parameters=NO_RESERVATIONS)
    assert reserve(pile, "U2", NOW_S + HOUR, NOW_S + 2 * HOUR) == ["14,reservations are switched off (106)"]
    assert starts(pile, "U2")[0].startswith("22,")
    assert cancel(pile, "U1")[0].startswith("0,1,U1,")


def test_an_unknown_gun() -> None:
    pile = plugged_pile()
    assert reserve(pile, "U1", NOW_S, NOW_S + HOUR, gun=3) == ["12,gun = 3: this pile has 1..2"]
    assert query(pile, 3) == "12,gun = 3: this pile has 1..2"


def test_their_number_has_a_limit() -> None:
    pile = plugged_pile()
    for number in range(1, WINDOWS_MOST + 1):
        assert reserve(pile, "U1", NOW_S + number * HOUR, NOW_S + number * HOUR + 60)[0].startswith("0,")
    assert reserve(pile, "U1", NOW_S, NOW_S + 60)[0].startswith("13,")
    assert reserve(pile, "U1", NOW_S, NOW_S + 60, gun=2)[0].startswith("0,")


# ---- cancelling


def test_a_window_is_cancelled_by_its_times() -> None:
    pile = plugged_pile()
    reserve(pile, "U1", NOW_S + HOUR, NOW_S + 2 * HOUR)
    reserve(pile, "U1", NOW_S + 3 * HOUR, NOW_S + 4 * HOUR)
    done = cancel(pile, "U1", NOW_S + HOUR, NOW_S + 2 * HOUR)
    assert done == [f"0,1,U1,{NOW_S + HOUR},{NOW_S + 2 * HOUR}"]
    assert query(pile).startswith(f"0,1,1,U1,{NOW_S + 3 * HOUR},")


def test_without_times_all_of_the_accounts_are_cancelled() -> None:
    pile = plugged_pile()
    reserve(pile, "U1", NOW_S + HOUR, NOW_S + 2 * HOUR)
    reserve(pile, "U2", NOW_S + 2 * HOUR, NOW_S + 3 * HOUR)
    reserve(pile, "U1", NOW_S + 3 * HOUR, NOW_S + 4 * HOUR)
    assert cancel(pile, "U1") == [f"0,1,U1,{NOW_S + HOUR},{NOW_S + 4 * HOUR}"]
    assert query(pile).startswith("0,1,1,U2,")


def test_what_is_not_there_cannot_be_cancelled() -> None:
    pile = reserved_pile("U1")
    assert cancel(pile, "U2") == ["30,gun 1 has no such reservation of this account"]
    assert cancel(pile, "U1", NOW_S + HOUR, NOW_S + 2 * HOUR) == ["30,gun 1 has no such reservation of this account"]
    assert cancel(pile, "U1", gun=2) == ["30,gun 2 has no such reservation of this account"]


def test_a_cancelled_window_frees_the_gun_at_once() -> None:
    pile = reserved_pile("U1")
    cancel(pile, "U1")
    assert status(pile) == GunStatus.PLUGGED
    assert starts(pile, "U2")[0].startswith("1,")


# ---- while a window is open


def test_nobody_else_starts_in_the_window() -> None:
    pile = reserved_pile("U1")
    assert starts(pile, "U2") == ["22,gun 1 is reserved for another account"]
    assert pile.gun().session is None


def test_before_and_after_the_window_everybody_starts() -> None:
    pile = plugged_pile()
    reserve(pile, "U1", NOW_S + 60, NOW_S + 120)
    assert starts(pile, "U2", "A1")[0].startswith("1,")
    pile.stop("A1")
    pile.measured("plugged")
    pile.pass_time(120)
    assert starts(pile, "U3", "A2")[0].startswith("1,")


def test_its_own_account_starts_and_has_used_it_once_current_flows() -> None:
    pile = reserved_pile("U1")
    assert starts(pile, "U1") == ["1,1,A1,3"]
    assert query(pile).startswith("0,1,1,U1,")  # a start that comes to nothing leaves it
    done = pile.charging()
    assert "reservation-used" in done.notes
    assert query(pile) == "0,1,0,,0,0,0"
    pile.stop()
    pile.measured("ended", order="A1")
    assert starts(pile, "U2", "A2")[0].startswith("1,")


def test_a_start_that_fails_leaves_the_reservation() -> None:
    pile = reserved_pile("U1")
    starts(pile, "U1")
    pile.after(60)  # no current
    assert query(pile).startswith("0,1,1,U1,")
    assert starts(pile, "U2", "A2")[0].startswith("22,")


def test_the_status_is_reserved_while_the_gun_is_idle_or_plugged() -> None:
    pile = reserved_pile("U1")
    assert status(pile) == GunStatus.RESERVED
    pile.measured("idle")
    assert status(pile) == GunStatus.RESERVED
    pile.measured("fault", faults=("lock",))
    assert status(pile) == GunStatus.FAULT
    pile.measured("plugged")
    pile.after(HOUR)
    assert status(pile) == GunStatus.PLUGGED


def test_a_window_opens_and_expires_by_the_clock_and_says_so() -> None:
    pile = plugged_pile()
    reserve(pile, "U1", NOW_S + 60, NOW_S + 120)
    assert pile.after(59.999).notes == []
    assert status(pile) == GunStatus.PLUGGED
    assert pile.after(0.001).notes == ["reservation-open"]
    assert status(pile) == GunStatus.RESERVED
    assert pile.after(60).notes == ["reservation-expired"]
    assert pile.state.reservations == ()


def test_the_charge_of_another_account_goes_on_when_a_window_opens_and_that_is_said() -> None:
    pile = charging_pile()
    reserve(pile, "U1", NOW_S + 60, NOW_S + 2 * HOUR)
    done = pile.after(60)
    assert done.notes == ["reservation-open"]
    assert "the charge of another account goes on" in done.records[0].body
    assert done.jobs == []
    assert status(pile) == GunStatus.CHARGING
    pile.stop()
    pile.measured("ended", order="A1")
    pile.measured("idle")
    assert status(pile) == GunStatus.RESERVED


def test_the_accounts_own_charge_that_runs_when_its_window_opens_uses_it() -> None:
    pile = charging_pile()  # account ACC
    reserve(pile, "ACC", NOW_S + 60, NOW_S + HOUR)
    assert pile.after(60).notes == ["reservation-open", "reservation-used"]
    assert pile.state.reservations == ()


# ---- across restarts, and without a clock


def test_reservations_outlive_a_restart() -> None:
    pile = reserved_pile("U1")
    pile.restart()
    pile.measured("plugged")
    assert starts(pile, "U2")[0].startswith("22,")
    assert query(pile) == f"0,1,1,U1,{NOW_S},{NOW_S + HOUR},{HOUR - 2}"


def test_a_window_that_was_over_while_the_pile_was_off_has_expired() -> None:
    pile = reserved_pile("U1")
    assert "reservation-expired" in pile.restart(2 * HOUR).notes
    assert query(pile) == "0,1,0,,0,0,0"


def test_without_a_clock_no_window_opens_or_expires() -> None:
    pile = reserved_pile("U1")
    pile.trusted, pile.wall_ms = False, 0
    pile.restart()
    pile.measured("plugged")
    assert status(pile) == GunStatus.PLUGGED
    assert query(pile) == f"0,1,1,U1,{NOW_S},{NOW_S + HOUR},0"  # time left: not known
    pile.trusted, pile.wall_ms = True, WALL_MS
    assert pile.tick().notes == ["time-known", "reservation-open"]
    assert status(pile) == GunStatus.RESERVED


def test_what_is_open_stays_open_when_the_clock_is_lost() -> None:
    pile = reserved_pile("U1")
    pile.trusted, pile.wall_ms = False, 0
    pile.after(2 * HOUR)
    assert starts(pile, "U2")[0].startswith("22,")


def test_without_a_clock_any_window_is_taken() -> None:
    pile = plugged_pile()
    pile.trusted, pile.wall_ms = False, 0
    assert reserve(pile, "U1", NOW_S, NOW_S + HOUR)[0].startswith("0,")

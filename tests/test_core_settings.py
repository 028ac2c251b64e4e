"""106 and 109: checked whole, put to the boards and to the server, then in force all at once or not at all."""

from typing import Any

import pytest
from core_helpers import WALL_MS, Done, Pile, charging_pile, plugged_pile

from agent.pile.actions import SetGun, StartGun, TryServer, UseServer
from agent.pile.events import GunSet, LinkChanged, ServerTried
from agent.pile.parameters import BoardSettings, Parameters, Server, ShownQrCode
from agent.pile.state import Request
from agent.protocol.results import GunStatus, Result

OWN = Server("10.0.0.1", 1883)
FIELDS = {
    "phase": 3, "max_current_a": 40, "mode": 2, "offline": 1, "offline_records": 100, "guns": 2, "gun_uses": 1000,
    "reservation": 1, "screen_account": "admin", "screen_password": "HASH", "heartbeat_s": 20,
    "server_ip": "10.0.0.1", "server_port": 1883, "qr_codes": "0",
}  # fmt: skip
WANTED = BoardSettings(400, "cc", "three")
HAD = BoardSettings(2500, "cv", "single")


def configured(pile: Pile, key: str = "", **changes: Any) -> Done:
    """A 106 comes, as the desk hands it over: with the hash for the password."""
    return pile.command(106, ",".join(str(value) for value in (FIELDS | changes).values()), key=key)


def sets(done: Done) -> list[SetGun]:
    return [action for action in done.actions if isinstance(action, SetGun)]


def answered(pile: Pile, *jobs: SetGun, result: Result = Result.OK, before: BoardSettings = HAD) -> Done:
    """The boards answer; all that came of it."""
    done = [pile.take(GunSet(job, before, result, "wrote 0190, read back 0140")) for job in jobs]
    return Done(tuple(action for one in done for action in one.actions))


def idle_pile(**config: Any) -> Pile:
    return plugged_pile(broker=OWN, **config)


def busy_pile() -> Pile:
    """Gun 1 charges, gun 2 is plugged."""
    return charging_pile(broker=OWN)


def pile_in_force(**changes: Any) -> Pile:
    """A 106 is in force."""
    pile = idle_pile()
    done = answered(pile, *sets(configured(pile, key="first", **changes)))
    assert done.answers == [("first", "0")]
    return pile


def in_force(pile: Pile) -> Parameters:
    assert pile.state.parameters is not None
    return pile.state.parameters


# ---- checked whole


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"guns": 3}, "guns: expected 1..2; as many as the power boards have"),
        ({"max_current_a": 5}, "max_current_a: expected 6..250; what the power boards can keep"),
        ({"max_current_a": 251}, "max_current_a: expected 6..250; what the power boards can keep"),
        ({"qr_codes": "1,3,a,b,3"}, "qr_codes.gun: expected 1..2; one of the guns"),
        ({"guns": 1, "qr_codes": "1,3,a,b,2"}, "qr_codes.gun: expected 1..1; one of the guns"),
        ({"server_ip": "10.0.0.1 "}, "server_ip: expected a host's name or address"),
    ],
)
def test_a_value_out_of_range_refuses_the_whole(changes: dict[str, Any], text: str) -> None:
    pile = idle_pile(current_range_da=(60, 2500))
    before = pile.state
    done = configured(pile, **changes)
    assert done.replies == [f"13,{text}"]
    assert sets(done) == []
    assert (pile.state.parameters, pile.state.settings) == (None, before.settings)


# ---- put to the boards


def test_every_guns_board_is_set_and_then_all_is_in_force_at_once() -> None:
    pile = idle_pile()
    done = configured(pile, key="C", qr_codes="1,9,pay?a=1,2,1")
    assert done.answers == [("C", "1")]
    request = Request(106, str(WALL_MS), "C")
    assert sets(done) == [SetGun(1, WANTED, request), SetGun(2, WANTED, request)]
    assert answered(pile, sets(done)[0]).replies == []
    assert pile.state.parameters is None
    assert answered(pile, sets(done)[1]).answers == [("C", "0")]
    assert in_force(pile) == Parameters(
        WANTED, 2, 1000, True, 100, True, "admin", "HASH", (ShownQrCode(1, "pay?a=1,2"),)
    )


def test_the_heartbeat_is_107s() -> None:
    pile = pile_in_force(heartbeat_s=20)
    assert (pile.state.settings.report_period_s, pile.state.settings.report_timeout_s) == (20, 90)
    pile.take(LinkChanged(True))
    assert pile.after(19.999).reports == []
    assert [report[:4] for report in pile.after(0.001).reports] == ["100:"]


def test_a_timeout_shorter_than_the_period_becomes_three_periods() -> None:
    pile = pile_in_force(heartbeat_s=91)
    assert pile.state.settings.report_timeout_s == 273


def test_a_start_has_the_new_limit() -> None:
    pile = pile_in_force(max_current_a=40)
    (job,) = pile.start().jobs
    assert isinstance(job, StartGun)
    assert job.current_limit_da == 400


@pytest.mark.parametrize(
    "result", [Result.NOT_APPLIED, Result.DEVICE_SILENT, Result.DEVICE_REFUSED, Result.OUT_OF_RANGE]
)
def test_a_board_that_does_not_take_it_refuses_the_whole(result: Result) -> None:
    pile = idle_pile()
    jobs = sets(configured(pile, key="C"))
    answered(pile, jobs[0])
    done = answered(pile, jobs[1], result=result)
    assert done.answers == [("C", f"{result.value},wrote 0190; read back 0140")]
    assert pile.state.parameters is None
    assert sets(done) == [SetGun(1, HAD), SetGun(2, HAD)]  # both get back what they had


def test_the_boards_get_back_what_is_in_force() -> None:
    pile = pile_in_force()
    jobs = sets(configured(pile, mode=1, max_current_a=16))
    done = answered(pile, *jobs, result=Result.NOT_APPLIED)
    assert sets(done) == [SetGun(1, WANTED), SetGun(2, WANTED)]
    assert in_force(pile).board == WANTED


def test_a_board_out_of_reach_is_put_back_when_it_answers() -> None:
    pile = pile_in_force()
    jobs = sets(configured(pile, mode=1))
    back = sets(answered(pile, *jobs, result=Result.DEVICE_SILENT))
    pile.silenced(2)
    assert sets(answered(pile, *back, result=Result.DEVICE_SILENT)) == []
    assert sets(pile.after(30)) == [SetGun(1, WANTED)]  # gun 2 is silent
    assert sets(pile.measured("plugged", 2)) == [SetGun(2, WANTED)]
    answered(pile, SetGun(1, WANTED), SetGun(2, WANTED))
    assert [pile.gun(number).owed for number in (1, 2)] == [None, None]


def test_a_board_that_answers_again_gets_what_is_in_force() -> None:
    pile = pile_in_force()
    pile.silenced(1)
    assert sets(pile.measured("plugged")) == [SetGun(1, WANTED)]


def test_boards_get_back_what_they_had_after_a_restart_too() -> None:
    """The first 106 ever failed: no parameters are in force that would say what the boards are owed."""
    pile = idle_pile()
    first, second = sets(configured(pile))
    answered(pile, first)
    answered(pile, second, result=Result.NOT_APPLIED)
    pile.restart()
    assert sets(pile.measured("plugged")) == [SetGun(1, HAD)]
    assert sets(pile.measured("plugged", 2)) == [SetGun(2, HAD)]
    answered(pile, SetGun(1, HAD), SetGun(2, HAD))
    assert pile.state.owed == ()
    pile.restart()
    assert sets(pile.measured("plugged")) == []


def test_a_restarted_agent_brings_its_boards_up_to_date() -> None:
    pile = pile_in_force()
    assert sets(pile.restart()) == []  # not before they answer
    assert sets(pile.measured("plugged")) == [SetGun(1, WANTED)]
    assert sets(pile.measured("charging", 2)) == []  # a stray charge: the board would refuse it
    assert in_force(pile).screen_login == "HASH"


def test_a_board_that_refuses_what_is_in_force_is_said_once() -> None:
    pile = pile_in_force()
    pile.silenced(1)
    pile.measured("plugged")
    done = answered(pile, SetGun(1, WANTED), result=Result.NOT_APPLIED)
    assert done.notes == ["board-not-set"]
    assert sets(pile.after(29.999)) == []
    assert sets(pile.after(0.001)) == [SetGun(1, WANTED)]
    assert answered(pile, SetGun(1, WANTED), result=Result.NOT_APPLIED).notes == []


# ---- while a gun charges


def test_mode_and_phases_wait_for_the_gun_that_charges() -> None:
    pile = busy_pile()
    done = configured(pile, key="C")
    assert done.answers == [("C", "2")]
    (job,) = sets(done)
    assert job.gun == 2  # the idle one has it at once
    assert answered(pile, job).replies == []
    assert pile.state.parameters is None
    pile.stop()
    ended = pile.measured("ended", order="A1")
    assert [one.gun for one in sets(ended)] == [1]
    assert answered(pile, *sets(ended)).answers == [("C", "0")]


def test_the_limit_alone_waits_for_nobody() -> None:
    pile = pile_in_force()
    pile.start()
    pile.charging()
    done = configured(pile, key="C", max_current_a=16)
    assert done.answers == [("C", "1")]
    assert [job.settings for job in sets(done)] == [BoardSettings(160)] * 2
    answered(pile, *sets(done))
    assert in_force(pile).board == BoardSettings(160, "cc", "three")


def test_a_later_106_takes_the_place_of_one_that_waits() -> None:
    pile = busy_pile()
    answered(pile, *sets(configured(pile, key="C1")), before=HAD)
    done = configured(pile, key="C2", mode=1)
    assert done.answers == [("C1", "42,a later 106 has taken its place"), ("C2", "2")]
    failed = answered(pile, *sets(done), result=Result.NOT_APPLIED, before=WANTED)
    assert failed.answers == [("C2", "42,wrote 0190; read back 0140")]
    assert sets(failed) == [SetGun(2, HAD)]  # as it was before both


def test_a_106_while_another_is_at_work_is_busy() -> None:
    pile = idle_pile()
    configured(pile, key="C1")
    assert configured(pile, key="C2").answers == [("C2", "25,another 106 is being carried out")]


def test_one_that_waits_outlives_a_restart() -> None:
    pile = busy_pile()
    answered(pile, *sets(configured(pile, key="C")))
    pile.restart()
    pile.charging()
    pile.stop()
    done = pile.measured("ended", order="A1")
    assert [one.gun for one in sets(done)] == [1]
    assert answered(pile, *sets(done)).answers == [("C", "0")]


def test_one_at_work_is_done_anew_after_a_restart() -> None:
    pile = idle_pile()
    configured(pile, key="C")
    done = pile.restart()
    assert [job.gun for job in sets(done)] == [1, 2]
    assert answered(pile, *sets(done)).answers == [("C", "0")]


def test_a_gun_that_reboots_is_waited_for() -> None:
    pile = idle_pile()
    pile.command(108, "1")
    done = configured(pile, key="C")
    assert done.answers == [("C", "2")]
    assert [job.gun for job in sets(done)] == [2]


# ---- the server


def test_another_server_is_tried_once_the_boards_are_set() -> None:
    pile = idle_pile()
    new = Server("10.0.0.2", 1884)
    jobs = sets(configured(pile, key="C", server_ip="10.0.0.2", server_port=1884))
    done = answered(pile, *jobs)
    assert TryServer(new) in done
    assert done.replies == []
    done = pile.take(ServerTried(new, True))
    assert done.answers == [("C", "0")]
    assert UseServer(new) in done
    assert pile.state.server == new
    pile.restart()
    assert pile.state.server == new


def test_a_server_that_is_not_reached_refuses_the_whole() -> None:
    pile = idle_pile()
    new = Server("10.0.0.2", 1883)
    jobs = sets(configured(pile, key="C", server_ip="10.0.0.2"))
    answered(pile, *jobs)
    done = pile.take(ServerTried(new, False, "nobody listens, there"))
    text = "the server was not reached and 10.0.0.1:1883 is kept: nobody listens; there"
    assert done.answers == [("C", f"42,{text}")]
    assert sets(done) == [SetGun(1, HAD), SetGun(2, HAD)]
    assert (pile.state.server, pile.state.parameters) == (None, None)


def test_the_server_in_force_needs_no_trial_and_an_empty_one_keeps_it() -> None:
    pile = pile_in_force(server_ip="10.0.0.1")
    assert pile.state.server is None
    done = configured(pile, server_ip="", server_port=1999, max_current_a=10)
    assert not [one for one in answered(pile, *sets(done)).actions if isinstance(one, TryServer)]


def test_a_trial_is_begun_anew_after_a_restart() -> None:
    pile = idle_pile()
    answered(pile, *sets(configured(pile, key="C", server_ip="10.0.0.2")))
    done = pile.restart()
    assert TryServer(Server("10.0.0.2", 1883)) in done
    assert sets(done) == []
    assert pile.take(ServerTried(Server("10.0.0.2", 1883), True)).answers == [("C", "0")]


def test_a_trial_that_nobody_waits_for_changes_nothing() -> None:
    pile = idle_pile()
    before = pile.state
    assert pile.take(ServerTried(Server("10.0.0.2", 1883), True)).actions == ()
    assert pile.state == before


# ---- what is kept, and fewer guns


def test_what_is_left_empty_stays() -> None:
    pile = pile_in_force(qr_codes="1,3,a,b,2")
    done = configured(pile, screen_account="", screen_password="", qr_codes="0", gun_uses=7)
    answered(pile, *sets(done))
    kept = in_force(pile)
    assert (kept.screen_account, kept.screen_login, kept.gun_uses) == ("admin", "HASH", 7)
    assert kept.qr_codes == (ShownQrCode(2, "a,b"),)


def test_fewer_guns_put_the_others_out_of_service() -> None:
    pile = pile_in_force(guns=1)
    (reply,) = pile.command(100).replies
    assert reply.endswith(f"2,1,{GunStatus.PLUGGED.value},2,{GunStatus.OUT_OF_SERVICE.value}")
    assert pile.start(gun=2).replies == ["12,gun = 2: 106 has taken it out of service"]
    reserved = pile.command(102, f"1,U1,2,{WALL_MS // 1000},{WALL_MS // 1000 + 60}")
    assert reserved.replies == ["12,gun = 2: 106 has taken it out of service"]
    answered(pile, *sets(configured(pile, guns=2)))
    assert pile.start(gun=2).replies == ["1,2,A1,3"]


# ---- 109

SITE = "1,121.4737,31.2304,12,3,ST01,310000"


def test_the_site_is_kept() -> None:
    pile = idle_pile()
    assert pile.command(109, f"{SITE},4").replies == ["0"]
    pile.restart()
    assert pile.state.site is not None
    assert (pile.state.site.longitude, pile.state.site.station, pile.state.site.operation) == (121.4737, "ST01", 4)


@pytest.mark.parametrize("operation", [1, 2, 4])
def test_a_pile_that_is_not_free_needs_tariff_and_money(operation: int) -> None:
    pile = idle_pile(price=None)
    pile.command(109, f"{SITE},{operation}")
    assert pile.start().replies[0].startswith("26,")


def test_a_public_and_free_pile_needs_neither_tariff_nor_money() -> None:
    pile = idle_pile(price=None)
    pile.command(109, f"{SITE},3")
    done = pile.start(balance=0)
    assert done.replies == ["1,1,A1,3"]
    (job,) = done.jobs
    assert isinstance(job, StartGun)
    assert job.energy_limit_wh is None


def test_a_running_charge_keeps_its_price() -> None:
    pile = charging_pile()
    tariff = pile.session().tariff
    pile.command(109, f"{SITE},3")
    assert pile.session().tariff == tariff

"""Upgrades in the core (113, 114, 111): every stage, every refusal, and what a restart goes on with."""

from dataclasses import replace
from typing import Any

import pytest
from core_helpers import CONFIG, Done, Pile, charging_pile, plugged_pile

from agent.pile.actions import AskInstaller, DropFirmware, FetchFirmware, FlashBoard, KeepLogin, RestartAgent
from agent.pile.events import (
    FirmwareFailed,
    FirmwareFetched,
    FirmwareProgress,
    FlashDone,
    FlashProgress,
    InstallerAnswered,
    LinkChanged,
)
from agent.pile.firmware import Boot, ImageFile, Kind, Stage, Step
from agent.pile.status import status_of
from agent.pile.upgrade import GATE_MS, MOST_COMMITS, MOST_RESTARTS, PATIENCE_MS, SETTLE_MS, TICKET_MS
from agent.protocol.results import GunStatus, Result

ANNOUNCED = "127.0.0.1:2121,pile,,1,0.1.0,R9"
ORDERED = "0.2.0,R9,/firmware/pile-0.2.0.bundle,1024"
RELEASE = ImageFile(Kind.AGENT, "0.2.0", ("PB-200",), 4096, 0x11223344, "/f/job/download")
BOARD = ImageFile(Kind.POWER_BOARD, "0.2.0", ("PB-200",), 4096, 0x11223344, "/f/images/b1")


def upgradable(pile: Pile | None = None) -> Pile:
    pile = pile or plugged_pile()
    pile.config = replace(pile.config, can_update=True)
    pile.take(LinkChanged(True))
    return pile


def ordered(pile: Pile | None = None) -> Pile:
    pile = upgradable(pile)
    pile.command(113, ANNOUNCED)
    pile.command(114, ORDERED, key="the 114")
    return pile


def fetched(image: ImageFile = RELEASE, pile: Pile | None = None) -> Pile:
    pile = ordered(pile)
    pile.take(FirmwareProgress("R9", 0, is_verifying=True))
    pile.take(FirmwareFetched("R9", image))
    return pile


def installer(pile: Pile, step: Step, result: Result = Result.OK, text: str = "") -> Done:
    return pile.take(InstallerAnswered(step, result, text))


def armed() -> Pile:
    pile = fetched()
    installer(pile, Step.STAGE)
    return pile


def restart(pile: Pile, version: str, **boot: Any) -> Done:
    """The agent is started as that release, and has not heard from its boards or its broker yet."""
    pile.config = replace(pile.config, version=version)
    return pile.restart(boot=Boot(**boot))


def on_trial() -> Pile:
    pile = armed()
    installer(pile, Step.ARM)
    restart(pile, "0.2.0", trial="0.2.0")
    return pile


def stage(pile: Pile) -> Stage:
    assert pile.state.upgrade is not None
    return pile.state.upgrade.stage


def steps(done: Done) -> list[Step]:
    return [action.do for action in done.actions if isinstance(action, AskInstaller)]


def asked_111(pile: Pile) -> str:
    return pile.command(111).replies[0]


# ---- 113 ----


def test_113_keeps_the_login_and_waits_for_114() -> None:
    done = upgradable().command(113, ANNOUNCED)
    assert done.replies == ["0,R9,1"]
    assert [(one.record_id, one.account) for one in done.actions if isinstance(one, KeepLogin)] == [("R9", "pile")]


def test_113_with_need_2_asks_for_nothing() -> None:
    done = upgradable().command(113, "127.0.0.1,pile,,2,0.1.0,R9")
    assert done.replies == ["0,R9,0"]
    assert not [one for one in done.actions if isinstance(one, KeepLogin)]


def test_need_2_takes_back_a_113_that_waits_and_its_login() -> None:
    pile = upgradable()
    pile.command(113, ANNOUNCED)
    pile.pass_time(1)
    assert DropFirmware(()) in pile.command(113, "127.0.0.1,pile,,2,0.1.0,R9")
    assert pile.command(114, ORDERED).replies == ["50,record id = R9: no 113 waits for its 114"]


def test_need_2_of_another_record_leaves_it_alone() -> None:
    pile = upgradable()
    pile.command(113, ANNOUNCED)
    pile.command(113, "127.0.0.1,pile,,2,0.1.0,R8")
    assert pile.command(114, ORDERED).replies == ["1,R9,0.2.0"]


def test_a_later_113_takes_the_place_of_one_that_waits() -> None:
    pile = upgradable()
    pile.command(113, ANNOUNCED)
    pile.command(113, "127.0.0.1,pile,,1,0.1.0,R10")
    assert pile.command(114, ORDERED).replies == ["50,record id = R9: the last 113 has R10"]


def test_another_running_version_than_113_believes_is_noted_and_decides_nothing() -> None:
    done = upgradable().command(113, "127.0.0.1,pile,,1,0.0.7,R9")
    assert (done.replies, done.notes) == (["0,R9,1"], ["version-differs"])


def test_113_is_not_supported_without_a_place_to_install_to() -> None:
    text = "firmware.install_dir is not set: this pile can't be upgraded"
    assert plugged_pile().command(113, ANNOUNCED).replies == [f"14,{text}"]


def test_a_113_whose_114_does_not_come_is_forgotten_with_its_login() -> None:
    pile = upgradable()
    pile.command(113, ANNOUNCED)
    assert DropFirmware(()) in pile.after(TICKET_MS / 1000)
    assert pile.command(114, ORDERED).replies == ["50,record id = R9: no 113 waits for its 114"]


def test_a_113_outlives_a_restart() -> None:
    pile = upgradable()
    pile.command(113, ANNOUNCED)
    pile.restart()
    assert pile.command(114, ORDERED).replies == ["1,R9,0.2.0"]


@pytest.mark.parametrize("number", [113, 114])
def test_an_upgrade_order_that_is_stale_is_not_carried_out(number: int) -> None:
    pile = upgradable()
    data = {113: ANNOUNCED, 114: ORDERED}[number]
    sent = pile.wall_ms - 121_000
    assert pile.command(number, data, sent).replies == [f"15,timestamp = {sent}: older than 120 s"]


# ---- 114 ----


def test_114_without_113_has_no_credentials() -> None:
    assert upgradable().command(114, ORDERED).replies == ["50,record id = R9: no 113 waits for its 114"]


def test_114_is_accepted_told_by_111_and_fetched() -> None:
    pile = upgradable()
    pile.command(113, ANNOUNCED)
    done = pile.command(114, ORDERED)
    assert done.replies == ["1,R9,0.2.0"]
    assert done.reports == ["111:0,R9,0.2.0,2,0"]
    assert done.notes == ["upgrade-begun"]
    (fetch,) = [one.upgrade for one in done.actions if isinstance(one, FetchFirmware)]
    assert (fetch.ticket.address, fetch.path, fetch.packet_bytes) == (
        "127.0.0.1:2121", "/firmware/pile-0.2.0.bundle", 1024,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        ("../0.2.0,R9,/f,1024", "13,version = ../0.2.0: expected 1 to 32 letters; digits; . _ + or -"),
        (".hidden,R9,/f,1024", "13,version = .hidden: expected 1 to 32 letters; digits; . _ + or -"),
        ("0.2.0,R9,,1024", "13,path: expected the file's path on the FTP server"),
        ("0.2.0,R9,/f,65537", "13,packet length = 65537: expected 1..65536"),
    ],
)
def test_114_out_of_range(data: str, reply: str) -> None:
    pile = upgradable()
    pile.command(113, ANNOUNCED)
    assert pile.command(114, data).replies == [reply]
    assert pile.command(114, ORDERED).replies == ["1,R9,0.2.0"], "nothing was half done"


def test_another_order_during_an_upgrade_is_busy() -> None:
    pile = ordered()
    text = "25,the upgrade with record id R9 is under way"
    pile.pass_time(1)
    assert pile.command(113, ANNOUNCED).replies == [text]
    assert pile.command(114, "0.3.0,R10,/f,1024").replies == [text]
    assert stage(pile) is Stage.DOWNLOADING


def test_the_same_114_stamped_anew_is_a_duplicate() -> None:
    pile = ordered()
    pile.pass_time(1)
    assert pile.command(114, ORDERED).replies == ["3,1,R9,0.2.0"]


def test_after_a_failure_the_same_record_may_be_tried_again() -> None:
    pile = ordered()
    pile.take(FirmwareFailed("R9", Result.FTP_UNREACHABLE, "nobody there"))
    pile.pass_time(1)
    assert pile.command(114, ORDERED).replies == ["50,record id = R9: no 113 waits for its 114"]
    assert pile.command(113, ANNOUNCED).replies == ["0,R9,1"]
    assert pile.command(114, ORDERED).replies == ["1,R9,0.2.0"]


def test_a_record_that_is_in_force_is_a_duplicate() -> None:
    pile = fetched(replace(RELEASE, version=CONFIG.version))
    pile.pass_time(1)
    assert pile.command(114, ORDERED).replies == ["3,0,R9,0.2.0"]
    pile.command(113, "127.0.0.1,pile,,1,0.1.0,R10")
    pile.pass_time(1)
    assert pile.command(114, ORDERED).replies == ["3,0,R9,0.2.0"], "whatever else is announced"


# ---- 111, and the file ----


def test_111_without_any_upgrade() -> None:
    assert asked_111(upgradable()) == "0,,0.1.0,0,0"


def test_111_while_114_is_awaited() -> None:
    pile = upgradable()
    pile.command(113, ANNOUNCED)
    assert asked_111(pile) == "0,R9,0.1.0,0,0"


def test_progress_is_told_in_steps_and_on_request() -> None:
    pile = ordered()
    assert pile.take(FirmwareProgress("R9", 20)).reports == [], "not twice in a second"
    pile.pass_time(1)
    assert pile.take(FirmwareProgress("R9", 9)).reports == []
    assert pile.take(FirmwareProgress("R9", 10)).reports == ["111:0,R9,0.2.0,2,10"]
    assert pile.take(FirmwareProgress("R9", 14)).reports == []
    assert asked_111(pile) == "0,R9,0.2.0,2,14"
    assert pile.take(FirmwareProgress("R9", 0, is_verifying=True)).reports == ["111:0,R9,0.2.0,3,0"]


def test_progress_of_another_record_changes_nothing() -> None:
    pile = ordered()
    pile.take(FirmwareProgress("R8", 50))
    pile.take(FirmwareFailed("R8", Result.NO_SPACE, "late news"))
    assert asked_111(pile) == "0,R9,0.2.0,2,0"


def test_a_file_that_fails_ends_the_upgrade() -> None:
    pile = ordered()
    done = pile.take(FirmwareFailed("R9", Result.NOT_AUTHENTIC, "signed by nobody known"))
    assert done.answers == [("the 114", "55,signed by nobody known")]
    assert done.reports == ["111:0,R9,0.2.0,55,0"]
    assert (done.notes, DropFirmware(()) in done) == (["upgrade-failed"], True)
    assert asked_111(pile) == "0,R9,0.2.0,55,0"


def test_the_release_that_runs_is_in_force_already() -> None:
    pile = ordered()
    done = pile.take(FirmwareFetched("R9", replace(RELEASE, version="0.1.0")))
    assert done.answers == [("the 114", "0,R9,0.2.0")]
    assert steps(done) == []


# ---- the agent's own release ----


def test_a_release_is_staged_armed_tried_and_committed() -> None:
    pile = ordered()
    assert steps(pile.take(FirmwareFetched("R9", RELEASE))) == [Step.STAGE]
    done = installer(pile, Step.STAGE)
    assert (steps(done), done.reports) == ([Step.ARM], ["111:0,R9,0.2.0,1,0", "111:0,R9,0.2.0,5,0"])
    assert RestartAgent() in installer(pile, Step.ARM)
    restart(pile, "0.2.0", trial="0.2.0")
    assert stage(pile) is Stage.TRIAL
    pile.take(LinkChanged(True))
    pile.measured("plugged", 1)
    assert steps(pile.tick()) == [], "gun 2 has not answered yet"
    pile.measured("plugged", 2)
    assert steps(pile.tick()) == [Step.COMMIT]
    done = installer(pile, Step.COMMIT)
    assert done.answers == [("the 114", "0,R9,0.2.0")]
    assert done.reports == ["111:0,R9,0.2.0,6,100"]
    assert asked_111(pile) == "0,R9,0.2.0,6,100"
    (past,) = pile.state.past_upgrades
    assert (past.record_id, past.kind, past.version, past.result) == ("R9", "agent", "0.2.0", Result.OK)


def test_what_did_not_work_before_need_not_work_in_the_trial() -> None:
    """A pile whose broker is away and whose gun 2 is broken can be upgraded all the same."""
    pile = fetched()
    pile.pass_time(SETTLE_MS / 1000)
    pile.silenced(2)
    pile.take(LinkChanged(False))
    installer(pile, Step.STAGE)
    installer(pile, Step.ARM)
    restart(pile, "0.2.0", trial="0.2.0")
    pile.measured("plugged", 1)
    assert steps(pile.tick()) == [Step.COMMIT]


def test_a_trial_that_does_not_get_ready_ends_the_process_with_its_reason() -> None:
    pile = on_trial()
    pile.measured("plugged", 1)
    pile.measured("plugged", 2)
    reason = RestartAgent("the broker is not reached within 120 s")
    assert reason not in pile.after(GATE_MS / 1000 - 1)
    assert reason in pile.after(1)


def test_a_board_that_is_lost_in_the_trial_is_a_reason_too() -> None:
    pile = on_trial()
    pile.take(LinkChanged(True))
    pile.measured("plugged", 1)
    assert RestartAgent("the power board of gun 2 does not answer within 120 s") in pile.after(GATE_MS / 1000)


def test_a_trial_goes_on_after_a_kill() -> None:
    pile = on_trial()
    restart(pile, "0.2.0", trial="0.2.0")
    assert stage(pile) is Stage.TRIAL
    both = "the broker is not reached and the power board of gun 1, 2 does not answer within 120 s"
    assert RestartAgent(both) in pile.after(GATE_MS / 1000)


def test_a_commit_whose_answer_was_lost_is_asked_for_again() -> None:
    pile = on_trial()
    pile.take(LinkChanged(True))
    for gun in (1, 2):
        pile.measured("plugged", gun)
    pile.tick()
    assert stage(pile) is Stage.COMMITTING
    restart(pile, "0.2.0")
    for gun in (1, 2):
        pile.measured("plugged", gun)
    pile.take(LinkChanged(True))
    assert steps(pile.tick()) == [Step.COMMIT]
    assert installer(pile, Step.COMMIT).replies == ["0,R9,0.2.0"]


def test_the_old_release_tells_why_the_new_one_was_rolled_back() -> None:
    pile = on_trial()
    done = restart(pile, "0.1.0", failed=(("0.2.0", "3 starts, none got ready"),))
    assert done.answers == [("the 114", "60,3 starts; none got ready")]
    assert done.reports == ["111:0,R9,0.2.0,60,0"]
    assert steps(done) == [Step.DROP]


def test_a_crash_at_the_first_start_of_the_trial_is_rolled_back_too() -> None:
    """The new release never got to say that it was on trial."""
    pile = armed()
    installer(pile, Step.ARM)
    done = restart(pile, "0.1.0", failed=(("0.2.0", "ended with exit code 1"),))
    assert done.answers == [("the 114", "60,ended with exit code 1")]


def test_restarts_that_do_not_begin_the_trial_end_it() -> None:
    """An agent that is not started by the launcher."""
    pile = armed()
    for _ in range(MOST_RESTARTS - 1):
        assert RestartAgent() in installer(pile, Step.ARM)
        assert steps(restart(pile, "0.1.0", trial="0.2.0")) == [Step.ARM]
    installer(pile, Step.ARM)
    done = restart(pile, "0.1.0", trial="0.2.0")
    text = "59,3 restarts did not begin the trial: is the agent started by the launcher?"
    assert (done.answers, steps(done)) == ([("the 114", text)], [Step.DROP])


@pytest.mark.parametrize("step", [Step.STAGE, Step.ARM])
def test_what_the_installer_refuses_ends_the_upgrade(step: Step) -> None:
    pile = fetched()
    if step is Step.ARM:
        installer(pile, Step.STAGE)
    done = installer(pile, step, Result.INSTALL_FAILED, "the self-test said no")
    assert (done.answers, steps(done)) == ([("the 114", "59,the self-test said no")], [Step.DROP])
    assert stage(pile) is Stage.FAILED


def test_a_commit_that_fails_for_good_gives_the_trial_back() -> None:
    pile = on_trial()
    pile.take(LinkChanged(True))
    for gun in (1, 2):
        pile.measured("plugged", gun)
    pile.tick()
    for _ in range(MOST_COMMITS - 1):
        installer(pile, Step.COMMIT, Result.NO_SPACE, "disk full")
        assert steps(pile.after(30)) == [Step.COMMIT]
    done = installer(pile, Step.COMMIT, Result.NO_SPACE, "disk full")
    assert RestartAgent("could not be made final: disk full") in done


# ---- idle guns ----


def test_a_charge_defers_it_and_its_end_lets_it_go_on() -> None:
    pile = fetched(pile=charging_pile())
    done = installer(pile, Step.STAGE)
    assert (done.answers, done.reports, steps(done)) == ([("the 114", "2,R9,0.2.0")], ["111:0,R9,0.2.0,1,0"], [])
    pile.stop()
    assert steps(pile.measured("ended")) == [Step.ARM]


def test_charges_begin_while_it_waits_but_not_for_ever() -> None:
    pile = fetched(pile=charging_pile())
    installer(pile, Step.STAGE)
    assert pile.start("A2", 2).replies == ["1,2,A2,3"]
    pile.measured("ended", 2)
    pile.pass_time(PATIENCE_MS / 1000)
    text = "25,an upgrade is being installed; or has waited long for idle guns"
    assert pile.start("A3", 2).replies == [text]


def test_it_waits_for_a_reboot_that_was_ordered() -> None:
    pile = fetched(pile=charging_pile())
    pile.command(108, "1")
    installer(pile, Step.STAGE)
    pile.stop()
    assert steps(pile.measured("ended")) == []
    assert stage(pile) is Stage.WAITING


@pytest.mark.parametrize("pile", [armed(), on_trial(), fetched(BOARD)], ids=["arming", "trial", "flashing"])
def test_guns_are_locked(pile: Pile) -> None:
    for gun in pile.state.guns.values():
        assert status_of(gun, pile.mono_ms) is GunStatus.UPDATING
    pile.measured("plugged")
    assert pile.start().replies == ["25,an upgrade is being installed; or has waited long for idle guns"]


def test_a_reboot_waits_for_locked_guns() -> None:
    pile = fetched(BOARD)
    assert pile.command(108, "0").replies == ["2,0"]


# ---- the power board ----


def test_a_power_board_is_flashed_and_committed() -> None:
    pile = ordered()
    done = pile.take(FirmwareFetched("R9", BOARD))
    assert FlashBoard(BOARD, 1024, None) in done
    assert done.reports == ["111:0,R9,0.2.0,1,0", "111:0,R9,0.2.0,4,0"]
    pile.pass_time(1)
    assert pile.take(FlashProgress(50)).reports == ["111:0,R9,0.2.0,4,50"]
    assert steps(pile.take(FlashDone(Result.OK, "", "0.2.0"))) == [Step.COMMIT]
    done = installer(pile, Step.COMMIT)
    assert done.answers == [("the 114", "0,R9,0.2.0")]
    assert DropFirmware(("/f/images/b1",)) in done, "it is the last good image now"
    assert not any(gun.is_locked for gun in pile.state.guns.values())


def test_flashing_goes_on_after_a_kill_with_the_guns_locked() -> None:
    pile = fetched(BOARD)
    done = pile.restart()
    assert FlashBoard(BOARD, 1024, None) in done
    assert all(gun.is_locked for gun in pile.state.guns.values())


def test_a_board_that_refuses_ends_the_upgrade_and_keeps_the_last_good_image() -> None:
    pile = fetched(BOARD)
    pile.take(FlashDone(Result.OK, "", "0.2.0"))
    installer(pile, Step.COMMIT)
    pile.pass_time(1)
    pile.command(113, "127.0.0.1:2121,pile,,1,0.1.0,R10")
    pile.command(114, "0.3.0,R10,/f,1024", key="the second")
    done = pile.take(FirmwareFetched("R10", replace(BOARD, version="0.3.0", path="/f/images/b2")))
    (flash,) = [one for one in done.actions if isinstance(one, FlashBoard)]
    assert flash.last_good == BOARD
    done = pile.take(FlashDone(Result.INSTALL_FAILED, "the CRC is wrong; 0.2.0 was put back", "0.2.0"))
    assert done.answers == [("the second", "59,the CRC is wrong; 0.2.0 was put back")]
    assert (DropFirmware(("/f/images/b1",)) in done, steps(done)) == (True, [])


def test_a_board_that_runs_the_new_image_counts_even_if_nothing_can_be_made_final() -> None:
    pile = fetched(BOARD)
    pile.take(FlashDone(Result.OK, "", "0.2.0"))
    for _ in range(MOST_COMMITS - 1):
        installer(pile, Step.COMMIT, Result.NO_SPACE, "disk full")
        pile.after(30)
    assert installer(pile, Step.COMMIT, Result.NO_SPACE, "disk full").answers == [("the 114", "0,R9,0.2.0")]


# ---- restarts ----


@pytest.mark.parametrize(
    ("pile", "expected"),
    [
        (ordered(), FetchFirmware),
        (fetched(), AskInstaller),
        (fetched(BOARD), FlashBoard),
        (armed(), AskInstaller),
    ],
    ids=["downloading", "staging", "flashing", "arming"],
)
def test_every_stage_goes_on_after_a_kill(pile: Pile, expected: type) -> None:
    assert [one for one in pile.restart().actions if isinstance(one, expected)]


def waiting() -> Pile:
    """For the charge at gun 1 to end."""
    pile = fetched(pile=charging_pile())
    installer(pile, Step.STAGE)
    return pile


def test_waiting_goes_on_after_a_kill() -> None:
    pile = waiting()
    pile.restart()
    pile.take(LinkChanged(True))
    pile.measured("plugged", 2)
    pile.stop()
    assert steps(pile.measured("ended")) == [Step.ARM]


def test_what_the_trial_must_keep_is_looked_at_once_it_can_show_after_a_restart() -> None:
    pile = waiting()
    pile.stop()
    pile.stored["gun/1"] = None  # killed as the charge ended
    assert steps(pile.restart()) == [], "no gun has been measured yet, nor the broker been dialled"
    pile.measured("plugged", 1)
    assert steps(pile.measured("plugged", 2)) == []
    assert steps(pile.take(LinkChanged(True))) == [Step.ARM]
    assert pile.state.upgrade is not None
    assert (pile.state.upgrade.was_connected, pile.state.upgrade.answering) == (True, (1, 2))


def test_what_does_not_answer_after_a_restart_is_not_waited_for() -> None:
    pile = waiting()
    pile.stored["gun/1"] = None
    pile.restart()
    pile.measured("plugged", 1)
    assert steps(pile.after(SETTLE_MS / 1000 - 1)) == []
    assert steps(pile.after(1)) == [Step.ARM]
    assert pile.state.upgrade is not None
    assert (pile.state.upgrade.was_connected, pile.state.upgrade.answering) == (False, (1,))


def test_a_gun_that_charges_by_card_is_seen_after_a_restart() -> None:
    pile = waiting()
    pile.stored["gun/1"] = None
    pile.restart()
    pile.take(LinkChanged(True))
    pile.measured("charging", 2)
    assert steps(pile.measured("plugged", 1)) == []


def committing() -> Pile:
    pile = on_trial()
    pile.take(LinkChanged(True))
    for gun in (1, 2):
        pile.measured("plugged", gun)
    pile.tick()
    return pile


def test_a_release_that_is_in_force_need_not_prove_itself_once_more() -> None:
    """Its commit was made, the answer was lost, and the broker is away: were this a trial, guns would be locked."""
    pile = committing()
    assert steps(restart(pile, "0.2.0", current="0.2.0")) == [Step.COMMIT]
    assert not any(gun.is_locked for gun in pile.state.guns.values())
    assert not [one for one in pile.after(GATE_MS / 1000).actions if isinstance(one, RestartAgent)]
    assert installer(pile, Step.COMMIT).answers == [("the 114", "0,R9,0.2.0")]


def test_a_release_that_is_in_force_stays_even_if_the_rest_cannot_be_made_final() -> None:
    pile = committing()
    restart(pile, "0.2.0", current="0.2.0")
    for _ in range(MOST_COMMITS - 2):
        assert steps(installer(pile, Step.COMMIT, Result.NO_SPACE, "disk full")) == []
        assert steps(pile.after(30)) == [Step.COMMIT]
    done = installer(pile, Step.COMMIT, Result.NO_SPACE, "disk full")
    assert done.answers == [("the 114", "0,R9,0.2.0")]
    assert [one.text for one in pile.state.past_upgrades] == ["not made final: disk full"]


def test_a_start_forgets_what_an_upgrade_left_that_was_killed_at_its_very_end() -> None:
    pile = ordered()
    pile.take(FirmwareFailed("R9", Result.NO_SPACE, "disk full"))
    assert DropFirmware(()) in pile.restart()


def test_a_start_keeps_the_login_of_a_113_that_waits() -> None:
    pile = upgradable()
    pile.command(113, ANNOUNCED)
    assert DropFirmware(()) not in pile.restart()


@pytest.mark.parametrize("pile", [upgradable(), ordered()], ids=["none", "failed"])
def test_a_trial_that_no_upgrade_wants_ends_itself(pile: Pile) -> None:
    """The journal was lost during the trial; or the upgrade had ended, and its release was not yet dropped."""
    pile.take(FirmwareFailed("R9", Result.NO_SPACE, "disk full"))
    done = restart(pile, "0.2.0", trial="0.2.0")
    assert RestartAgent("it is on trial for an upgrade that is over") in done


def test_a_release_that_is_still_armed_for_an_upgrade_that_is_over_is_dropped() -> None:
    pile = ordered()
    pile.take(FirmwareFailed("R9", Result.NO_SPACE, "disk full"))
    assert steps(restart(pile, "0.1.0", trial="0.2.0")) == [Step.DROP]


def test_an_upgrade_ends_when_the_configuration_has_no_place_for_it_any_more() -> None:
    pile = fetched()
    pile.config = replace(pile.config, can_update=False)
    assert pile.restart().answers == [("the 114", "14,firmware.install_dir is not set any more")]
    assert pile.state.ticket is None


def test_an_upgrade_that_is_over_stays_so() -> None:
    pile = ordered()
    pile.take(FirmwareFailed("R9", Result.NO_SPACE, "disk full"))
    done = pile.restart()
    assert not [one for one in done.actions if isinstance(one, FetchFirmware)]
    assert asked_111(pile) == "0,R9,0.2.0,58,0"

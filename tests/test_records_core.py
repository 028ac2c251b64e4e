"""Events and alarms as the core closes them, and what it answers to 104 and 105."""

import json

import pytest
from core_helpers import PILE, WALL_MS, Done, Pile, charging_pile, plugged_pile

from agent.pile.actions import Conclude, Record, Severity
from agent.pile.events import BoardFaults, Commanded, Replayed, Stored
from agent.pile.records import REPLAY_LAG
from agent.pile.state import Alarm, Replay, Request
from agent.protocol.codec import Codec
from agent.protocol.results import RecordType, Result

CODEC = Codec()


# ---- events


def test_an_event_has_its_time_gun_order_and_words() -> None:
    done = charging_pile("A1").measured("ended", order="A1")
    (record,) = [one for one in done.records if one.type is RecordType.EVENT]
    assert record == Record(
        RecordType.EVENT, WALL_MS, 1, "A1", "5,gun 1; order A1: ended; power lost", "gun 1, order A1: ended, power lost"
    )


def test_the_agents_start_is_an_event_of_the_pile() -> None:
    done = Pile().restart(0)
    assert done.records == [Record(RecordType.EVENT, WALL_MS, 0, "", "1,version 0.1.0", "version 0.1.0")]


def test_what_needs_somebodys_eye_is_said_louder() -> None:
    done = plugged_pile().charging(order="")
    assert [(record.body.split(",")[0], record.severity) for record in done.records] == [("8", Severity.WARNING)]


# ---- alarms


def test_a_fault_raised_and_cleared() -> None:
    pile = plugged_pile()
    (raised,) = pile.measured("fault", faults=("over_temperature",)).records
    assert raised == Record(
        RecordType.ALARM, WALL_MS, 1, "", "103,1,gun 1: over_temperature", "gun 1: over_temperature", Severity.WARNING
    )
    assert pile.measured("fault", faults=("over_temperature",)).records == []
    (cleared,) = pile.measured("plugged").records
    assert cleared == Record(
        RecordType.ALARM, WALL_MS, 1, "", "103,0,gun 1: over_temperature is over", "gun 1: over_temperature is over"
    )


def test_two_faults_that_only_their_maker_knows_are_told_apart() -> None:
    pile = plugged_pile()
    assert pile.measured("fault", faults=("fan, left", "pump")).alarms == ["+other-fault", "+other-fault"]
    (cleared,) = pile.measured("fault", faults=("pump",)).records
    assert cleared.body == "199,0,gun 1: fan; left is over"


def test_the_same_fault_of_another_gun_is_another_alarm() -> None:
    pile = plugged_pile()
    pile.measured("fault", 1, faults=("lock",))
    assert pile.measured("fault", 2, faults=("lock",)).alarms == ["+lock"]
    assert pile.measured("plugged", 1).alarms == ["-lock"]


def test_what_is_wrong_with_a_board_itself_is_an_alarm_of_the_pile() -> None:
    pile = plugged_pile()
    (raised,) = pile.take(BoardFaults("left", ("no_firmware",))).records
    assert (raised.gun, raised.body) == (0, "116,1,left: no_firmware")
    assert pile.take(BoardFaults("right", ())).records == []
    assert pile.take(BoardFaults("left", ("no_firmware", "clock_not_set"))).alarms == ["+clock-not-set"]
    pile.restart()
    (cleared,) = pile.take(BoardFaults("left", ("clock_not_set",))).records
    assert cleared.body == "116,0,left: no_firmware is over"
    assert pile.start().replies == ["40,the power board of gun 1 does not answer"]  # no fault of a gun


def test_a_device_that_never_answered_is_an_alarm_too() -> None:
    assert Pile().silenced().alarms == ["+device-silent"]


def test_a_device_that_answers_clears_no_alarm_that_was_not_raised() -> None:
    assert Pile().measured("idle").alarms == []


def test_a_silent_device_is_an_error_and_its_answer_is_none() -> None:
    pile = plugged_pile()
    assert [record.severity for record in pile.silenced().records] == [Severity.ERROR]
    assert [record.severity for record in pile.measured("plugged").records] == [Severity.INFO]


def test_silence_and_faults_are_alarms_of_their_own() -> None:
    pile = plugged_pile()
    pile.measured("fault", faults=("lock",))
    assert pile.silenced().alarms == ["+device-silent"]
    assert pile.measured("plugged").alarms == ["-device-silent", "-lock"]


def test_after_a_restart_an_alarm_is_not_raised_again_and_is_still_cleared() -> None:
    pile = plugged_pile()
    pile.measured("fault", faults=("lock", "meter"))
    pile.silenced(2)
    assert pile.restart().alarms == []
    assert pile.silenced(2).alarms == []
    assert pile.measured("fault", faults=("lock",)).alarms == ["-meter"]
    assert pile.measured("idle", 2).alarms == ["-device-silent"]
    assert pile.state.alarms == (Alarm(1, 108, "lock"),)


def test_alarms_of_a_gun_that_was_taken_away_are_forgotten() -> None:
    pile = plugged_pile()
    pile.silenced(1)
    pile.silenced(2)
    smaller = Pile(plugged_pile(guns=1).config)
    smaller.stored = pile.stored
    smaller.restart()
    assert smaller.state.alarms == (Alarm(1, 101),)


# ---- 104


def query(pile: Pile, record_type: int, total: int, last: int | None = None, key: str = "query") -> Done:
    """A 104, while so many records are stored."""
    line = f"10.0.0.1,API:2.0.2,104,{pile.wall_ms},{PILE},{record_type}"
    message = CODEC.decode(line.encode())
    request = Request(104, message.timestamp_text, key)
    return pile.take(Commanded(message, request, Stored(total, last if last is not None else total)))


def request(key: str = "query") -> Request:
    return Request(104, str(WALL_MS), key)


def taken(pile: Pile, delivered: int, reached: int, key: str = "query") -> Done:
    return pile.take(Replayed(request(key), delivered, reached))


def test_a_query_is_accepted_with_the_number_of_records() -> None:
    pile = Pile()
    assert query(pile, 3, total=12, last=4711).replies == ["1,3,12"]
    assert pile.state.replay == Replay(request(), RecordType.EVENT, 12, 4711)


@pytest.mark.parametrize(("record_type", "name"), [(1, "charging"), (2, "process"), (3, "event"), (4, "alarm")])
def test_without_a_record_there_is_none(record_type: int, name: str) -> None:
    assert query(Pile(), record_type, total=0).replies == [f"30,type = {record_type}: there is no {name} record"]


def test_the_end_of_a_replay_settles_its_command() -> None:
    """ACCEPTED is not final; what is left unsettled is kept in the inbox for ever."""
    pile = Pile()
    query(pile, 3, total=2)
    assert taken(pile, 1, 1).actions == ()
    assert taken(pile, 2, 2).actions == (Conclude(request(), Result.OK, "0,3,2"),)
    assert taken(pile, 2, 2).actions == ()


def test_a_new_query_of_whatever_type_takes_the_place_of_a_running_one() -> None:
    pile = Pile()
    query(pile, 3, total=12, key="first")
    done = query(pile, 4, total=5, key="second")
    assert done.replies == ["1,4,5"]
    assert Conclude(request("first"), Result.OK, "0,3,12") in done
    assert taken(pile, 1, 1, key="first").actions == ()
    assert pile.state.replay == Replay(request("second"), RecordType.ALARM, 5, 5)


def test_a_query_that_finds_nothing_ends_a_running_one_too() -> None:
    pile = Pile()
    query(pile, 3, total=12, key="first")
    assert Conclude(request("first"), Result.OK, "0,3,12") in query(pile, 4, total=0, key="second")
    assert pile.state.replay is not None
    assert pile.state.replay.is_over


# ---- 105


def test_without_a_query_there_is_no_delivery() -> None:
    assert Pile().command(105).replies == ["30,no records were asked for (104)"]


def test_delivery_is_reported_before_during_and_after() -> None:
    pile = Pile()
    query(pile, 3, total=2)
    assert pile.command(105, key="a").replies == ["0,3,2,0"]
    taken(pile, 1, 1)
    assert pile.command(105, key="b").replies == ["0,3,2,1"]
    taken(pile, 2, 2)
    assert pile.command(105, key="c").replies == ["0,3,2,2"]


def test_the_last_query_is_reported_although_it_found_nothing() -> None:
    pile = Pile()
    query(pile, 3, total=2, key="first")
    query(pile, 4, total=0, key="second")
    assert pile.command(105).replies == ["0,4,0,0"]


# ---- a restart


def test_progress_is_written_down_now_and_then_and_at_the_end() -> None:
    pile = Pile()
    query(pile, 3, total=250)
    written = []
    for number in range(1, 251):
        before = json.dumps(pile.stored.get("replay"))
        taken(pile, number, number)
        if json.dumps(pile.stored["replay"]) != before:
            written.append(number)
    assert REPLAY_LAG == 100
    assert written == [100, 200, 250]


def test_a_restarted_agent_goes_on_from_what_was_written_down() -> None:
    pile = Pile()
    query(pile, 3, total=250)
    for number in range(1, 180):
        taken(pile, number, number)
    pile.restart()
    assert pile.state.replay == Replay(request(), RecordType.EVENT, 250, 250, delivered=100, reached=100)
    assert pile.command(105).replies == ["0,3,250,100"]
    assert Conclude(request(), Result.OK, "0,3,250") in taken(pile, 250, 250)


def test_a_restart_after_the_end_remembers_it() -> None:
    pile = Pile()
    query(pile, 3, total=2)
    taken(pile, 2, 2)
    pile.restart()
    assert pile.command(105).replies == ["0,3,2,2"]

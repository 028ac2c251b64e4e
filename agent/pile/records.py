"""Records: what is kept of each charge, event and alarm, and how the platform gets it again (104, 105).

A record closes once and is told unasked at once. A 104 has those of one type sent again; the shell (agent/replay.py)
does the sending and reports each that the broker has taken.
"""

from dataclasses import replace

from agent.pile.actions import Conclude, Record, Severity
from agent.pile.events import Replayed
from agent.pile.state import Alarm, Replay, Request
from agent.pile.turn import Turn
from agent.protocol.codec import plain_text
from agent.protocol.commands import AlarmRecord, QueryRecords, RecordsSummary, ReplayReport
from agent.protocol.events import AlarmCode, alarm_of_fault
from agent.protocol.records import body_of, summary_outcome
from agent.protocol.results import RecordType, Result
from cext.message import Message

REPLAY_LAG = 100  # so many deliveries of a replay a crash may forget: each step written down costs flash


# ---- alarms ----


def raise_alarm(turn: Turn, alarm: Alarm, text: str) -> None:
    """A fault is there. It is told once, until it is cleared, also across a restart."""
    if alarm not in turn.state.alarms:
        turn.change(alarms=(*turn.state.alarms, alarm))
        turn.do(_alarm_record(turn, alarm, True, text))


def clear_alarm(turn: Turn, alarm: Alarm, text: str) -> None:
    """A fault is gone, or was never there."""
    if alarm in turn.state.alarms:
        turn.change(alarms=tuple(one for one in turn.state.alarms if one != alarm))
        turn.do(_alarm_record(turn, alarm, False, text))


def faults_reported(turn: Turn, gun: int, faults: tuple[str, ...]) -> None:
    """A gun's device reports these faults, by its own names, and no other."""
    for fault in sorted(faults):
        raise_alarm(turn, Alarm(gun, alarm_of_fault(fault).value, fault), f"gun {gun}: {fault}")
    for alarm in turn.state.alarms:
        if alarm.gun == gun and alarm.fault and alarm.fault not in faults:
            clear_alarm(turn, alarm, f"gun {gun}: {alarm.fault} is over")


def board_faults_reported(turn: Turn, board: str, faults: tuple[str, ...]) -> None:
    """A power board itself reports these faults and no other. Alarms of the pile, told apart by the board's name."""
    prefix = f"{board}: "
    for fault in sorted(faults):
        alarm = Alarm(0, alarm_of_fault(fault).value, prefix + fault)
        raise_alarm(turn, alarm, alarm.fault)
    for alarm in turn.state.alarms:
        if alarm.gun == 0 and alarm.fault.startswith(prefix) and alarm.fault.removeprefix(prefix) not in faults:
            clear_alarm(turn, alarm, f"{alarm.fault} is over")


def device_silent(turn: Turn, gun: int) -> None:
    raise_alarm(turn, Alarm(gun, AlarmCode.DEVICE_SILENT.value), f"the power board of gun {gun} does not answer")


def device_answers(turn: Turn, gun: int) -> None:
    clear_alarm(turn, Alarm(gun, AlarmCode.DEVICE_SILENT.value), f"the power board of gun {gun} answers")


def _alarm_record(turn: Turn, alarm: Alarm, is_raised: bool, text: str) -> Record:
    at_ms = turn.now.wall_ms
    is_silence = alarm.code == AlarmCode.DEVICE_SILENT
    severity = (Severity.ERROR if is_silence else Severity.WARNING) if is_raised else Severity.INFO
    record = AlarmRecord(RecordType.ALARM, 1, 1, 1, at_ms, alarm.gun, alarm.code, int(is_raised), plain_text(text))
    return Record(RecordType.ALARM, at_ms, alarm.gun, "", body_of(record), text, severity)


# ---- sending them again ----


def query(turn: Turn, message: Message, request: Request) -> None:
    """104: ACCEPTED with their number, and the records follow; a replay under way ends where it is."""
    command: QueryRecords = message.data
    _conclude(turn)
    total, last = turn.stored
    replay = Replay(request, RecordType(command.type), total, last if total else 0)
    turn.change(replay=replay, replay_kept=replay)
    if total:
        turn.reply(request, Result.ACCEPTED, RecordsSummary(command.type, total))
    else:
        turn.reply(request, Result.NO_RECORD, f"type = {command.type}: there is no {replay.type.name.lower()} record")


def query_delivery(turn: Turn, _message: Message, request: Request) -> None:
    """105: how far the last 104 is."""
    replay = turn.state.replay
    if replay is None:
        turn.reply(request, Result.NO_RECORD, "no records were asked for (104)")
    else:
        turn.reply(request, Result.OK, ReplayReport(replay.type, replay.total, replay.delivered))


def replayed(turn: Turn, event: Replayed) -> None:
    """The broker has taken more of a replay: it is written down every ``REPLAY_LAG`` records, and at the end."""
    replay, kept = turn.state.replay, turn.state.replay_kept
    if replay is None or kept is None or replay.request != event.request or replay.is_over:
        return
    replay = replace(replay, delivered=event.delivered, reached=event.reached)
    if replay.is_over:
        _conclude(turn)
    if replay.is_over or replay.delivered - kept.delivered >= REPLAY_LAG:
        kept = replay
    turn.change(replay=replay, replay_kept=kept)


def _conclude(turn: Turn) -> None:
    """A replay under way is over: from now on its 104 can be forgotten like any other command."""
    replay = turn.state.replay
    if replay is not None and not replay.is_over:
        outcome = summary_outcome(Result.OK, replay.type, replay.total)
        turn.do(Conclude(replay.request, Result.OK, outcome))

"""A gun's charge: from 101 to "current flows" and "stopped", the cap held in between.

STARTING    the start is accepted: until the board reports current, or fails, or start_timeout is over
CHARGING    current flows: until a stop is ordered, the cap is near, or the board ends the charge
STOPPING    a stop is ordered: until the board reports no current; a stop that does not take is repeated
"""

from dataclasses import replace

from agent.pile.actions import StartGun, StopGun
from agent.pile.admission import (
    answer_known_order,
    cap_fen_of,
    charge_reply,
    fault_names,
    no_such_gun,
    refusal_of,
    short,
)
from agent.pile.billing import (
    close_bill,
    energy_limit_wh,
    follow_meter,
    is_cap_near,
    measured_latency_ms,
    note_process,
)
from agent.pile.board import BoardState, GunReading, is_context_of
from agent.pile.offline import is_begun_locally, local_session, offline_refusal
from agent.pile.records import device_answers, device_silent, faults_reported
from agent.pile.state import RECENT_ORDERS, Gun, PastOrder, Phase, Request, Session
from agent.pile.status import FLOWING, RESTS, has_fault, status_of
from agent.pile.table import Case, Order, Row, run
from agent.pile.turn import Turn
from agent.protocol.commands import STOP_REASONS, ChargeReply, StartStop
from agent.protocol.events import EventCode
from agent.protocol.results import GunStatus, Result, StopReason
from cext.message import Message

STOP_RETRY_MS = 5000
FAILED_START_REASONS = {
    Result.NOT_PLUGGED: StopReason.UNPLUGGED,
    Result.START_TIMEOUT: StopReason.NO_CURRENT,
    Result.DEVICE_SILENT: StopReason.DEVICE_SILENT,
}


# ---- the command ----


def start_or_stop(turn: Turn, message: Message, request: Request) -> None:
    """101."""
    command: StartStop = message.data
    if command.gun not in turn.state.guns:
        turn.reply(request, Result.NO_SUCH_GUN, no_such_gun(turn, command.gun))
    elif command.is_start:
        _start(turn, message, request)
    else:
        _stop(turn, command, request)


def _start(turn: Turn, message: Message, request: Request) -> None:
    command: StartStop = message.data
    gun = turn.gun(command.gun)
    if answer_known_order(turn, command, request):
        return
    refusal = refusal_of(turn, gun, message)
    if refusal is not None:
        turn.reply(request, *refusal)
        return
    session = _new_session(turn, gun, command, request)
    gun = turn.put(
        replace(gun, session=session, deadline_ms=turn.now.mono_ms + turn.config.start_timeout_s * 1000,
                ended_plugged=False)
    )  # fmt: skip
    turn.reply(request, Result.ACCEPTED, charge_reply(turn, gun))
    _send_start(turn, gun)


def _new_session(turn: Turn, gun: Gun, command: StartStop, request: Request) -> Session:
    """The meter counts from its last reading before the start: the first with current has counted some already."""
    tariff = turn.tariff(gun.number)
    assert tariff is not None  # refusal_of has seen to it
    assert gun.reading is not None
    return Session(
        order=command.order,
        account=command.account,
        start_type=command.type,
        phase=Phase.STARTING,
        accepted_ms=turn.now.wall_ms,
        accepted_mono_ms=turn.unsure_ms,
        cap_fen=None if tariff.is_free else cap_fen_of(command),
        free_fen=command.free_fen,
        tariff=tariff,
        start_request=request,
        meter_start_wh=gun.reading.energy_wh,
    )


def _stop(turn: Turn, command: StartStop, request: Request) -> None:
    gun = turn.gun(command.gun)
    session = gun.session
    if session is None:
        turn.reply(request, Result.NOT_CHARGING, f"gun {gun.number} is not charging")
        return
    if session.order != command.order:
        text = f"order = {short(command.order)}: gun {gun.number} has {short(session.order)}"
        turn.reply(request, Result.ORDER_MISMATCH, text)
        return
    session = replace(session, stop_requests=(*session.stop_requests, request))
    gun = turn.put(replace(gun, session=session))
    reason = StopReason.PLATFORM if command.type == 2 else StopReason.APP
    if session.phase is not Phase.STOPPING:
        gun = _begin_stop(turn, gun, session, reason)
    turn.reply(request, Result.ACCEPTED, charge_reply(turn, gun))


# ---- what the board reports ----


def measured(turn: Turn, reading: GunReading) -> None:
    """A gun was polled: its charge goes on, or ends. A reading that comes after a later one says nothing."""
    before = turn.gun(reading.gun)
    if before.reading is not None and reading.at_ms < before.reading.at_ms:
        return
    device_answers(turn, reading.gun)
    faults_reported(turn, reading.gun, reading.faults)
    gun = turn.put(
        replace(before, reading=reading, silent=False, ended_plugged=before.ended_plugged and reading.plugged)
    )
    if gun.session is None and is_begun_locally(reading):
        _begin_locally(turn, gun, before, reading)
    elif gun.session is None:
        _stop_stray_charge(turn, gun, reading)
    else:
        _polled(turn, gun, gun.session, reading)


def _stop_stray_charge(turn: Turn, gun: Gun, reading: GunReading) -> None:
    """No current without an order: a charge for an order that is not known here is stopped."""
    if reading.state not in (BoardState.STARTING, BoardState.CHARGING) or turn.now.mono_ms < gun.retry_ms:
        return
    words = f"gun {gun.number} is {reading.state.value} without an order; stopped"
    turn.note(gun.number, EventCode.CHARGE_WITHOUT_ORDER, words)
    _send_stop(turn, gun)


def _begin_locally(turn: Turn, gun: Gun, before: Gun, reading: GunReading) -> None:
    """A charge begun at the pile runs as an order of its own, or is stopped; it is billed either way."""
    session = local_session(turn, gun, before.reading if not before.silent else None)
    deadline_ms = turn.now.mono_ms + turn.config.start_timeout_s * 1000
    gun = turn.put(replace(gun, session=session, start_sent=True, deadline_ms=deadline_ms, ended_plugged=False))
    refusal = offline_refusal(turn, gun)
    words = f"gun {gun.number}, order {session.order}: begun at the pile{f'; stopped: {refusal}' if refusal else ''}"
    turn.note(gun.number, EventCode.CHARGE_WITHOUT_ORDER, words, session.order)
    turn.report(101, charge_reply(turn, gun), durable=True)
    if refusal is None:
        run(POLLED, Case(turn, gun, session, reading))
    else:
        _begin_stop(turn, gun, session, StopReason.OFFLINE_NOT_ALLOWED)


def _polled(turn: Turn, gun: Gun, session: Session, reading: GunReading) -> None:
    """A poll during a charge. One from before a stop was ordered says nothing: a start may have reached the board after
    it."""
    if session.phase is Phase.STOPPING and reading.at_ms < gun.stop_ordered_ms:
        return
    if session.phase is not Phase.STARTING:
        gun, session = _billed(turn, gun, session, reading)
    run(POLLED, Case(turn, gun, session, reading))


def _is_ours(session: Session, reading: GunReading) -> bool:
    if session.is_local:
        return not reading.order
    return reading.order is None or is_context_of(reading.order, session.order)


def _has_heard(session: Session, reading: GunReading) -> bool:
    """The board has begun the order, and maybe ended it: it was told before the agent restarted."""
    return reading.state in FLOWING if reading.order is None else _is_ours(session, reading)


def _current_flows(case: Case) -> None:
    turn, gun, session, reading = case.turn, case.gun, case.session, case.polled
    request = session.start_request
    session = replace(session, phase=Phase.CHARGING, start_request=None)
    gun = turn.put(replace(gun, session=session))
    words = f"gun {gun.number}, order {short(session.order)}: current flows"
    turn.note(gun.number, EventCode.CHARGE_STARTED, words, session.order)
    if request is not None:
        turn.reply(request, Result.OK, charge_reply(turn, gun))
    follow_meter(turn, gun, session, reading)


def _billed(turn: Turn, gun: Gun, session: Session, reading: GunReading) -> tuple[Gun, Session]:
    """The charge with this reading in its ledger. Once another charge flows, the meter counts for that one."""
    if _is_ours(session, reading) or reading.state not in FLOWING:
        gun = follow_meter(turn, gun, session, reading)
    assert gun.session is not None
    return gun, gun.session


def _reason_given_by(reading: GunReading) -> StopReason:
    """Why the board ended a charge by itself. A board that does not know any more has lost its power in between."""
    if reading.stop_reason is not None:
        return reading.stop_reason
    if not reading.plugged:
        return StopReason.UNPLUGGED
    return StopReason.FAULT if reading.faults or reading.state is BoardState.FAULT else StopReason.POWER_LOST


# ---- time, and a board that does not do as told ----


def time_passed(turn: Turn, gun: Gun) -> None:
    """What happens to a gun's charge without any reading."""
    if gun.session is not None:
        run(TIMED, Case(turn, gun, gun.session))


def silenced(turn: Turn, number: int) -> None:
    """The gun's device has stopped answering. Its charge is not over: the board may go on, or end it itself."""
    gun = turn.gun(number)
    if not gun.silent:
        turn.put(replace(gun, silent=True, silent_since_ms=turn.now.mono_ms))
    device_silent(turn, number)


def start_done(turn: Turn, job: StartGun, result: Result, text: str) -> None:
    """The start was written, or could not be."""
    gun = turn.gun(job.gun)
    session = gun.session
    if result is Result.OK or session is None or session.order != job.order or session.phase is not Phase.STARTING:
        return
    _fail_start(turn, gun, session, result, text)


def stop_done(turn: Turn, job: StopGun, result: Result, text: str) -> None:
    """The stop was written, or could not be: then whoever asked is told, and it is tried again."""
    gun = turn.gun(job.gun)
    if result is Result.OK or gun.session is None or gun.session.phase is not Phase.STOPPING:
        return
    turn.note(gun.number, EventCode.STOP_FAILED, f"gun {gun.number}: {text}", gun.session.order)
    _answer_stops(turn, gun, gun.session, result, text)


def _press_stop(turn: Turn, gun: Gun, session: Session) -> None:
    """Write the stop again when it is due; past the deadline, tell whoever asked that it did not take."""
    if turn.now.mono_ms < gun.retry_ms:
        return
    if turn.now.mono_ms >= gun.deadline_ms:
        text = f"gun {gun.number} is still charging {turn.config.stop_timeout_s} s after the stop"
        _answer_stops(turn, gun, session, Result.NOT_APPLIED, text)
    _send_stop(turn, turn.gun(gun.number))


def _answer_stops(turn: Turn, gun: Gun, session: Session, result: Result, text: str) -> None:
    for request in session.stop_requests:
        turn.reply(request, result, text)
    turn.put(replace(gun, session=replace(session, stop_requests=())))


def _send_start(turn: Turn, gun: Gun) -> None:
    assert gun.session is not None
    turn.put(replace(gun, start_sent=True))
    turn.do(StartGun(gun.number, gun.session.order, energy_limit_wh(gun.session), turn.current_limit_da(gun.number)))


def _send_stop(turn: Turn, gun: Gun) -> None:
    turn.put(replace(gun, retry_ms=turn.now.mono_ms + STOP_RETRY_MS))
    turn.do(StopGun(gun.number))


def _begin_stop(turn: Turn, gun: Gun, session: Session, reason: StopReason) -> Gun:
    session = replace(session, phase=Phase.STOPPING, stop_reason=reason)
    deadline_ms = turn.now.mono_ms + turn.config.stop_timeout_s * 1000
    gun = turn.put(replace(gun, session=session, stop_ordered_ms=turn.now.mono_ms, deadline_ms=deadline_ms))
    _send_stop(turn, gun)
    return turn.gun(gun.number)


# ---- how a charge ends ----


def _fail_start(turn: Turn, gun: Gun, session: Session, result: Result, text: str) -> None:
    """No current flowed. The board is told to stop all the same: it may have heard the start and not been heard."""
    if session.start_request is not None:
        turn.reply(session.start_request, result, text)
    words = f"gun {gun.number}, order {short(session.order)}: {text}"
    turn.note(gun.number, EventCode.START_FAILED, words, session.order)
    close_bill(turn, gun, session, FAILED_START_REASONS.get(result, StopReason.FAULT))
    _forget(turn, gun, session, result, None)
    _send_stop(turn, turn.gun(gun.number))


def _end(turn: Turn, gun: Gun, session: Session, reason: StopReason) -> None:
    """No current flows any more. Whoever asked for the stop is answered; nobody asked: the platform is told unasked."""
    order = short(session.order)
    words = f"gun {gun.number}, order {order}: ended, {STOP_REASONS[reason]}"
    turn.note(gun.number, EventCode.CHARGE_ENDED, words, session.order)
    result = Result.NOT_CHARGING if session.start_request is not None else Result.OK
    close_bill(turn, gun, session, reason)
    gun = _forget(turn, gun, session, result, reason)
    reply = ChargeReply(gun.number, session.order, status_of(gun, turn.now.mono_ms), reason.value)
    if session.start_request is not None:
        turn.reply(session.start_request, result, f"order {order} was stopped before current flowed")
    for request in session.stop_requests:
        turn.reply(request, Result.OK, reply)
    if not session.stop_requests:
        turn.report(101, reply, durable=True)


def _lose(turn: Turn, gun: Gun, session: Session) -> None:
    """The board was silent for too long: the charge is closed without it."""
    text = f"the power board of gun {gun.number} has been silent for {turn.config.silence_limit_s} s"
    if session.phase is Phase.STARTING:
        _fail_start(turn, gun, session, Result.DEVICE_SILENT, text)
    else:
        _end(turn, gun, session, StopReason.DEVICE_SILENT)


def _forget(turn: Turn, gun: Gun, session: Session, result: Result, reason: StopReason | None) -> Gun:
    """The gun is free again; its order is remembered so that a second start of it is seen."""
    past = PastOrder(session.order, gun.number, result, reason)
    turn.change(past_orders=(*turn.state.past_orders, past)[-RECENT_ORDERS:])
    plugged = gun.reading is not None and gun.reading.plugged
    latency_ms = measured_latency_ms(turn, gun, session)
    return turn.put(
        replace(gun, session=None, start_sent=False, retry_ms=0, ended_plugged=plugged, ledger=None,
                ledger_mono_ms=None, doubtful=None, stop_latency_ms=latency_ms)
    )  # fmt: skip


# ---- the table ----


def _flows_for_us(case: Case) -> bool:
    return case.polled.state is BoardState.CHARGING and _is_ours(case.session, case.polled)


def _is_over(case: Case) -> bool:
    """No current of this charge: none at all, or another order's."""
    return case.polled.state not in FLOWING or not _is_ours(case.session, case.polled)


def _has_run_out(case: Case) -> bool:
    """The board has ended the charge, or has begun anew after it lost its power."""
    return _is_over(case) or case.polled.state is BoardState.STARTING


def _is_late(case: Case) -> bool:
    return case.turn.now.mono_ms >= case.gun.deadline_ms


def _is_lost(case: Case) -> bool:
    silent_ms = case.turn.now.mono_ms - case.gun.silent_since_ms
    return case.gun.silent and silent_ms >= case.turn.config.silence_limit_s * 1000


def _is_unwritten(case: Case) -> bool:
    return not case.gun.start_sent and not _has_heard(case.session, case.polled)


def _always(_case: Case) -> bool:
    return True


def _fail_for_fault(case: Case) -> None:
    text = f"gun {case.gun.number}: {fault_names(case.polled)}"
    _fail_start(case.turn, case.gun, case.session, Result.FAULT, text)


def _fail_for_plug(case: Case) -> None:
    text = f"the car at gun {case.gun.number} was unplugged"
    _fail_start(case.turn, case.gun, case.session, Result.NOT_PLUGGED, text)


def _fail_for_time(case: Case) -> None:
    text = f"no current within {case.turn.config.start_timeout_s} s"
    _fail_start(case.turn, case.gun, case.session, Result.START_TIMEOUT, text)


def _end_by_board(case: Case) -> None:
    is_ours = case.polled.state not in FLOWING or _is_ours(case.session, case.polled)
    reason = _reason_given_by(case.polled) if is_ours else StopReason.POWER_LOST
    _end(case.turn, case.gun, case.session, reason)


def _end_as_ordered(case: Case) -> None:
    _end(case.turn, case.gun, case.session, case.session.stop_reason or _reason_given_by(case.polled))


def _stop_at_cap(case: Case) -> None:
    _begin_stop(case.turn, case.gun, case.session, StopReason.AMOUNT_REACHED)


def _go_on(case: Case) -> None:
    note_process(case.turn, case.gun, case.session, case.polled)


STARTING, CHARGING, STOPPING = Phase.STARTING, Phase.CHARGING, Phase.STOPPING
RESTING = tuple(dict.fromkeys(rest.status for rest in RESTS))
OVER = tuple(status for status in RESTING if status is not GunStatus.PLUGGED)  # a plug that still sits shows ENDED

POLLED = (
    Row(STARTING, "current flows for the order", _flows_for_us, _current_flows, (GunStatus.CHARGING,)),
    Row(STARTING, "the board has a fault", lambda case: has_fault(case.gun), _fail_for_fault, OVER),
    Row(STARTING, "the plug is out", lambda case: not case.polled.plugged, _fail_for_plug, OVER),
    Row(STARTING, "start_timeout is over", _is_late, _fail_for_time, OVER),
    Row(STARTING, "a restart came before the start was written", _is_unwritten,
        lambda case: _send_start(case.turn, case.gun), (GunStatus.STARTING,)),
    Row(CHARGING, "the board has ended the charge", _has_run_out, _end_by_board, OVER),
    Row(CHARGING, "the cap is near", lambda case: is_cap_near(case.turn, case.gun, case.session, case.polled),
        _stop_at_cap, (GunStatus.STOPPING,)),
    Row(CHARGING, "current flows", _always, _go_on, (GunStatus.CHARGING,)),
    Row(STOPPING, "no current any more", _is_over, _end_as_ordered, OVER),
    Row(STOPPING, "current still flows", _always,
        lambda case: _press_stop(case.turn, case.gun, case.session), (GunStatus.STOPPING,)),
)  # fmt: skip

ORDERED = (
    Order((GunStatus.PLUGGED, GunStatus.ENDED, GunStatus.RESERVED), "101 starts it", (GunStatus.STARTING,)),
    Order(RESTING, "a card or the button starts it, as 106 allows", (GunStatus.STARTING, GunStatus.CHARGING)),
    Order(RESTING, "a card or the button starts it against 106", (GunStatus.STOPPING,)),
    Order((GunStatus.STARTING, GunStatus.CHARGING), "101 stops it", (GunStatus.STOPPING,)),
    Order((GunStatus.STARTING,), "the start could not be written", OVER),
)

TIMED = (
    *(Row(phase, "the board was silent for silence_limit", _is_lost,
          lambda case: _lose(case.turn, case.gun, case.session), OVER) for phase in Phase),
    Row(STARTING, "start_timeout is over", _is_late, _fail_for_time, OVER),
    Row(STOPPING, "a stop that did not take is due again", _always,
        lambda case: _press_stop(case.turn, case.gun, case.session), (GunStatus.STOPPING,)),
)  # fmt: skip

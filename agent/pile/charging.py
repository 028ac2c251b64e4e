"""A gun's charge: from 101 to "current flows" and "stopped", the cap held in between.

STARTING    the start is accepted: until the board reports current, or fails, or start_timeout is over
CHARGING    current flows: until a stop is ordered, the cap is near, or the board ends the charge
STOPPING    a stop is ordered: until the board reports no current; a stop that does not take is repeated
"""

from collections.abc import Callable
from dataclasses import replace

from agent.pile.actions import StartGun, StopGun
from agent.pile.board import BoardState, GunReading, order_context
from agent.pile.money import Price, energy_for_wh
from agent.pile.state import RECENT_ORDERS, Gun, PastOrder, Phase, Request, Session
from agent.pile.status import has_fault, is_rebooting, status_of
from agent.pile.turn import Turn
from agent.protocol.commands import STOP_REASONS, ChargeReply, StartStop
from agent.protocol.results import Result, StopReason
from cext.message import Message

STOP_RETRY_MS = 5000
FLOWING = (BoardState.STARTING, BoardState.CHARGING, BoardState.STOPPING)


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


def no_such_gun(turn: Turn, number: int) -> str:
    return f"gun = {number}: this pile has 1..{len(turn.state.guns)}"


def _start(turn: Turn, message: Message, request: Request) -> None:
    command: StartStop = message.data
    gun = turn.gun(command.gun)
    if _known_order(turn, command, request):
        return
    refusal = _refusal(turn, gun, message)
    if refusal is not None:
        turn.reply(request, *refusal)
        return
    session = _new_session(turn, command, request)
    gun = turn.put(
        replace(gun, session=session, deadline_ms=turn.now.mono_ms + turn.config.start_timeout_s * 1000,
                ended_plugged=False)
    )  # fmt: skip
    turn.reply(request, Result.ACCEPTED, _charge_reply(turn, gun))
    _send_start(turn, gun)


def _known_order(turn: Turn, command: StartStop, request: Request) -> bool:
    """A second start of an order is DUPLICATE, with how the first one came out; the answer is given here."""
    for gun in turn.state.guns.values():
        if gun.session is not None and gun.session.order == command.order:
            first = Result.ACCEPTED if gun.session.phase is Phase.STARTING else Result.OK
            _reply_duplicate(turn, request, first, _charge_reply(turn, gun))
            return True
    for past in turn.state.past_orders:
        if past.order == command.order:
            gun = turn.gun(past.gun)
            stop_reason = past.stop_reason.value if past.stop_reason is not None else None
            reply = ChargeReply(past.gun, past.order, status_of(gun, turn.now.mono_ms), stop_reason)
            _reply_duplicate(turn, request, past.result, reply)
            return True
    return False


def _reply_duplicate(turn: Turn, request: Request, first: Result, reply: ChargeReply) -> None:
    turn.duplicate(request, first, reply if not first.is_error else f"order {reply.order} was tried before")


def _refusal(turn: Turn, gun: Gun, message: Message) -> tuple[Result, str] | None:
    """Why the gun can't start this order now: result and words."""
    command: StartStop = message.data
    if turn.is_stale(message.timestamp):
        return Result.EXPIRED, f"timestamp = {message.timestamp}: older than {turn.config.command_ttl_s} s"
    if is_rebooting(gun, turn.now.mono_ms) or turn.reboot_awaits(gun.number):
        return Result.BUSY, f"gun {gun.number} is about to reboot, or rebooting"
    if gun.silent or gun.reading is None:
        return Result.DEVICE_SILENT, f"the power board of gun {gun.number} does not answer"
    if gun.reading.state is BoardState.UPDATING:
        return Result.BUSY, f"gun {gun.number} is being updated"
    if gun.session is not None:
        return Result.OCCUPIED, f"gun {gun.number} has order {gun.session.order}"
    if has_fault(gun):
        return Result.FAULT, f"gun {gun.number} has a fault: {_fault_names(gun.reading)}"
    if gun.reading.state in FLOWING:
        return Result.OCCUPIED, f"gun {gun.number} is {gun.reading.state.value}"
    if not gun.reading.plugged:
        return Result.NOT_PLUGGED, f"no car is plugged in at gun {gun.number}"
    if turn.config.price is None:
        return Result.NO_TARIFF, "the pile has no tariff"
    if not turn.config.price.is_free and not _energy_cap_wh(command, turn.config.price):
        return Result.INSUFFICIENT_BALANCE, f"cap_fen = {_cap_fen(command)}: expected enough for 1 Wh"
    return None


def _fault_names(reading: GunReading) -> str:
    return ", ".join(reading.faults) or "no details"


def _cap_fen(command: StartStop) -> int:
    """The most the charge may cost: what was prepaid, else the balance, and the free amount."""
    return (command.prepaid_fen or command.balance_fen) + command.free_fen


def _energy_cap_wh(command: StartStop, price: Price) -> int | None:
    return energy_for_wh(_cap_fen(command), price)


def _new_session(turn: Turn, command: StartStop, request: Request) -> Session:
    assert turn.config.price is not None  # _refusal has seen to it
    return Session(
        order=command.order,
        account=command.account,
        start_type=command.type,
        phase=Phase.STARTING,
        accepted_ms=turn.now.wall_ms,
        cap_wh=_energy_cap_wh(command, turn.config.price),
        price=turn.config.price,
        start_request=request,
    )


def _stop(turn: Turn, command: StartStop, request: Request) -> None:
    gun = turn.gun(command.gun)
    session = gun.session
    if session is None:
        turn.reply(request, Result.NOT_CHARGING, f"gun {gun.number} is not charging")
        return
    if session.order != command.order:
        turn.reply(request, Result.ORDER_MISMATCH, f"order = {command.order}: gun {gun.number} has {session.order}")
        return
    session = replace(session, stop_requests=(*session.stop_requests, request))
    gun = turn.put(replace(gun, session=session))
    reason = StopReason.PLATFORM if command.type == 2 else StopReason.APP
    if session.phase is not Phase.STOPPING:
        gun = _begin_stop(turn, gun, session, reason)
    turn.reply(request, Result.ACCEPTED, _charge_reply(turn, gun))


# ---- what the board reports ----


def measured(turn: Turn, reading: GunReading) -> None:
    """A gun was polled: its charge goes on, or ends."""
    before = turn.gun(reading.gun)
    _note_changes(turn, before, reading)
    gun = turn.put(
        replace(before, reading=reading, silent=False, ended_plugged=before.ended_plugged and reading.plugged)
    )
    if gun.session is None:
        _stop_stray_charge(turn, gun, reading)
    else:
        _PHASES[gun.session.phase](turn, gun, gun.session, reading)


def _note_changes(turn: Turn, gun: Gun, reading: GunReading) -> None:
    """Keep an event for every fault raised or cleared, and for a device that is back."""
    if gun.silent:
        turn.note(gun.number, "device-answers", f"the power board of gun {gun.number} answers")
    old = set(gun.reading.faults) if gun.reading is not None else set()
    for name in sorted(set(reading.faults) - old):
        turn.note(gun.number, "fault-raised", f"gun {gun.number}: {name}")
    for name in sorted(old - set(reading.faults)):
        turn.note(gun.number, "fault-cleared", f"gun {gun.number}: {name}")


def _stop_stray_charge(turn: Turn, gun: Gun, reading: GunReading) -> None:
    """No current without an order: a charge the platform did not order is stopped (offline running comes with 106)."""
    if reading.state not in (BoardState.STARTING, BoardState.CHARGING) or turn.now.mono_ms < gun.retry_ms:
        return
    turn.note(
        gun.number, "charge-without-order", f"gun {gun.number} is {reading.state.value} without an order; stopped"
    )
    _send_stop(turn, gun)


def _while_starting(turn: Turn, gun: Gun, session: Session, reading: GunReading) -> None:
    if reading.state is BoardState.CHARGING and _is_ours(session, reading):
        _current_flows(turn, gun, session, reading)
    elif has_fault(gun):
        _fail_start(turn, gun, session, Result.FAULT, f"gun {gun.number}: {_fault_names(reading)}")
    elif not reading.plugged:
        _fail_start(turn, gun, session, Result.NOT_PLUGGED, f"the car at gun {gun.number} was unplugged")
    elif turn.now.mono_ms >= gun.deadline_ms:
        _fail_start(turn, gun, session, Result.START_TIMEOUT, f"no current within {turn.config.start_timeout_s} s")
    elif not gun.start_sent:
        _send_start(turn, gun)  # a restart came between the accepted start and its writing


def _is_ours(session: Session, reading: GunReading) -> bool:
    return reading.order is None or reading.order == order_context(session.order)


def _current_flows(turn: Turn, gun: Gun, session: Session, reading: GunReading) -> None:
    request = session.start_request
    meter_start_wh = session.meter_start_wh if session.meter_start_wh is not None else reading.energy_wh
    session = replace(session, phase=Phase.CHARGING, start_request=None, meter_start_wh=meter_start_wh)
    gun = turn.put(replace(gun, session=session))
    turn.note(gun.number, "charge-started", f"gun {gun.number}, order {session.order}: current flows")
    if request is not None:
        turn.reply(request, Result.OK, _charge_reply(turn, gun))


def _while_charging(turn: Turn, gun: Gun, session: Session, reading: GunReading) -> None:
    if reading.state not in (BoardState.CHARGING, BoardState.STOPPING):
        _end(turn, gun, session, _reason_given_by(reading))
    elif not _is_ours(session, reading):
        _end(turn, gun, session, StopReason.POWER_LOST)
    elif _is_cap_near(turn, session, reading):
        _begin_stop(turn, gun, session, StopReason.AMOUNT_REACHED)


def _is_cap_near(turn: Turn, session: Session, reading: GunReading) -> bool:
    """The cap would be passed if current flowed on while a stop takes effect."""
    if session.cap_wh is None or session.meter_start_wh is None or reading.energy_wh is None:
        return False
    used_wh = reading.energy_wh - session.meter_start_wh
    coasting_wh = (reading.power_w or 0) * turn.config.stop_latency_ms // 3_600_000
    return used_wh + coasting_wh >= session.cap_wh


def _reason_given_by(reading: GunReading) -> StopReason:
    """Why the board ended a charge by itself. A board that does not know any more has lost its power in between."""
    if reading.stop_reason is not None:
        return reading.stop_reason
    if not reading.plugged:
        return StopReason.UNPLUGGED
    return StopReason.FAULT if reading.faults or reading.state is BoardState.FAULT else StopReason.POWER_LOST


def _while_stopping(turn: Turn, gun: Gun, session: Session, reading: GunReading) -> None:
    if reading.state not in FLOWING or not _is_ours(session, reading):
        _end(turn, gun, session, session.stop_reason or _reason_given_by(reading))
    else:
        _press_stop(turn, gun, session)


_PHASES: dict[Phase, Callable[[Turn, Gun, Session, GunReading], None]] = {
    Phase.STARTING: _while_starting,
    Phase.CHARGING: _while_charging,
    Phase.STOPPING: _while_stopping,
}


# ---- time, and a board that does not do as told ----


def time_passed(turn: Turn, gun: Gun) -> None:
    """What happens to a gun's charge without any reading."""
    session = gun.session
    if session is None:
        return
    if gun.silent and turn.now.mono_ms - gun.silent_since_ms >= turn.config.silence_limit_s * 1000:
        _lose(turn, gun, session)
    elif session.phase is Phase.STARTING and turn.now.mono_ms >= gun.deadline_ms:
        _fail_start(turn, gun, session, Result.START_TIMEOUT, f"no current within {turn.config.start_timeout_s} s")
    elif session.phase is Phase.STOPPING:
        _press_stop(turn, gun, session)


def silenced(turn: Turn, number: int) -> None:
    """The gun's device has stopped answering. Its charge is not over: the board may go on, or end it itself."""
    gun = turn.gun(number)
    if not gun.silent:
        turn.put(replace(gun, silent=True, silent_since_ms=turn.now.mono_ms))
        turn.note(number, "device-silent", f"the power board of gun {number} does not answer")


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
    turn.note(gun.number, "stop-failed", f"gun {gun.number}: {text}")
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
    turn.do(StartGun(gun.number, gun.session.order, gun.session.cap_wh, turn.config.current_limit_da))


def _send_stop(turn: Turn, gun: Gun) -> None:
    turn.put(replace(gun, retry_ms=turn.now.mono_ms + STOP_RETRY_MS))
    turn.do(StopGun(gun.number))


def _begin_stop(turn: Turn, gun: Gun, session: Session, reason: StopReason) -> Gun:
    session = replace(session, phase=Phase.STOPPING, stop_reason=reason)
    gun = turn.put(replace(gun, session=session, deadline_ms=turn.now.mono_ms + turn.config.stop_timeout_s * 1000))
    _send_stop(turn, gun)
    return turn.gun(gun.number)


# ---- how a charge ends ----


def _fail_start(turn: Turn, gun: Gun, session: Session, result: Result, text: str) -> None:
    """No current flowed. The board is told to stop all the same: it may have heard the start and not been heard."""
    if session.start_request is not None:
        turn.reply(session.start_request, result, text)
    turn.note(gun.number, "start-failed", f"gun {gun.number}, order {session.order}: {text}")
    _forget(turn, gun, session, result, None)
    _send_stop(turn, turn.gun(gun.number))


def _end(turn: Turn, gun: Gun, session: Session, reason: StopReason) -> None:
    """No current flows any more. Whoever asked for the stop is answered; nobody asked: the platform is told unasked."""
    turn.note(gun.number, "charge-ended", f"gun {gun.number}, order {session.order}: ended, {STOP_REASONS[reason]}")
    gun = _forget(turn, gun, session, Result.OK, reason)
    reply = ChargeReply(gun.number, session.order, status_of(gun, turn.now.mono_ms), reason.value)
    if session.start_request is not None:
        turn.reply(
            session.start_request, Result.NOT_CHARGING, f"order {session.order} was stopped before current flowed"
        )
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
    return turn.put(replace(gun, session=None, start_sent=False, retry_ms=0, ended_plugged=plugged))


def _charge_reply(turn: Turn, gun: Gun) -> ChargeReply:
    assert gun.session is not None
    return ChargeReply(gun.number, gun.session.order, status_of(gun, turn.now.mono_ms))

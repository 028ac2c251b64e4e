"""Reservations (102, 103): a gun is kept for an account during a window of wall-clock time.

A gun may have several windows, none of which overlaps another account's. While one is open the gun's status is
RESERVED, and nobody else may start there. The account's own charge uses the window up; else it expires. While the
clock is not to be believed no window opens or expires.
"""

from dataclasses import replace

from agent.pile.admission import no_such_gun
from agent.pile.parameters import Reservation
from agent.pile.state import Gun, Phase, Request
from agent.pile.turn import Turn
from agent.protocol.commands import QueryReservation, ReservationReply, Reserve, ReserveReply
from agent.protocol.events import EventCode
from agent.protocol.results import Result
from agent.protocol.rules import DAY_S, clock
from cext.message import Message

WINDOWS_MOST = 32  # of one gun
ACCOUNT_BYTES = 256


# ---- the commands ----


def reserve(turn: Turn, message: Message, request: Request) -> None:
    """102."""
    command: Reserve = message.data
    if command.gun not in turn.state.guns:
        turn.reply(request, Result.NO_SUCH_GUN, no_such_gun(turn, command.gun))
    elif command.type == 1:
        _take(turn, command, request)
    else:
        _cancel(turn, command, request)


def _take(turn: Turn, command: Reserve, request: Request) -> None:
    refusal = _refusal(turn, command)
    if refusal is not None:
        turn.reply(request, *refusal)
        return
    replaced = {one for one in _of_account(turn, command) if one.overlaps(command.start_s, command.end_s)}
    taken = Reservation(command.gun, command.account, command.start_s, command.end_s)
    _keep(turn, [*(one for one in turn.state.reservations if one not in replaced), taken])
    turn.reply(request, Result.OK, ReserveReply(command.gun, command.account, command.start_s, command.end_s))


def _refusal(turn: Turn, command: Reserve) -> tuple[Result, str] | None:
    """Why the window can't be had: result and words."""
    parameters, now = turn.state.parameters, turn.now
    if turn.gun(command.gun).is_withdrawn:
        return Result.NO_SUCH_GUN, f"gun = {command.gun}: 106 has taken it out of service"
    if parameters is not None and not parameters.reservations_allowed:
        return Result.NOT_SUPPORTED, "reservations are switched off (106)"
    if not 0 < len(command.account.encode()) <= ACCOUNT_BYTES:
        return Result.OUT_OF_RANGE, f"account: expected 1..{ACCOUNT_BYTES} bytes"
    if now.trusted and command.end_s <= _now_s(turn):
        return Result.OUT_OF_RANGE, f"end_s = {command.end_s}: expected a time after now {_now_s(turn)}"
    windows = [one for one in turn.state.reservations if one.gun == command.gun]
    for other in windows:
        if other.account != command.account and other.overlaps(command.start_s, command.end_s):
            return Result.RESERVED, f"gun {command.gun} is reserved from {other.start_s} until {other.end_s}"
    session = turn.gun(command.gun).session
    has_begun = now.trusted and command.start_s <= _now_s(turn)
    if has_begun and session is not None and session.account != command.account:
        return Result.OCCUPIED, f"gun {command.gun} is charging for another account"
    if len(windows) >= WINDOWS_MOST:
        return Result.OUT_OF_RANGE, f"gun {command.gun} has {len(windows)} reservations already"
    return None


def _cancel(turn: Turn, command: Reserve, request: Request) -> None:
    """All windows of the account that overlap the times given; times that are no window mean all it has at the gun."""
    has_times = command.start_s < command.end_s
    cancelled = [
        one for one in _of_account(turn, command) if not has_times or one.overlaps(command.start_s, command.end_s)
    ]
    if not cancelled:
        turn.reply(request, Result.NO_RECORD, f"gun {command.gun} has no such reservation of this account")
        return
    _keep(turn, [one for one in turn.state.reservations if one not in cancelled])
    start_s, end_s = min(one.start_s for one in cancelled), max(one.end_s for one in cancelled)
    turn.reply(request, Result.OK, ReserveReply(command.gun, command.account, start_s, end_s))


def query(turn: Turn, message: Message, request: Request) -> None:
    """103: the window that is open, else the next one."""
    command: QueryReservation = message.data
    if command.gun not in turn.state.guns:
        turn.reply(request, Result.NO_SUCH_GUN, no_such_gun(turn, command.gun))
        return
    held = next((one for one in turn.state.reservations if one.gun == command.gun), None)
    if held is None:
        turn.reply(request, Result.OK, ReservationReply(command.gun, 0, "", 0, 0, 0))
        return
    left_s = max(held.end_s - _now_s(turn), 0) if turn.now.trusted else 0
    turn.reply(request, Result.OK, ReservationReply(held.gun, 1, held.account, held.start_s, held.end_s, left_s))


# ---- time, and charges ----


def keep_up(turn: Turn) -> None:
    """Bring windows and guns up to date with the clock and with the charges."""
    if turn.state.reservations:
        _use_up(turn)
        _expire(turn)
    if turn.now.trusted:
        for gun in list(turn.state.guns.values()):
            if turn.state.reservations or gun.reserved_for is not None:
                _mark(turn, gun)


def _use_up(turn: Turn) -> None:
    """An account that charges at its gun while its window is open has had what it reserved."""
    for one in turn.state.reservations:
        gun = turn.state.guns.get(one.gun)
        if gun is None or gun.session is None or gun.session.phase is not Phase.CHARGING:
            continue
        if gun.session.account == one.account == gun.reserved_for and _is_open(turn, one):
            _drop(turn, one)
            turn.put(replace(gun, reserved_for=None))
            turn.note(gun.number, EventCode.RESERVATION_USED, f"gun {gun.number}: its reservation is used")


def _expire(turn: Turn) -> None:
    for one in turn.state.reservations:
        if turn.now.trusted and one.end_s <= _now_s(turn):
            _drop(turn, one)
            turn.note(one.gun, EventCode.RESERVATION_EXPIRED, f"gun {one.gun}: the reservation has expired")


def _mark(turn: Turn, gun: Gun) -> None:
    """Whose window is open at the gun. A charge of another account goes on, and that is said."""
    window = next((one for one in turn.state.reservations if one.gun == gun.number and _is_open(turn, one)), None)
    account = window.account if window is not None else None
    if account == gun.reserved_for:
        return
    turn.put(replace(gun, reserved_for=account))
    if window is not None:
        is_foreign = gun.session is not None and gun.session.account != account
        more = "; the charge of another account goes on" if is_foreign else ""
        until = clock((window.end_s + turn.config.utc_offset_s) % DAY_S)
        turn.note(gun.number, EventCode.RESERVATION_OPEN, f"gun {gun.number} is reserved until {until}{more}")


def _is_open(turn: Turn, one: Reservation) -> bool:
    """By the clock; while that is not believed, what was open stays so."""
    return not turn.now.trusted or one.start_s <= _now_s(turn) < one.end_s


def _of_account(turn: Turn, command: Reserve) -> list[Reservation]:
    return [one for one in turn.state.reservations if (one.gun, one.account) == (command.gun, command.account)]


def _keep(turn: Turn, windows: list[Reservation]) -> None:
    """In the order in which they begin."""
    turn.change(reservations=tuple(sorted(windows, key=lambda one: (one.start_s, one.gun))))


def _drop(turn: Turn, one: Reservation) -> None:
    turn.change(reservations=tuple(other for other in turn.state.reservations if other != one))


def _now_s(turn: Turn) -> int:
    return turn.now.wall_ms // 1000

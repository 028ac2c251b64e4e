"""What stands in the way of a start (101): its needs in their order, each with its result and words."""

from agent.pile.board import BoardState, GunReading
from agent.pile.money import Price, energy_for_wh
from agent.pile.state import Gun, Request
from agent.pile.status import FLOWING, has_fault, is_rebooting, status_of
from agent.pile.turn import Turn
from agent.pile.upgrade import keeps_from_charging
from agent.protocol.commands import ChargeReply, StartStop
from agent.protocol.results import GunStatus, Result
from cext.message import Message

ORDER_BYTES = 1024  # a longer order would not fit our own replies beside the other fields
SHOWN_CHARACTERS = 64  # of an order, in words


def refusal_of(turn: Turn, gun: Gun, message: Message) -> tuple[Result, str] | None:
    """Why the gun can't start this order now: result and words."""
    command: StartStop = message.data
    if turn.is_stale(message.timestamp):
        return Result.EXPIRED, f"timestamp = {message.timestamp}: older than {turn.config.command_ttl_s} s"
    if len(command.order.encode()) > ORDER_BYTES:
        return Result.OUT_OF_RANGE, f"order = {short(command.order)}: expected at most {ORDER_BYTES} bytes"
    if gun.is_withdrawn:
        return Result.NO_SUCH_GUN, f"gun = {gun.number}: 106 has taken it out of service"
    if is_rebooting(gun, turn.now.mono_ms) or turn.reboot_awaits(gun.number):
        return Result.BUSY, f"gun {gun.number} is about to reboot, or rebooting"
    if keeps_from_charging(turn):
        return Result.BUSY, "an upgrade is being installed, or has waited long for idle guns"
    if gun.silent or gun.reading is None:
        return Result.DEVICE_SILENT, f"the power board of gun {gun.number} does not answer"
    if gun.reading.state is BoardState.UPDATING:
        return Result.BUSY, f"gun {gun.number} is being updated"
    if not gun.reading.plugged:
        return Result.NOT_PLUGGED, f"no car is plugged in at gun {gun.number}"
    if has_fault(gun):
        return Result.FAULT, f"gun {gun.number} has a fault: {fault_names(gun.reading)}"
    if gun.session is not None:
        return Result.OCCUPIED, f"gun {gun.number} has order {short(gun.session.order)}"
    if gun.reading.state in FLOWING:
        return Result.OCCUPIED, f"gun {gun.number} is {gun.reading.state.value}"
    if gun.reserved_for not in (None, command.account):
        return Result.RESERVED, f"gun {gun.number} is reserved for another account"
    tariff = turn.tariff(gun.number)
    if tariff is None:
        return Result.NO_TARIFF, "the pile has no tariff"
    unpriced = turn.why_unpriced(tariff)
    if unpriced is not None:
        return Result.NO_TARIFF, unpriced
    if not tariff.is_free and not _buys_energy(command, tariff.cheapest):
        return Result.INSUFFICIENT_BALANCE, f"cap_fen = {cap_fen_of(command)}: expected enough for 1 Wh"
    return None


def answer_known_order(turn: Turn, command: StartStop, request: Request) -> bool:
    """A second start of an order is DUPLICATE, with how the first one came out; the answer is given here."""
    for gun in turn.state.guns.values():
        if gun.session is not None and gun.session.order == command.order:
            first = Result.ACCEPTED if gun.session.start_request is not None else Result.OK
            _reply_duplicate(turn, request, first, charge_reply(turn, gun))
            return True
    for past in turn.state.past_orders:
        if past.order == command.order:
            stop_reason = past.stop_reason.value if past.stop_reason is not None else None
            reply = ChargeReply(past.gun, past.order, _status_now(turn, past.gun), stop_reason)
            _reply_duplicate(turn, request, past.result, reply)
            return True
    return False


def _reply_duplicate(turn: Turn, request: Request, first: Result, reply: ChargeReply) -> None:
    turn.duplicate(request, first, reply if not first.is_error else f"order {short(reply.order)} was tried before")


def _status_now(turn: Turn, number: int) -> GunStatus:
    """A gun that the configuration no longer has is out of service."""
    gun = turn.state.guns.get(number)
    return status_of(gun, turn.now.mono_ms) if gun is not None else GunStatus.OUT_OF_SERVICE


def no_such_gun(turn: Turn, number: int) -> str:
    return f"gun = {number}: this pile has 1..{len(turn.state.guns)}"


def _buys_energy(command: StartStop, price: Price) -> bool:
    """No money buys nothing, although rounding gives the first watt-hours away."""
    return cap_fen_of(command) > 0 and energy_for_wh(cap_fen_of(command), price) != 0


def cap_fen_of(command: StartStop) -> int:
    """The most the charge may cost: what was prepaid, else the balance, and the free amount."""
    return (command.prepaid_fen or command.balance_fen) + command.free_fen


def fault_names(reading: GunReading) -> str:
    return ", ".join(reading.faults) or "no details"


def short(order: str) -> str:
    return order if len(order) <= SHOWN_CHARACTERS else f"{order[:SHOWN_CHARACTERS]}…"


def charge_reply(turn: Turn, gun: Gun) -> ChargeReply:
    assert gun.session is not None
    return ChargeReply(gun.number, gun.session.order, status_of(gun, turn.now.mono_ms))

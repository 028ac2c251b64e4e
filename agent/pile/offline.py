"""Charges begun at the pile, by card or button, which the platform did not order (106): whether they may run, and the
order number they get."""

from agent.pile.admission import fault_names
from agent.pile.board import BoardState, GunReading
from agent.pile.money import Price
from agent.pile.state import Gun, Phase, Session
from agent.pile.status import has_fault
from agent.pile.tariff import Tariff, flat_tariff
from agent.pile.turn import Turn

LOCAL_START = 5  # the start type of their bills, beside 101's own types
NO_TARIFF = flat_tariff("", Price(0, 0))


def is_begun_locally(reading: GunReading) -> bool:
    """The board charges without holding any order. One that keeps no orders at all can't tell."""
    return reading.order == "" and reading.state in (BoardState.STARTING, BoardState.CHARGING)


def offline_refusal(turn: Turn, gun: Gun) -> str | None:
    """Why a charge begun at the pile may not run, in words."""
    parameters = turn.state.parameters
    if parameters is None or not parameters.offline_allowed:
        return "charging without the platform is not allowed"
    if gun.is_withdrawn:
        return "106 has taken the gun out of service"
    if turn.reboot_awaits(gun.number):
        return "a reboot is ordered"
    if turn.state.offline_bills >= parameters.offline_records:
        return f"{turn.state.offline_bills} offline charges wait for delivery, {parameters.offline_records} are allowed"
    if gun.reading is not None and has_fault(gun):
        return f"the gun has a fault: {fault_names(gun.reading)}"
    tariff = turn.tariff(gun.number)
    if tariff is None:
        return "the pile has no tariff"
    return turn.why_unpriced(tariff) or ("the gun is reserved" if gun.reserved_for is not None else None)


def local_session(turn: Turn, gun: Gun, before: GunReading | None) -> Session:
    """The session of a charge begun at the pile, metered from the last reading before it."""
    return Session(
        order=_order_number(turn, gun),
        account="",
        start_type=LOCAL_START,
        phase=Phase.STARTING,
        accepted_ms=turn.now.wall_ms,
        cap_fen=None,
        free_fen=0,
        accepted_mono_ms=turn.unsure_ms,
        tariff=_tariff(turn, gun),
        start_request=None,
        meter_start_wh=before.energy_wh if before is not None else None,
        is_local=True,
    )


def _order_number(turn: Turn, gun: Gun) -> str:
    """No two charges have the same: while the time is not known each boot of the kernel counts from 0."""
    boot = "" if turn.now.trusted else f"{turn.now.boot[:8]}-"
    return f"L{turn.config.pile}-{gun.number}-{boot}{turn.now.wall_ms}"


def _tariff(turn: Turn, gun: Gun) -> Tariff:
    """What flows before a charge that can't be priced is stopped costs no more than it would at any hour."""
    tariff = turn.tariff(gun.number)
    if tariff is None:
        return NO_TARIFF
    return flat_tariff(tariff.template, tariff.cheapest) if turn.why_unpriced(tariff) else tariff

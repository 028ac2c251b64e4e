"""A gun's status in the platform's words: its charge first, then what keeps it from one, then the plug."""

from collections.abc import Callable
from dataclasses import dataclass

from agent.pile.board import BoardState
from agent.pile.state import Gun, Phase
from agent.protocol.results import GunStatus

FLOWING = (BoardState.STARTING, BoardState.CHARGING, BoardState.STOPPING)
PHASE_STATUS = {
    Phase.STARTING: GunStatus.STARTING,
    Phase.CHARGING: GunStatus.CHARGING,
    Phase.STOPPING: GunStatus.STOPPING,
}


@dataclass(frozen=True, slots=True)
class Rest:
    """A gun without a charge shows ``status`` when ``holds``, given the monotonic time in ms."""

    status: GunStatus
    when: str
    holds: Callable[[Gun, int], bool]


def has_fault(gun: Gun) -> bool:
    return gun.reading is not None and (gun.reading.state is BoardState.FAULT or bool(gun.reading.faults))


def is_rebooting(gun: Gun, mono_ms: int) -> bool:
    return mono_ms < gun.reboot_until_ms


def _is_plugged(gun: Gun) -> bool:
    return gun.reading is not None and gun.reading.plugged


def _is_updating(gun: Gun) -> bool:
    return gun.reading is not None and gun.reading.state is BoardState.UPDATING


RESTS = (
    Rest(GunStatus.OUT_OF_SERVICE, "106 has withdrawn it", lambda gun, _: gun.is_withdrawn),
    Rest(GunStatus.UPDATING, "an upgrade has locked it", lambda gun, _: gun.is_locked),
    Rest(GunStatus.OUT_OF_SERVICE, "its board does not answer", lambda gun, _: gun.silent or gun.reading is None),
    Rest(GunStatus.OUT_OF_SERVICE, "it is rebooted", is_rebooting),
    Rest(GunStatus.UPDATING, "its controller is updated or restarting", lambda gun, _: _is_updating(gun)),
    Rest(GunStatus.FAULT, "its board reports a fault", lambda gun, _: has_fault(gun)),
    Rest(GunStatus.ENDED, "its charge is over, the plug is in", lambda gun, _: gun.ended_plugged and _is_plugged(gun)),
    Rest(GunStatus.RESERVED, "a reservation's time has come", lambda gun, _: gun.reserved_for is not None),
    Rest(GunStatus.PLUGGED, "a plug is in", lambda gun, _: _is_plugged(gun)),
    Rest(GunStatus.IDLE, "none of these", lambda _gun, _ms: True),
)


def status_of(gun: Gun, mono_ms: int) -> GunStatus:
    """What the gun is doing."""
    if gun.session is not None:
        return PHASE_STATUS[gun.session.phase]
    return next(rest.status for rest in RESTS if rest.holds(gun, mono_ms))

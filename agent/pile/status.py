"""A gun's status in the platform's words, and what stands in the way of a start."""

from agent.pile.board import BoardState
from agent.pile.state import Gun, Phase
from agent.protocol.results import GunStatus

FLOWING = (BoardState.STARTING, BoardState.CHARGING, BoardState.STOPPING)
PHASE_STATUS = {
    Phase.STARTING: GunStatus.STARTING,
    Phase.CHARGING: GunStatus.CHARGING,
    Phase.STOPPING: GunStatus.STOPPING,
}


def status_of(gun: Gun, mono_ms: int) -> GunStatus:
    """What the gun is doing: its charge first, then what keeps it from one, then the plug."""
    if gun.session is not None:
        return PHASE_STATUS[gun.session.phase]
    reading = gun.reading
    if gun.is_withdrawn or gun.silent or reading is None or is_rebooting(gun, mono_ms):
        return GunStatus.OUT_OF_SERVICE
    if reading.state is BoardState.UPDATING:
        return GunStatus.UPDATING
    if has_fault(gun):
        return GunStatus.FAULT
    if gun.ended_plugged and reading.plugged:
        return GunStatus.ENDED
    if gun.reserved_for is not None:
        return GunStatus.RESERVED
    return GunStatus.PLUGGED if reading.plugged else GunStatus.IDLE


def has_fault(gun: Gun) -> bool:
    return gun.reading is not None and (gun.reading.state is BoardState.FAULT or bool(gun.reading.faults))


def is_rebooting(gun: Gun, mono_ms: int) -> bool:
    return mono_ms < gun.reboot_until_ms

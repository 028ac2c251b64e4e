"""What the power electronics report and can be told, in the core's own terms: pure types, no register, no wire.

The power room fills these from a device profile; the core decides on them. Units stand in the names.
"""

from dataclasses import dataclass
from enum import Enum


class BoardState(Enum):
    """What a gun's controller says it is doing (the profile maps its own numbers to these words)."""

    IDLE = "idle"
    PLUGGED = "plugged"
    STARTING = "starting"
    CHARGING = "charging"
    STOPPING = "stopping"
    ENDED = "ended"
    FAULT = "fault"
    UPDATING = "updating"


@dataclass(frozen=True, slots=True)
class GunReading:
    """One gun's measurements of one poll. ``None`` means the device has no such register or reports it as invalid."""

    gun: int
    at_ms: int  # monotonic clock
    state: BoardState
    plugged: bool
    faults: tuple[str, ...] = ()  # names the profile gives to raised fault bits, lowest bit first
    stop_cause: str | None = None  # why the controller itself ended the last charge, by the profile's word
    order: str = ""  # order context the controller holds
    voltage_dv: int | None = None
    current_da: int | None = None
    power_w: int | None = None
    soc_pct: int | None = None
    temperature_dc: int | None = None
    energy_wh: int | None = None  # the gun's meter, which never goes back


@dataclass(frozen=True, slots=True)
class DeviceVersion:
    """One answer to "which version are you" (spec 112)."""

    device: str
    version: str

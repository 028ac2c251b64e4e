"""What the power electronics report and can be told, in the core's own terms: pure types, no register, no wire.

The power room fills these from a device profile; the core decides on them. Units stand in the names.
"""

from dataclasses import dataclass
from enum import Enum

from agent.protocol.results import StopReason

ORDER_CONTEXT_BYTES = 32


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


class StopCause(Enum):
    """Why a controller ended a charge (the profile maps its own numbers to these words, and them to stop reasons)."""

    NONE = "none"
    COMMAND = "command"
    FULL = "full"
    ENERGY_LIMIT = "energy_limit"
    UNPLUGGED = "unplugged"
    EMERGENCY_STOP = "emergency_stop"
    FAULT = "fault"
    WATCHDOG = "watchdog"
    NO_CURRENT = "no_current"
    TIME = "time"
    POWER_LOST = "power_lost"


@dataclass(frozen=True, slots=True)
class GunReading:
    """One gun's measurements of one poll. ``None`` means the device has no such register or reports it as invalid."""

    gun: int
    at_ms: int  # monotonic clock
    state: BoardState
    plugged: bool
    faults: tuple[str, ...] = ()  # names the profile gives to raised fault bits, lowest bit first
    stop_reason: StopReason | None = None  # why the controller itself ended the last charge, as the profile maps it
    order: str | None = None  # order context the controller holds; empty: a charge nobody ordered, None: it keeps none
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


def order_context(order: str, size: int = ORDER_CONTEXT_BYTES) -> str:
    """The form in which a controller keeps an order: as it is, or ``#`` and a digest where ``size`` bytes of printable
    ASCII can't hold it. Two orders that differ keep differing."""
    if len(order) <= size and order.isascii() and order.isprintable() and not order.startswith("#"):
        return order
    import hashlib  # here, as few orders need it: it loads OpenSSL, 3.4 MiB

    return "#" + hashlib.sha256(order.encode()).hexdigest()[: size - 1]


def is_context_of(context: str, order: str) -> bool:
    """Whether a controller that reports ``context`` holds ``order``, whatever number of bytes it keeps."""
    return context == order_context(order, len(context))

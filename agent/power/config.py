"""What the bus needs to know of its serial lines and the devices on them."""

from dataclasses import dataclass

from agent.power.profile import Profile


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """One power board: its ``guns`` are the pile's numbers for the board's gun 1, 2, …"""

    name: str
    unit: int
    profile: Profile
    guns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LineConfig:
    """One serial line and its devices."""

    port: str
    devices: tuple[DeviceConfig, ...]
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1
    local_echo: bool = False
    poll_ms: int = 1000
    statistics_ms: int = 60_000
    watchdog_s: int = 10  # what a feeding gives the board's watchdog
    answer_ms: int | None = None  # None: as the profile says
    tries: int = 3

"""What the platform has set and the pile keeps: reservations (102), local parameters (106), site (109). Pure data."""

from dataclasses import dataclass

PHASES = {1: "single", 3: "three"}
MODES = {1: "cv", 2: "cc"}
YES = 1
PUBLIC_FREE = 3  # of 109's operation types


@dataclass(frozen=True, slots=True)
class Reservation:
    """A gun is kept for an account from ``start_s`` until ``end_s`` (epoch)."""

    gun: int
    account: str
    start_s: int
    end_s: int

    def overlaps(self, start_s: int, end_s: int) -> bool:
        return self.start_s < end_s and start_s < self.end_s


@dataclass(frozen=True, slots=True)
class Site:
    """Where the pile stands and how it is operated (109)."""

    device_type: int
    longitude: float
    latitude: float
    bay: int
    parking_bay: int
    station: str
    region: str
    operation: int


@dataclass(frozen=True, slots=True)
class BoardSettings:
    """What a gun's controller keeps. ``None``: left as it is, or not known."""

    current_limit_da: int | None
    mode: str | None = None  # cv, cc
    phases: str | None = None  # single, three


@dataclass(frozen=True, slots=True)
class GunSettings:
    """A gun's ``settings`` as they were."""

    gun: int
    settings: BoardSettings


@dataclass(frozen=True, slots=True)
class ShownQrCode:
    """A QR code for the screen."""

    gun: int
    data: str


@dataclass(frozen=True, slots=True)
class Server:
    """A broker's address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


NO_SERVER = Server("", 0)


@dataclass(frozen=True, slots=True)
class Parameters:
    """The local parameters (106), but for the heartbeat's period and the server, which are kept by themselves."""

    board: BoardSettings
    guns: int
    gun_uses: int
    offline_allowed: bool
    offline_records: int
    reservations_allowed: bool
    screen_account: str = ""
    screen_login: str = ""  # the password's hash (agent/secret.py), empty while there is none
    qr_codes: tuple[ShownQrCode, ...] = ()

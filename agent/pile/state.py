"""What the core knows: the pile, its guns, a gun's charge. All of it frozen; a turn replaces what changes."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from agent.pile.board import GunReading
from agent.pile.firmware import ImageFile, PastUpgrade, Ticket, Upgrade
from agent.pile.ledger import Ledger
from agent.pile.meter import Doubtful
from agent.pile.money import Price
from agent.pile.parameters import NO_SERVER, BoardSettings, GunSettings, Parameters, Reservation, Server, Site
from agent.pile.request import Request as Request
from agent.pile.tariff import Tariff
from agent.protocol.results import RecordType, Result, StopReason

RECENT_ORDERS = 64


@dataclass(frozen=True, slots=True)
class Now:
    """The time of a turn: wall clock (epoch), monotonic clock of the kernel's ``boot``, and whether the wall clock may
    be believed. ``is_estimate``: it goes by the platform's commands, and may have to go forward yet."""

    wall_ms: int
    mono_ms: int
    trusted: bool = True
    is_estimate: bool = False
    boot: str = ""

    @property
    def is_sure(self) -> bool:
        return self.trusted and not self.is_estimate

    @property
    def ahead_ms(self) -> int:
        """How far the wall clock is ahead of the monotonic one."""
        return self.wall_ms - self.mono_ms


@dataclass(frozen=True, slots=True)
class KnownTime:
    """What is known of the time in the kernel's ``boot``: how far the wall clock is ahead of its monotonic clock
    (``None``: nothing), and whether that is sure."""

    boot: str
    ahead_ms: int | None = None
    is_sure: bool = False


@dataclass(frozen=True, slots=True)
class PileConfig:
    """What the configuration file settles for the core."""

    pile: str
    guns: int
    price: Price | None = None  # the price until 110 brings a tariff
    current_limit_da: int = 320  # until 106 sets one
    current_range_da: tuple[int, int] = (0, 65535)  # what every board can keep as its limit
    broker: Server = NO_SERVER  # until 106 sets a server
    command_ttl_s: int = 120
    start_timeout_s: int = 60
    stop_timeout_s: int = 30
    stop_latency_ms: int = 3000  # from deciding a stop to no current: a poll, the write, the contactor
    feed_period_s: int = 3
    utc_offset_s: int = 8 * 3600
    max_power_w: int = 500_000  # a meter that counts faster than this has jumped
    silence_limit_s: int = 300  # a device silent for so long loses its charge
    version: str = ""
    can_update: bool = False  # 113 and 114 have a place to put things


class Phase(StrEnum):
    """How far a charge is."""

    STARTING = "starting"
    CHARGING = "charging"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Session:
    """One charge, from the accepted start to no current. All of it is durable."""

    order: str
    account: str
    start_type: int
    phase: Phase
    accepted_ms: int  # epoch
    cap_fen: int | None  # the most it may cost; None without limit
    free_fen: int  # the part of the cap that is given away, used first
    tariff: Tariff  # as it was at the start
    start_request: Request | None  # until its final reply
    meter_start_wh: int | None = None
    accepted_mono_ms: int | None = None  # where ``accepted_ms`` is not sure: in this boot's monotonic time
    ledger: Ledger | None = None  # as it was at the last checkpoint
    is_local: bool = False  # begun at the pile, by card or button
    stop_reason: StopReason | None = None
    stop_requests: tuple[Request, ...] = ()


@dataclass(frozen=True, slots=True)
class Gun:
    """One gun. Only ``session`` is durable: the rest is read from the board again, or timed by the monotonic clock."""

    number: int
    session: Session | None = None
    reading: GunReading | None = None
    silent: bool = True  # until the board has answered
    silent_since_ms: int = 0
    start_sent: bool = False  # by this process: a start is written again after a restart
    deadline_ms: int = 0  # of the phase
    stop_ordered_ms: int = 0
    retry_ms: int = 0  # when a stop that did not take is written again
    ledger: Ledger | None = None  # of the charge, up to the last good meter reading
    ledger_mono_ms: int | None = None  # when that was; None: in an earlier life of the agent
    doubtful: Doubtful | None = None  # a meter reading that is not billed
    checkpoint_due_ms: int = 0
    process_due_ms: int = 0
    stop_latency_ms: int | None = None  # from deciding a stop to no current, as measured
    ended_plugged: bool = False  # a charge ended and the plug still sits
    reboot_until_ms: int = 0
    reserved_for: str | None = None  # the account whose reservation is open
    is_withdrawn: bool = False  # 106 gives the pile fewer guns
    owed: BoardSettings | None = None  # what its board is to be set to once the gun is idle
    is_being_set: bool = False
    owed_retry_ms: int = 0
    is_locked: bool = False  # by an upgrade


@dataclass(frozen=True, slots=True)
class GunTariff:
    """The tariff of a gun's next charge (110)."""

    gun: int
    tariff: Tariff


@dataclass(frozen=True, slots=True)
class Settings:
    """What the platform has set (107)."""

    report_period_s: int = 30
    report_timeout_s: int = 90


@dataclass(frozen=True, slots=True)
class PastOrder:
    """An order that was accepted here: how its start came out, and why it stopped."""

    order: str
    gun: int
    result: Result
    stop_reason: StopReason | None = None


@dataclass(frozen=True, slots=True)
class PendingReboot:
    """A reboot ordered by 108 that waits for the guns to be idle."""

    request: Request
    gun: int  # 0: the whole pile


@dataclass(frozen=True, slots=True)
class Rebooting:
    """A reboot whose OK is on its way; it happens once that was delivered, or at ``due_ms``."""

    request: Request
    gun: int
    due_ms: int
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Configuring:
    """A 106 under way: first each gun's board is set, as soon as it may be, then a new server is tried."""

    request: Request
    parameters: Parameters
    heartbeat_s: int
    server: Server
    board: BoardSettings  # what is written to the boards
    left: tuple[int, ...]  # guns whose board is not set yet
    before: tuple[GunSettings, ...] = ()  # how the boards were that are
    is_trying: bool = False  # the server


@dataclass(frozen=True, slots=True)
class Alarm:
    """A fault that was raised and not yet cleared. ``fault`` is the device's own name for it, if it has one."""

    gun: int  # 0: the pile
    code: int
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """The records that the last 104 asked for, and how many of them the broker has taken."""

    request: Request
    type: RecordType
    total: int
    last: int  # sequence of the last one that belongs to it; 0: there are none
    delivered: int = 0
    reached: int = 0  # sequence of the last one delivered

    @property
    def is_over(self) -> bool:
        return self.reached >= self.last


@dataclass(frozen=True, slots=True)
class PileState:
    """The whole pile."""

    guns: dict[int, Gun]
    time: KnownTime | None = None  # as of the last turn
    settings: Settings = field(default_factory=Settings)
    past_orders: tuple[PastOrder, ...] = ()
    pending_reboot: PendingReboot | None = None
    versions_requests: tuple[Request, ...] = ()
    rebooting: Rebooting | None = None
    alarms: tuple[Alarm, ...] = ()
    offline_bills: int = 0  # of charges begun at the pile, since everything was delivered last
    replay: Replay | None = None
    replay_kept: Replay | None = None  # as it is in the journal, which lags behind
    tariffs: tuple[GunTariff, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    site: Site | None = None
    parameters: Parameters | None = None
    server: Server | None = None
    configuring: Configuring | None = None
    owed: tuple[GunSettings, ...] = ()  # to boards that a 106 had changed which failed while none was in force
    ticket: Ticket | None = None  # a 113 that waits for its 114
    ticket_until_ms: int = 0  # monotonic
    upgrade: Upgrade | None = None
    upgrade_percent: int = 0  # of its stage
    upgrade_told: tuple[int, int] = (0, 0)  # the last report of it: percent, monotonic ms
    upgrade_due_ms: int = 0  # when its stage has to look again
    past_upgrades: tuple[PastUpgrade, ...] = ()
    board_images: tuple[ImageFile, ...] = ()  # what the power boards took last, to be pushed again if need be
    connected: bool = False
    started_ms: int = 0  # monotonic
    next_heartbeat_ms: int = 0
    next_feed_ms: int = 0

    def with_gun(self, gun: Gun) -> "PileState":
        return replace(self, guns=self.guns | {gun.number: gun})


def new_state(config: PileConfig, now: Now) -> PileState:
    """The state of a pile that has nothing to remember."""
    guns = {number: Gun(number, silent_since_ms=now.mono_ms) for number in range(1, config.guns + 1)}
    return PileState(guns, started_ms=now.mono_ms)

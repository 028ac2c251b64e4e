"""What the core wants done. Replies and records become durable in the turn's transaction; jobs follow it."""

from dataclasses import dataclass
from enum import IntEnum

from agent.pile.firmware import ImageFile, Step, Upgrade
from agent.pile.parameters import BoardSettings, Server
from agent.pile.request import Request
from agent.protocol.results import RecordType, Result


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a command. ``outcome`` is result and body as they stand on the wire."""

    request: Request
    result: Result
    outcome: str


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the platform something nobody asked for. One that is not ``durable`` is dropped while the link is down."""

    command: int
    outcome: str
    durable: bool


@dataclass(frozen=True, slots=True)
class Conclude:
    """Remember how a command came out whose last reply was ACCEPTED. No message says it: what it asked for did."""

    request: Request
    result: Result
    outcome: str


class Severity(IntEnum):
    """How loud the log says it, in the numbers of ``logging``."""

    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Record:
    """Keep a record, and tell the platform of it unasked. ``body``: its wire fields but for those that stand here and
    its sequence, which the journal gives."""

    type: RecordType
    at_ms: int  # epoch
    gun: int  # 0: the pile
    order: str  # empty: of none
    body: str
    words: str = ""  # for the log
    severity: Severity = Severity.INFO


@dataclass(frozen=True, slots=True)
class MarkStamps:
    """From here on records and messages are stamped without knowing the time, with that since the kernel's boot."""


@dataclass(frozen=True, slots=True)
class PutStampsRight:
    """The time is known: what was stamped since the last ``MarkStamps`` becomes so much later."""

    by_ms: int


@dataclass(frozen=True, slots=True)
class StartGun:
    """Let a gun charge; the board ends the charge by itself at the limits."""

    gun: int
    order: str
    energy_limit_wh: int | None
    current_limit_da: int


@dataclass(frozen=True, slots=True)
class StopGun:
    """Take the current off a gun."""

    gun: int


@dataclass(frozen=True, slots=True)
class RebootGun:
    """Restart a gun's controller."""

    gun: int


@dataclass(frozen=True, slots=True)
class RebootBoards:
    """Restart every power board."""


@dataclass(frozen=True, slots=True)
class SetGun:
    """Write what a gun's controller keeps; ``GunSet`` answers, with how it was before. ``request``: the 106 that
    wants it, if one does."""

    gun: int
    settings: BoardSettings
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class TryServer:
    """See whether a broker can be used; ``ServerTried`` answers. One that was reached stays connected."""

    server: Server


@dataclass(frozen=True, slots=True)
class UseServer:
    """Everything goes over that broker from now on, also what is not delivered yet."""

    server: Server


@dataclass(frozen=True, slots=True)
class FeedWatchdogs:
    """Tell every board that the agent is alive."""


@dataclass(frozen=True, slots=True)
class ReadVersions:
    """Ask every device for its version; ``VersionsRead`` answers."""


@dataclass(frozen=True, slots=True)
class KeepLogin:
    """Keep the password of this 113 for its upgrade, durably, before the turn is: it stands in no part of the state."""

    request: Request
    record_id: str
    account: str


@dataclass(frozen=True, slots=True)
class FetchFirmware:
    """Fetch and prove the file of an upgrade, or go on with it: ``FirmwareProgress``, then ``FirmwareFetched`` or
    ``FirmwareFailed`` answer."""

    upgrade: Upgrade


@dataclass(frozen=True, slots=True)
class AskInstaller:
    """Have the installer, which alone may write releases, do its part; ``InstallerAnswered`` answers. Doing it twice
    ends as doing it once."""

    do: Step
    upgrade: Upgrade


@dataclass(frozen=True, slots=True)
class FlashBoard:
    """Push an image to every power board whose model is in its ``hardware``, or go on with it; ``FlashProgress``, then
    ``FlashDone`` answer. ``last_good``: the image to push when the new one does not work."""

    image: ImageFile
    packet_length: int
    last_good: ImageFile | None


@dataclass(frozen=True, slots=True)
class DropFirmware:
    """The upgrade is over: forget its login and its files but for the images in ``keep``."""

    keep: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RestartAgent:
    """End, to be started again. ``fault``: why this release, which is on trial, does not work."""

    fault: str = ""


@dataclass(frozen=True, slots=True)
class RebootHost:
    """Restart the Linux board."""


Job = StartGun | StopGun | RebootGun | RebootBoards
Kept = Reply | Report | Record | Conclude | MarkStamps | PutStampsRight
Firmware = KeepLogin | FetchFirmware | AskInstaller | DropFirmware | RestartAgent
Action = Kept | Job | SetGun | TryServer | UseServer | FeedWatchdogs | ReadVersions | RebootHost | FlashBoard | Firmware

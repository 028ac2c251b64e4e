"""What the core wants done. Replies and notes become durable in the turn's transaction; jobs go to the bus after it."""

from dataclasses import dataclass

from agent.pile.state import Request
from agent.protocol.results import Result


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
class Note:
    """Keep an event: ``code`` is a stable word, ``text`` says it in full."""

    gun: int  # 0: the pile
    code: str
    text: str


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
class FeedWatchdogs:
    """Tell every board that the agent is alive."""


@dataclass(frozen=True, slots=True)
class ReadVersions:
    """Ask every device for its version; ``VersionsRead`` answers."""


@dataclass(frozen=True, slots=True)
class RebootHost:
    """Restart the Linux board."""


Job = StartGun | StopGun | RebootGun | RebootBoards
Action = Reply | Report | Note | Job | FeedWatchdogs | ReadVersions | RebootHost

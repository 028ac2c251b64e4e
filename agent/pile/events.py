"""What can happen to the core."""

from dataclasses import dataclass

from agent.pile.actions import Job
from agent.pile.board import DeviceVersion, GunReading
from agent.pile.state import Request
from agent.protocol.results import Result
from cext.message import Message


@dataclass(frozen=True, slots=True)
class Commanded:
    """A command for this pile came in."""

    message: Message
    request: Request


@dataclass(frozen=True, slots=True)
class Repeated:
    """The same command came in again. ``outcome`` is the first one's result and body, or empty while none is known."""

    request: Request
    outcome: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A line for this pile that is no command: ``result`` and ``text`` say what is wrong with it."""

    request: Request
    result: Result
    text: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A gun was polled."""

    reading: GunReading


@dataclass(frozen=True, slots=True)
class Silenced:
    """The device of a gun has stopped answering."""

    gun: int


@dataclass(frozen=True, slots=True)
class JobDone:
    """A job for the board is over: ``result`` OK, or why not, with ``text`` in words."""

    job: Job
    result: Result
    text: str = ""


@dataclass(frozen=True, slots=True)
class VersionsRead:
    """Every device was asked for its version."""

    versions: tuple[DeviceVersion, ...]


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The broker is reached, or lost."""

    connected: bool


@dataclass(frozen=True, slots=True)
class Delivered:
    """The broker has taken everything the pile had to say."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The agent has started, with the state it remembered."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed."""


FromPlatform = Commanded | Repeated | Refused
FromBoard = Measured | Silenced | JobDone | VersionsRead
Event = FromPlatform | FromBoard | LinkChanged | Delivered | Resumed | Ticked

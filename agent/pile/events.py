"""What can happen to the core."""

from dataclasses import dataclass
from typing import NamedTuple

from agent.pile.actions import Job, SetGun
from agent.pile.board import DeviceVersion, GunReading
from agent.pile.parameters import BoardSettings, Server
from agent.pile.state import Request
from agent.protocol.results import Result
from cext.message import Message


class Stored(NamedTuple):
    """How many records of a type the journal has, and the sequence of the last one."""

    total: int
    last: int


NOTHING_STORED = Stored(0, 0)


@dataclass(frozen=True, slots=True)
class Commanded:
    """A command for this pile came in. ``stored``: the records of the type a 104 asks for."""

    message: Message
    request: Request
    stored: Stored = NOTHING_STORED


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
class GunSet:
    """A gun's board was set: ``result`` OK, or why not, with ``text`` in words. ``before``: how it was, as far as
    that could be read."""

    job: SetGun
    before: BoardSettings
    result: Result
    text: str = ""


@dataclass(frozen=True, slots=True)
class ServerTried:
    """A broker took our login and our subscription, or ``reason`` says what was wrong."""

    server: Server
    is_reached: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class VersionsRead:
    """Every device was asked for its version."""

    versions: tuple[DeviceVersion, ...]


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The broker is reached, or lost."""

    connected: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    """Of the replay that ``request`` asked for the broker has taken so many, up to the one numbered ``reached``."""

    request: Request
    delivered: int
    reached: int


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
FromBoard = Measured | Silenced | JobDone | GunSet | VersionsRead
Event = FromPlatform | FromBoard | LinkChanged | ServerTried | Delivered | Replayed | Resumed | Ticked

"""What can happen to the core."""

from dataclasses import dataclass
from typing import NamedTuple

from agent.pile.actions import Job, SetGun
from agent.pile.board import DeviceVersion, GunReading
from agent.pile.firmware import NO_BOOT, Boot, ImageFile, Step
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
class BoardFaults:
    """What is wrong with a power board itself, by its own names; nothing of it any more, or ever, is empty."""

    board: str
    faults: tuple[str, ...]


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
class FirmwareProgress:
    """The file of an upgrade is being fetched or, ``is_verifying``, proved."""

    record_id: str
    percent: int
    is_verifying: bool = False


@dataclass(frozen=True, slots=True)
class FirmwareFetched:
    """The file is here and its signatures prove it."""

    record_id: str
    image: ImageFile


@dataclass(frozen=True, slots=True)
class FirmwareFailed:
    """The file could not be fetched or proved."""

    record_id: str
    result: Result
    text: str


@dataclass(frozen=True, slots=True)
class InstallerAnswered:
    """The installer has done its part, or ``result`` and ``text`` say why not."""

    do: Step
    result: Result
    text: str = ""


@dataclass(frozen=True, slots=True)
class FlashProgress:
    """The power boards have so much of their new image."""

    percent: int


@dataclass(frozen=True, slots=True)
class FlashDone:
    """The power boards run the new image, or ``result`` and ``text`` say why not. ``version``: what they run."""

    result: Result
    text: str
    version: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """The broker has taken everything the pile had to say."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The agent has started, with the state it remembered. ``boot``: what the launcher says of this start."""

    boot: Boot = NO_BOOT


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed."""


FromPlatform = Commanded | Repeated | Refused
FromBoard = Measured | Silenced | BoardFaults | JobDone | GunSet | VersionsRead | FlashProgress | FlashDone
FromBridge = FirmwareProgress | FirmwareFetched | FirmwareFailed | InstallerAnswered
Event = FromPlatform | FromBoard | FromBridge | LinkChanged | ServerTried | Delivered | Replayed | Resumed | Ticked

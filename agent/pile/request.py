"""What a reply answers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """A command that is owed a reply: ``timestamp`` verbatim, ``key`` its place in the inbox."""

    command: int
    timestamp: str
    key: str

"""Which pile a command is for, and under which key it goes on. Pure."""

import re
from enum import Enum

from cext.message import LINE_BYTES_MAX, pile_of

COMMAND_KEY = "klc.command.qik"  # docs/protocol.md, topics and routing keys

# What may stand as one level of a routing key and of an MQTT topic: "." ends a level in AMQP, "/" in MQTT, and RabbitMQ
# makes the one of the other; "#", "*" and "+" are wildcards.
_PILE = re.compile(r"[A-Za-z0-9_-]{1,32}")


class Unroutable(Enum):
    """Why a message can't be handed on. The value stands in the header of what is parked, and in the counters."""

    TOO_LONG = "longer than 64 KiB"
    NO_PILE = "no pile number: fewer than four commas"
    BAD_PILE = "pile number is not 1 to 32 letters, digits, _ or -"
    LOOP = "a router has handed it on before"
    NO_QUEUE = "no queue takes this pile's key"
    NO_SESSION = "the MQTT broker knows no such pile"
    REFUSED = "the broker refused it again and again"


def pile_in(line: bytes) -> str | Unroutable:
    """The pile number of a command, read from its first commas alone."""
    if len(line) > LINE_BYTES_MAX:
        return Unroutable.TOO_LONG
    number = pile_of(line)
    if number is None:
        return Unroutable.NO_PILE
    text = number.decode("ascii", "replace")
    return text if is_pile(text) else Unroutable.BAD_PILE


def is_pile(text: str) -> bool:
    return _PILE.fullmatch(text) is not None


def pile_key(pile: str) -> str:
    return f"{COMMAND_KEY}.{pile}"


def pile_topic(prefix: str, pile: str) -> str:
    return f"{prefix}/command/qik/{pile}"


def matches(binding: str, key: str) -> bool:
    """Whether a topic exchange hands ``key`` to a queue bound by ``binding`` (``*`` one word, ``#`` any number)."""
    return _words_match(binding.split("."), key.split("."))


def _words_match(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_words_match(pattern[1:], words[taken:]) for taken in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _words_match(pattern[1:], words[1:])


def would_loop(binding: str) -> bool:
    """Whether a router bound by ``binding`` would get back what it hands on to some pile."""
    return matches(binding, pile_key("0"))

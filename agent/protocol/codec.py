"""Lines to messages and back, by the command table: what the agent, the command line and the simulator speak."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from agent.protocol.commands import COMMANDS, RECORDS, Command, Explanation
from agent.protocol.fields import Int, Text, describe, shape_of
from agent.protocol.results import Result
from cext.message import Codec as LineCodec
from cext.message import Message, MessageError, Shape, split_reply, split_result, write_fields, write_line, write_text

CHINA_OFFSET_S = 8 * 3600
NOT_ASKED = "0"  # request timestamp of a report nobody asked for

_TEXT = describe(Text())
_INT = describe(Int())


@dataclass(frozen=True)
class Reply:
    """A parsed uplink line. ``body`` is the reply's message class, or with an error result the text that says what was
    wrong. A DUPLICATE carries the ``first`` result, whose body it has."""

    ip: str
    version: str
    command: int
    timestamp: int
    pile: str
    request_timestamp: str
    result: Result
    body: Any
    first: Result | None = None


@cache
def _shape(message: type) -> Shape:
    return shape_of(message)


class Codec:
    """Both directions of the wire. ``utc_offset_s`` places the epoch forms of 110's times of day."""

    def __init__(self, utc_offset_s: int = CHINA_OFFSET_S) -> None:
        shapes = {number: _shape(command.data) for number, command in COMMANDS.items()}
        self._lines = LineCodec(shapes, utc_offset_s)
        self.decode = self._lines.decode  # the hot path: no frame of ours in between

    def encode(self, ip: str, version: str, number: int, timestamp: int | str, pile: str, data: Sequence[Any]) -> bytes:
        """A downlink line, checked as a receiver would. Raises ``MessageError``."""
        shape = _shape(_command(number).data)
        line = write_line([*_envelope(ip, version, number, timestamp, pile), *write_fields(shape, data, pile)])
        self._lines.decode(line)
        return line

    def encode_reply(
        self, ip: str, version: str, number: int, timestamp_ms: int, pile: str, request_timestamp: str, outcome: str
    ) -> bytes:
        """An uplink line; ``outcome`` is what ``outcome_text`` made of result and body."""
        return write_line([*_envelope(ip, version, number, timestamp_ms, pile), request_timestamp, outcome])

    def decode_reply(self, line: bytes) -> Reply:
        """An uplink line. Raises ``MessageError``."""
        envelope, request_timestamp, number, body = split_reply(line)
        result = outcome = _result("result", number)
        first = None
        if result is Result.DUPLICATE and body is not None:
            number, body = split_result(body)
            first = outcome = _result("first_result", number)
        content = self._body(envelope, outcome, body)
        return Reply(envelope.ip, envelope.version, envelope.command, envelope.timestamp, envelope.pile,
                     request_timestamp, result, content, first)  # fmt: skip

    def _body(self, envelope: Message, result: Result, body: bytes | None) -> Any:
        if result.is_error:
            return self._lines.read_body(_shape(Explanation), body, envelope.pile).text
        shape = _shape(_reply_class(_command(envelope.command), body))
        return self._lines.read_body(shape, body, envelope.pile)


def outcome_text(number: int, result: Result, body: Sequence[Any] | str, pile: str) -> str:
    """Result and body as they stand on the wire: a reply class's values, or with an error result the words for it."""
    if result.is_error:
        return f"{result.value},{plain_text(str(body))}"
    shapes = [_shape(reply) for reply in _command(number).replies]
    shape = next((shape for shape in shapes if isinstance(body, shape.cls)), shapes[0])
    return ",".join([str(result.value), *write_fields(shape, list(body), pile)])


def plain_text(text: str) -> str:
    """``text`` fit to be one field: commas become ``;``, what the wire forbids becomes ``?``; never empty."""
    cleaned = "".join(character if character.isprintable() else "?" for character in text.replace(",", ";"))
    return cleaned or "?"


def _command(number: int) -> Command:
    command = COMMANDS.get(number)
    if command is None:
        raise MessageError(Result.NOT_SUPPORTED, "command", str(number), "an integer 100..114")
    return command


def _envelope(ip: str, version: str, number: int, timestamp: int | str, pile: str) -> list[str]:
    return [
        write_text("ip", ip, _TEXT),
        write_text("version", version, _TEXT),
        str(number),
        write_text("timestamp", str(timestamp), _INT),
        write_text("pile", pile, _TEXT),
    ]


def _result(name: str, number: int) -> Result:
    try:
        return Result(number)
    except ValueError:
        raise MessageError(Result.MALFORMED, name, str(number), "a result of docs/protocol.md") from None


def _reply_class(command: Command, body: bytes | None) -> type:
    """The class of a reply's body. Only 104 has several: a summary of two fields, then records by their type."""
    if command.replies is not RECORDS or body is None or body.count(b",") < 2:
        return command.replies[0]
    record_type = body.split(b",", 1)[0]
    return RECORDS[int(record_type)] if record_type in (b"1", b"2", b"3", b"4") else RECORDS[0]

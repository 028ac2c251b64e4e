"""What the codec's tests share: one pile, one moment, and short ways to a message or to what is wrong with it."""

from collections.abc import Callable
from typing import Any

import pytest

from agent.protocol.codec import Codec
from cext.message import MessageError

CODEC = Codec()
PILE = "0000012345"
HEADER = "192.168.1.1,API:2.0.2,{},1795305600000,0000012345"


def line(command: int, data: str = "") -> bytes:
    """A downlink line with the usual header; ``data`` are the fields after the pile number."""
    return (HEADER.format(command) + ("," + data if data else "")).encode()


def read(command: int, data: str = "") -> Any:
    """The parsed data of such a line."""
    return CODEC.decode(line(command, data)).data


def refused(payload: bytes, codec: Codec = CODEC) -> MessageError:
    """The error that a line is refused with."""
    with pytest.raises(MessageError) as caught:
        codec.decode(payload)
    return caught.value


def outcome(payload: bytes, reader: Callable[[bytes], Any] = CODEC.decode) -> Any:
    """What reading a line brings: a message, or the error that it is refused with."""
    try:
        return reader(payload)
    except MessageError as error:
        return error


def wrong(command: int, data: str = "") -> tuple[int, str]:
    """Result and field that a line with the usual header is refused with."""
    error = refused(line(command, data))
    return error.result, error.field

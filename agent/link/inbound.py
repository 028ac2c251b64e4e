"""What a broker sends, before paho reads it. In the shared mode nearly all is for other piles, and goes no further.

Under TLS the socket is paho's alone: then it reads all, and the desk drops what is not for this pile. Why, and what it
saves: docs/adr/0020.
"""

from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import MessageType

from cext.message import pile_of

CHUNK_BYTES = 16384
PACKET_BYTES_MAX = 65536  # of a message that is waited for and looked into; the platform's are far shorter
LENGTH_BYTES_MAX = 4
PUBLISH = 3
PUBACK = b"\x40\x02"


class Inbound:
    """The bytes that came (``feed``), less the messages of other piles (``read``). Specification: MQTT 5, 2.1 and 3.3.

    The first of other piles' messages is handed on like the own ones, so that the log can say that there are such.
    """

    def __init__(self, pile: str, is_v5: bool) -> None:
        self.drops = True  # what is handed on and not acknowledged yet must not be overtaken by an acknowledgement
        self._pile = pile.encode()
        self._is_v5 = is_v5
        self._data = b""
        self._at = 0
        self._left = 0  # of the packet that is being handed on
        self._is_stalled = True  # until more comes
        self._has_shown_one = False
        self._dropped = 0
        self._acknowledgements = b""

    @property
    def has_more(self) -> bool:
        """There is something to read or to drop, as far as is known."""
        return self._at < len(self._data) and not self._is_stalled

    def feed(self, data: bytes) -> None:
        self._data = self._data[self._at :] + data
        self._at = 0
        self._is_stalled = False

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, all of one packet; empty when nothing can be handed on before more has come."""
        if not self._left:
            self._left = self._next_packet()
        data = self._data[self._at : self._at + min(size, self._left)]
        self._at += len(data)
        self._left -= len(data)
        self._is_stalled = not data
        return data

    def take_acknowledgements(self) -> bytes:
        """PUBACK packets for what was dropped. They must leave before anything that was read since is acknowledged."""
        taken, self._acknowledgements = self._acknowledgements, b""
        return taken

    def take_dropped(self) -> int:
        """How many messages were dropped since this was asked."""
        taken, self._dropped = self._dropped, 0
        return taken

    def _next_packet(self) -> int:
        """The length of the next packet that is to be handed on, those before it being dropped; 0: not known yet."""
        acknowledgements = []
        try:
            while (after_length := _number(self._data, self._at + 1)) is not None:
                length, start = after_length
                end = start + length
                is_message = self._data[self._at] >> 4 == PUBLISH and length <= PACKET_BYTES_MAX and self.drops
                if is_message and end > len(self._data):
                    return 0
                acknowledgement = self._foreign(start, end) if is_message else None
                if acknowledgement is None:
                    return end - self._at
                acknowledgements.append(acknowledgement)
                self._at = end
        finally:
            self._dropped += len(acknowledgements)
            self._acknowledgements += b"".join(acknowledgements)
        is_malformed = len(self._data) - self._at > LENGTH_BYTES_MAX
        return LENGTH_BYTES_MAX + 2 if is_malformed else 0  # as many as paho reads before it sees that

    def _foreign(self, start: int, end: int) -> bytes | None:
        """The acknowledgement (empty at QoS 0) of a message that is another pile's; ``None`` if it may not be."""
        data = self._data
        qos = data[self._at] >> 1 & 3
        at = start + 2 + int.from_bytes(data[start : start + 2], "big")
        packet_id = data[at : at + 2] if qos else b""
        at += len(packet_id)
        properties = _number(data, at) if self._is_v5 else (0, at)
        if properties is None or qos > 1:
            return None
        length, at = properties
        pile = pile_of(data[at + length : end])
        if pile is None or pile == self._pile:
            return None
        if not self._has_shown_one:
            self._has_shown_one = True
            return None
        return PUBACK + packet_id if qos else b""


def _number(data: bytes, at: int) -> tuple[int, int] | None:
    """A variable byte integer, and where it ends; ``None`` when it is not all there, or none (MQTT 5, 1.5.5)."""
    number = 0
    for index, byte in enumerate(data[at : at + LENGTH_BYTES_MAX]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, at + index + 1
    return None


class InboundClient(Client):
    """paho, reading what ``inbound`` leaves of it."""

    def __init__(self, inbound: Inbound, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._inbound = inbound

    def _sock_recv(self, bufsize: int) -> bytes:
        """All that paho reads it reads through this; it has no public one for that."""
        data = self._read(bufsize)
        if data:
            return data
        received = super()._sock_recv(CHUNK_BYTES)
        if not received:
            return received  # the end
        self._inbound.feed(received)
        data = self._read(bufsize)
        if not data:
            raise BlockingIOError
        return data

    def _read(self, bufsize: int) -> bytes:
        data = self._inbound.read(bufsize)
        acknowledgements = self._inbound.take_acknowledgements()
        if acknowledgements:
            self._packet_queue(MessageType.PUBACK, acknowledgements, 0, 0)
        return data

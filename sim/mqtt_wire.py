"""The few packets of MQTT 3.1.1 that a light pile of the fleet needs, as bytes (OASIS MQTT 3.1.1, chapters 2 and 3)."""

from collections.abc import Iterator

CONNACK, PUBLISH, PUBACK, SUBACK = 0x20, 0x30, 0x40, 0x90  # the first byte's upper half
PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"
CONNECT_HEAD = b"\x00\x04MQTT\x04"  # the protocol's name and its level 4, which is 3.1.1
WILL_QOS1_RETAINED, USERNAME_AND_PASSWORD = 0x2C, 0xC0  # and no clean session


def connect(client_id: str, keepalive_s: int, will_topic: str, login: tuple[str, str] | None) -> bytes:
    """A kept session, and a will "offline", retained. ``login``: user and password; None: the certificate is it."""
    flags = WILL_QOS1_RETAINED | (USERNAME_AND_PASSWORD if login else 0)
    texts = [client_id, will_topic, "offline", *(login or ())]
    head = CONNECT_HEAD + bytes([flags]) + keepalive_s.to_bytes(2)
    return _packet(0x10, head + b"".join(map(_text, texts)))


def subscribe(packet_id: int, topic: str) -> bytes:
    """At QoS 1."""
    return _packet(0x82, packet_id.to_bytes(2) + _text(topic) + b"\x01")


def publish(packet_id: int, topic: str, payload: bytes, retain: bool = False) -> bytes:
    """At QoS 1."""
    return _packet(0x33 if retain else 0x32, _text(topic) + packet_id.to_bytes(2) + payload)


def puback(packet_id: bytes) -> bytes:
    return b"\x40\x02" + packet_id


def published(first_byte: int, body: bytes) -> tuple[bytes, bytes]:
    """Packet id (none at QoS 0) and payload of a PUBLISH."""
    topic_end = 2 + int.from_bytes(body[:2])
    payload_at = topic_end + (2 if first_byte & 0x06 else 0)
    return body[topic_end:payload_at], body[payload_at:]


def packets(received: bytearray) -> Iterator[tuple[int, bytes]]:
    """First byte and body of each packet that is whole; it is taken out of ``received``."""
    while (head := _head(received)) is not None:
        begin, length = head
        if len(received) < begin + length:
            return
        packet = received[0], bytes(received[begin : begin + length])
        del received[: begin + length]
        yield packet


def _head(received: bytearray) -> tuple[int, int] | None:
    """Where the body begins, and its length; None while that is not all there."""
    length = 0
    for index, byte in enumerate(received[1:5]):
        length |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return index + 2, length
    return None


def _packet(first_byte: int, body: bytes) -> bytes:
    return bytes([first_byte]) + _remaining_length(len(body)) + body


def _remaining_length(length: int) -> bytes:
    digits = bytearray()
    while length >= 0x80:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    digits.append(length)
    return bytes(digits)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2) + encoded

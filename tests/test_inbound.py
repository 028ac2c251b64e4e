"""What the link leaves of a broker's bytes: other piles' messages are dropped before paho reads them (MQTT 5, 3.3)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link.inbound import PACKET_BYTES_MAX, Inbound

PILE = "P1"
# 104 of pile P1 and of pile P2 on topic "t": fixed header, length, topic, packet identifier where there is one, line.
OWN_QOS0 = bytes.fromhex("30 14 0001 74") + b"i,v,104,1700,P1,1"
OWN_QOS1 = bytes.fromhex("32 16 0001 74 0007") + b"i,v,104,1700,P1,1"
OTHER_QOS0 = bytes.fromhex("30 14 0001 74") + b"i,v,104,1700,P2,1"
OTHER_QOS1 = bytes.fromhex("32 16 0001 74 0102") + b"i,v,104,1700,P2,1"
OTHER_QOS1_V5 = bytes.fromhex("32 1a 0001 74 0102 03 01 00 0b") + b"i,v,104,1700,P2,1"  # with 3 bytes of properties
OTHER_QOS2 = bytes.fromhex("34 16 0001 74 0102") + b"i,v,104,1700,P2,1"
UNREADABLE = bytes.fromhex("30 08 0001 74") + b"hello"
PINGRESP = bytes.fromhex("d0 00")


def inbound(is_v5: bool = False, has_shown_one: bool = True) -> Inbound:
    one = Inbound(PILE, is_v5)
    if has_shown_one:
        one.feed(OTHER_QOS0)
        assert one.read(100) == OTHER_QOS0
    return one


def all_of(one: Inbound) -> bytes:
    """As paho reads: a byte, the length's bytes, the rest; until there is no more."""
    read = b""
    while data := one.read(1) or one.read(1000):
        read += data
    return read


@pytest.mark.parametrize("packet", [OWN_QOS0, OWN_QOS1, OTHER_QOS2, UNREADABLE, PINGRESP])
def test_what_is_not_surely_anothers_is_handed_on_byte_for_byte(packet: bytes) -> None:
    one = inbound()
    one.feed(packet)
    assert all_of(one) == packet
    assert (one.take_dropped(), one.take_acknowledgements()) == (0, b"")


def test_a_message_of_another_pile_is_dropped_and_counted_once() -> None:
    one = inbound()
    one.feed(OTHER_QOS0)
    assert all_of(one) == b""
    assert (one.take_dropped(), one.take_dropped()) == (1, 0)
    assert one.take_acknowledgements() == b""  # QoS 0 has none


def test_at_qos_1_it_is_acknowledged_by_its_packet_identifier() -> None:
    one = inbound()
    one.feed(OTHER_QOS1 + OTHER_QOS1.replace(b"\x01\x02", b"\x01\x03"))
    assert all_of(one) == b""
    assert one.take_acknowledgements() == bytes.fromhex("4002 0102 4002 0103")
    assert one.take_acknowledgements() == b""


def test_properties_of_mqtt_5_stand_before_the_line() -> None:
    one = inbound(is_v5=True, has_shown_one=False)
    one.feed(OTHER_QOS1_V5 * 2)
    assert one.read(1000) == OTHER_QOS1_V5
    assert one.read(1000) == b""
    assert one.take_acknowledgements() == bytes.fromhex("4002 0102")


def test_the_first_one_of_a_connection_is_handed_on_so_that_the_log_can_say_it() -> None:
    one = inbound(has_shown_one=False)
    one.feed(OTHER_QOS0 * 3)
    assert all_of(one) == OTHER_QOS0
    assert one.take_dropped() == 2


def test_an_acknowledgement_does_not_come_before_that_of_an_earlier_message() -> None:
    one = inbound()
    one.feed(OTHER_QOS1 + OWN_QOS1 + OTHER_QOS1)
    assert one.read(1000) == OWN_QOS1
    assert one.take_acknowledgements() == bytes.fromhex("4002 0102")  # of the first alone
    assert one.has_more
    assert one.read(1) == b""
    assert one.take_acknowledgements() == bytes.fromhex("4002 0102")


def test_while_a_message_is_not_taken_all_behind_it_are_handed_on() -> None:
    one = inbound()
    one.drops = False
    one.feed(OTHER_QOS1 + OWN_QOS1)
    assert all_of(one) == OTHER_QOS1 + OWN_QOS1
    one.drops = True
    one.feed(OTHER_QOS1)
    assert all_of(one) == b""


def test_a_read_never_goes_beyond_its_packet() -> None:
    one = inbound()
    one.feed(OWN_QOS0 + PINGRESP)
    assert one.read(1000) == OWN_QOS0
    assert one.read(1000) == PINGRESP


def test_half_a_message_is_waited_for() -> None:
    one = inbound()
    one.feed(OTHER_QOS1[:-1])
    assert one.read(1) == b""
    assert not one.has_more
    one.feed(OTHER_QOS1[-1:] + PINGRESP)
    assert one.has_more
    assert all_of(one) == PINGRESP
    assert not one.has_more


def test_a_message_that_is_too_long_to_wait_for_is_handed_on_as_it_comes() -> None:
    one = inbound()
    header = bytes.fromhex("30 81 80 04")
    assert PACKET_BYTES_MAX == 0x04 << 14  # its length is one more
    one.feed(header + bytes.fromhex("0001 74"))
    assert one.read(1000) == header + bytes.fromhex("0001 74")
    rest = b"i,v,104,1700,P2,".ljust(PACKET_BYTES_MAX + 1 - 3, b"x")
    one.feed(rest + OTHER_QOS0)
    assert all_of(one) == rest


def test_a_length_that_never_ends_is_left_to_paho_to_complain_of() -> None:
    one = inbound()
    one.feed(bytes.fromhex("30 ff ff ff"))
    assert one.read(1) == b""
    one.feed(bytes.fromhex("ff ff 01"))
    assert one.read(1) == b"\x30"
    assert one.read(1000) == bytes.fromhex("ff ff ff ff ff")


@pytest.mark.parametrize(
    "packet",
    [
        bytes.fromhex("30 00"),
        bytes.fromhex("30 02 ffff"),  # a topic longer than the packet
        bytes.fromhex("32 03 0001 74"),  # no packet identifier
        bytes.fromhex("32 04 0001 74 01"),  # half of one
    ],
)
@pytest.mark.parametrize("is_v5", [False, True])
def test_what_is_broken_is_left_to_paho_to_complain_of(packet: bytes, is_v5: bool) -> None:
    one = inbound(is_v5, has_shown_one=False)
    one.feed(packet + OWN_QOS0)
    assert one.read(1000) == packet


PACKETS = st.sampled_from([OWN_QOS0, OWN_QOS1, OTHER_QOS0, OTHER_QOS1, OTHER_QOS2, UNREADABLE, PINGRESP])


@given(st.lists(PACKETS), st.lists(st.integers(0, 200)))
def test_wherever_the_bytes_are_cut_the_same_is_left(packets: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(packets)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    one, left, acknowledged = inbound(), b"", b""
    for start, end in pairwise(places):
        one.feed(stream[start:end])
        left += all_of(one)
        acknowledged += one.take_acknowledgements()
    assert left == b"".join(packet for packet in packets if packet not in (OTHER_QOS0, OTHER_QOS1))
    assert acknowledged == bytes.fromhex("4002 0102") * packets.count(OTHER_QOS1)
    assert one.take_dropped() == packets.count(OTHER_QOS0) + packets.count(OTHER_QOS1)

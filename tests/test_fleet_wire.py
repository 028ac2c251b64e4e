"""The MQTT 3.1.1 packets of the fleet's light piles, byte for byte."""

from sim import mqtt_wire


def test_a_connect_keeps_the_session_and_leaves_a_will() -> None:
    packet = mqtt_wire.connect("P1", 30, "s/P1", ("P1", "pw"))
    assert packet == bytes.fromhex(
        "10 25"
        "00 04 4d 51 54 54 04"  # MQTT, level 4
        "ec 00 1e"  # user, password, will retained at QoS 1, no clean session; 30 s
        "00 02 50 31  00 04 73 2f 50 31  00 07 6f 66 66 6c 69 6e 65"  # P1, s/P1, offline
        "00 02 50 31  00 02 70 77"
    )


def test_without_a_password_the_certificate_is_the_login() -> None:
    assert mqtt_wire.connect("P1", 30, "s/P1", None)[9] == 0x2C


def test_a_subscription_asks_for_qos_1() -> None:
    assert mqtt_wire.subscribe(1, "c/P1") == bytes.fromhex("82 09 00 01 00 04 63 2f 50 31 01")


def test_publish_and_its_acknowledgement() -> None:
    assert mqtt_wire.publish(258, "r", b"hi") == bytes.fromhex("32 07 00 01 72 01 02 68 69")
    assert mqtt_wire.publish(258, "r", b"hi", retain=True)[0] == 0x33
    assert mqtt_wire.published(0x32, bytes.fromhex("00 01 72 01 02 68 69")) == (b"\x01\x02", b"hi")
    assert mqtt_wire.published(0x30, bytes.fromhex("00 01 72 68 69")) == (b"", b"hi")  # QoS 0 has no packet id
    assert mqtt_wire.puback(b"\x01\x02") == bytes.fromhex("40 02 01 02")


def test_a_long_packet_has_its_length_in_several_bytes() -> None:
    packet = mqtt_wire.publish(1, "r", b"x" * 316)
    assert packet[:3] == bytes.fromhex("32 c1 02")  # 321 = 0x41 + 2 * 128
    assert list(mqtt_wire.packets(bytearray(packet))) == [(0x32, packet[3:])]


def test_packets_come_in_any_pieces() -> None:
    stream = bytes.fromhex("20 02 00 00  90 03 00 01 01  d0 00")
    received, found = bytearray(), []
    for byte in stream:
        received.append(byte)
        found += mqtt_wire.packets(received)
    assert found == [(0x20, b"\x00\x00"), (0x90, b"\x00\x01\x01"), (0xD0, b"")]
    assert received == b""

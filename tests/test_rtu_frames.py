"""Modbus RTU frames as literal hex, both ways. Worked examples of the application protocol, with unit and checksum."""

import struct
from array import array
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cext import rtu
from tests.rtu_helpers import hx

# build the request, the request, its answer, the payload of the answer
EXAMPLES: dict[str, tuple[Callable[[], bytes], str, str, str]] = {
    "1 read coils": (
        lambda: rtu.read_request(0x11, 1, 0x0013, 0x25),
        "11 01 00 13 00 25 0e 84",
        "11 01 05 cd 6b b2 0e 1b 45 e6",
        "05 cd 6b b2 0e 1b",
    ),
    "2 read discrete inputs": (
        lambda: rtu.read_request(0x11, 2, 0x00C4, 0x16),
        "11 02 00 c4 00 16 ba a9",
        "11 02 03 ac db 35 20 18",
        "03 ac db 35",
    ),
    "3 read holding registers": (
        lambda: rtu.read_request(0x11, 3, 0x006B, 3),
        "11 03 00 6b 00 03 76 87",
        "11 03 06 ae 41 56 52 43 40 49 ad",
        "06 ae 41 56 52 43 40",
    ),
    "4 read input registers": (
        lambda: rtu.read_request(0x11, 4, 0x0008, 1),
        "11 04 00 08 00 01 b2 98",
        "11 04 02 00 0a f8 f4",
        "02 00 0a",
    ),
    "5 write single coil": (
        lambda: rtu.write_single_request(0x11, 5, 0x00AC, 1),
        "11 05 00 ac ff 00 4e 8b",
        "11 05 00 ac ff 00 4e 8b",
        "00 ac ff 00",
    ),
    "6 write single register": (
        lambda: rtu.write_single_request(0x11, 6, 0x0001, 3),
        "11 06 00 01 00 03 9a 9b",
        "11 06 00 01 00 03 9a 9b",
        "00 01 00 03",
    ),
    "15 write multiple coils": (
        lambda: rtu.write_coils_request(0x11, 0x0013, [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]),
        "11 0f 00 13 00 0a 02 cd 01 bf 0b",
        "11 0f 00 13 00 0a 26 99",
        "00 13 00 0a",
    ),
    "16 write multiple registers": (
        lambda: rtu.write_registers_request(0x11, 0x0001, [0x000A, 0x0102]),
        "11 10 00 01 00 02 04 00 0a 01 02 c6 f0",
        "11 10 00 01 00 02 12 98",
        "00 01 00 02",
    ),
    "23 read and write registers": (
        lambda: rtu.read_write_registers_request(0x11, 0x0003, 6, 0x000E, array("H", [0xFF, 0xFF, 0xFF])),
        "11 17 00 03 00 06 00 0e 00 03 06 00 ff 00 ff 00 ff 4b 54",
        "11 17 0c 00 fe 0a cd 00 01 00 03 00 0d 00 ff 0d 75",
        "0c 00 fe 0a cd 00 01 00 03 00 0d 00 ff",
    ),
}
READ_3 = hx("11 03 00 6b 00 03 76 87")


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_both_ways(name: str) -> None:
    build, request, answer, payload = EXAMPLES[name]
    assert build().hex(" ") == request
    assert rtu.answer_length(hx(request)) == len(hx(answer))
    assert rtu.check_answer(hx(request), hx(answer))[2:-2].hex(" ") == payload


def test_values_in_an_answer() -> None:
    answer = hx("11 03 06 ae 41 56 52 43 40 49 ad")
    assert rtu.registers(answer) == array("H", [0xAE41, 0x5652, 0x4340])
    assert rtu.register_list(answer) == [0xAE41, 0x5652, 0x4340]
    assert rtu.bits(hx("11 01 02 cd 01 b9 3c"), 10) == [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]


def test_frame_of_any_payload() -> None:
    assert rtu.frame(0x11, 3, hx("00 6b 00 03")) == READ_3


def test_checksum() -> None:
    assert rtu.crc16(b"123456789") == 0x4B37
    assert rtu.crc16(b"") == 0xFFFF
    assert rtu.crc16(bytearray(hx("11 03 00 6b 00 03"))).to_bytes(2, "little") == hx("76 87")


REFUSALS = [
    ("11 03 06 ae 41 56 52 43 40 49", rtu.HalfAnswer, "10 of 11 bytes"),
    ("11", rtu.HalfAnswer, "1 of 11 bytes"),
    ("11 83 02 c1", rtu.HalfAnswer, "4 of 5 bytes"),
    ("11 03 06 ae 41 56 53 43 40 49 ad", rtu.BadChecksum, "checksum of the first 11 bytes is 18 6d"),
    ("12 03 06 ae 41 56 52 43 40 5d 5d", rtu.WrongUnit, "unit 18 answered, expected 17"),
    ("12 03 06 ae 41 56 52 43 40 5d 5e", rtu.BadChecksum, "not a whole frame of anybody"),
    ("ff", rtu.BadChecksum, "not a whole frame of anybody"),
    ("11 04 06 ae 41 56 52 43 40 08 4b", rtu.WrongAnswer, "function 4, expected 3"),
    ("11 03 08 ae 41 56 52 43 40 a6 6d", rtu.WrongAnswer, "byte count 8, expected 6"),
    ("11 03 06 ae 41 56 52 43 40 49 ad 00", rtu.WrongAnswer, "12 bytes, expected 11"),
    ("11 83 02 c1 34", rtu.ExceptionReply, "exception 2, illegal data address"),
    ("11 83 99 80 9f", rtu.ExceptionReply, "exception 153, not in the Modbus specification"),
    ("", rtu.NoAnswer, ""),
]


@pytest.mark.parametrize(("answer", "error", "what"), REFUSALS)
def test_what_is_no_answer_to_a_read(answer: str, error: type[rtu.RtuError], what: str) -> None:
    with pytest.raises(error) as caught:
        rtu.check_answer(READ_3, hx(answer))
    assert caught.value.what == what
    assert (caught.value.request, caught.value.answer) == (READ_3, hx(answer))


def test_write_confirmed_with_another_value() -> None:
    with pytest.raises(rtu.WrongAnswer, match="confirms 00 01 00 02, expected 00 01 00 03"):
        rtu.check_answer(hx("11 06 00 01 00 03 9a 9b"), rtu.write_single_request(0x11, 6, 1, 2))


def test_exception_reply_tells_code_and_name() -> None:
    with pytest.raises(rtu.ExceptionReply) as caught:
        rtu.check_answer(hx("0a 01 04 a1 00 01 ac 63"), hx("0a 81 02 b0 53"))
    assert (caught.value.code, caught.value.name) == (2, "illegal data address")


def test_error_text_carries_the_facts() -> None:
    request = hx("01 03 01 00 00 02 c5 f7")
    assert str(rtu.NoAnswer(request, b"", 80.2)) == "asked 01 03 01 00 00 02 c5 f7, got nothing in 80 ms"
    half = rtu.HalfAnswer(request, hx("01 03"), 9.0, "2 of 9 bytes")
    assert str(half) == "asked 01 03 01 00 00 02 c5 f7, got 01 03 in 9 ms: 2 of 9 bytes"


LIMITS = [
    (lambda: rtu.read_request(0, 3, 0, 1), "unit 0, expected 1..247"),
    (lambda: rtu.read_request(248, 3, 0, 1), "unit 248, expected 1..247"),
    (lambda: rtu.read_request(1, 5, 0, 1), "function 5, expected 1..4"),
    (lambda: rtu.read_request(1, 3, 0, 126), "number of registers 126, expected 1..125"),
    (lambda: rtu.read_request(1, 4, 0, 0), "number of registers 0, expected 1..125"),
    (lambda: rtu.read_request(1, 1, 0, 2001), "number of bits 2001, expected 1..2000"),
    (lambda: rtu.read_request(1, 3, -1, 1), "address -1, expected 0..65535"),
    (lambda: rtu.read_request(1, 3, 1 << 40, 1), "address 1099511627776, expected 0..65535"),
    (lambda: rtu.write_registers_request(1, 0, [1 << 40]), "value 0 is 1099511627776, a register holds 0..65535"),
    (lambda: rtu.read_request(1, 3, 65535, 2), "address 65535 and 2 registers pass the last address, 65535"),
    (lambda: rtu.write_single_request(1, 16, 0, 1), "function 16, expected 5..6"),
    (lambda: rtu.write_single_request(1, 5, 0, 2), "value 2, expected 0..1"),
    (lambda: rtu.write_single_request(1, 6, 0, 65536), "value 65536, expected 0..65535"),
    (lambda: rtu.write_coils_request(1, 0, [0] * 1969), "number of bits 1969, expected 1..1968"),
    (lambda: rtu.write_coils_request(1, 0, [0, 2]), "bit 2, expected 0..1"),
    (lambda: rtu.write_registers_request(1, 0, []), "number of registers 0, expected 1..123"),
    (lambda: rtu.write_registers_request(1, 0, [0] * 124), "number of registers 124, expected 1..123"),
    (lambda: rtu.write_registers_request(1, 0, [0, -1]), "value 1 is -1, a register holds 0..65535"),
    (lambda: rtu.read_write_registers_request(1, 0, 126, 0, [0]), "number of registers 126, expected 1..125"),
    (lambda: rtu.read_write_registers_request(1, 0, 1, 0, [0] * 122), "number of registers 122, expected 1..121"),
    (lambda: rtu.frame(1, 128, b""), "function 128, expected 1..127"),
    (lambda: rtu.frame(1, 3, bytes(253)), "payload length 253, expected 0..252"),
    (lambda: rtu.answer_length(rtu.frame(1, 43, bytes(4))), "function 43, expected one of 1-6, 15, 16, 23"),
    (lambda: rtu.answer_length(rtu.frame(1, 3, hx("00 00 ff ff"))), "count 65535 in .* asks for more than a frame"),
    (lambda: rtu.answer_length(b"\x01\x03"), "request length 2, expected 8..256"),
    (lambda: rtu.check_answer(rtu.frame(0, 6, bytes(4)), b""), "is a broadcast, nobody answers it"),
    (lambda: rtu.registers(hx("01 03 03 00 01 02 00 00")), "has 3 bytes, two make a register"),
    (lambda: rtu.registers(hx("01 03 04 00 01 00 00")), "is no answer with a byte count and as many bytes of register"),
    (lambda: rtu.register_list(hx("01 03 04 00 01 00 00")), "is no answer with a byte count"),
    (lambda: rtu.registers(b""), "is no answer with a byte count"),
    (lambda: rtu.register_list(hx("01 03 00 00")), "is no answer with a byte count"),
    (lambda: rtu.bits(hx("01 01 03 cd 01 00 00"), 10), "is no answer with a byte count and as many bytes of bits"),
    (lambda: rtu.bits(hx("01 01 02 cd 01 00 00"), 17), "does not hold the bytes of 17 bits"),
]


@pytest.mark.parametrize(("call", "message"), LIMITS, ids=[message for _, message in LIMITS])
def test_limits(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_largest_frames_are_allowed() -> None:
    assert len(rtu.write_registers_request(247, 0, [0xFFFF] * 123)) == 255
    assert len(rtu.read_write_registers_request(247, 0, 125, 0, [0xFFFF] * 121)) == 255
    assert len(rtu.write_coils_request(247, 0, [1] * 1968)) == 255
    assert rtu.answer_length(rtu.read_request(247, 1, 65536 - 2000, 2000)) == 255


# ------------------------------------------------------------------------- against a plain reading of the specification


def reference_crc(data: bytes) -> bytes:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return struct.pack("<H", crc)


def reference_frame(layout: str, *fields: int | bytes) -> bytes:
    body = struct.pack(layout, *fields)
    return body + reference_crc(body)


units = st.integers(1, 247)
words = st.integers(0, 0xFFFF)


@given(st.binary(max_size=300))
def test_checksum_matches_the_bitwise_one(data: bytes) -> None:
    assert rtu.crc16(data).to_bytes(2, "little") == reference_crc(data)


@given(units, st.sampled_from([3, 4]), st.integers(0, 65535 - 125), st.lists(words, min_size=1, max_size=125))
def test_registers_read(unit: int, function: int, address: int, values: list[int]) -> None:
    request = rtu.read_request(unit, function, address, len(values))
    assert request == reference_frame(">BBHH", unit, function, address, len(values))
    data = struct.pack(f">{len(values)}H", *values)
    answer = reference_frame(f">BBB{len(data)}s", unit, function, len(data), data)
    assert rtu.check_answer(request, answer) is answer
    assert rtu.registers(answer).tolist() == rtu.register_list(answer) == values


@given(
    units, st.sampled_from([1, 2]), st.integers(0, 65535 - 2000), st.lists(st.integers(0, 1), min_size=1, max_size=99)
)
def test_bits_read(unit: int, function: int, address: int, values: list[int]) -> None:
    request = rtu.read_request(unit, function, address, len(values))
    size = (len(values) + 7) // 8
    data = sum(value << index for index, value in enumerate(values)).to_bytes(size, "little")
    answer = reference_frame(f">BBB{size}s", unit, function, size, data)
    assert rtu.bits(rtu.check_answer(request, answer), len(values)) == values


@given(units, st.integers(0, 65535 - 123), st.lists(words, min_size=1, max_size=123))
def test_registers_written(unit: int, address: int, values: list[int]) -> None:
    data = struct.pack(f">{len(values)}H", *values)
    expected = reference_frame(f">BBHHB{len(data)}s", unit, 16, address, len(values), len(data), data)
    assert rtu.write_registers_request(unit, address, values) == expected
    assert rtu.write_registers_request(unit, address, array("H", values)) == expected


@given(units, st.integers(0, 65535 - 1968), st.lists(st.integers(0, 1), min_size=1, max_size=1968))
def test_coils_written(unit: int, address: int, values: list[int]) -> None:
    size = (len(values) + 7) // 8
    data = sum(value << index for index, value in enumerate(values)).to_bytes(size, "little")
    expected = reference_frame(f">BBHHB{size}s", unit, 15, address, len(values), size, data)
    assert rtu.write_coils_request(unit, address, values) == expected


@given(st.data())
def test_any_bytes_are_an_answer_or_an_error(data: st.DataObject) -> None:
    request = hx(data.draw(st.sampled_from([request for _, request, _, _ in EXAMPLES.values()])))
    noise = data.draw(st.binary(max_size=300))
    answer = data.draw(
        st.sampled_from([noise, request[:2] + noise, request[:2] + noise + reference_crc(request[:2] + noise)])
    )
    try:
        rtu.check_answer(request, answer)
    except rtu.RtuError:
        return
    assert answer[:2] == request[:2]
    assert answer[-2:] == reference_crc(answer[:-2])
    assert len(answer) == rtu.answer_length(request)


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_any_bytes_are_values_or_an_error(answer: bytes, count: int) -> None:
    for read in (rtu.registers, rtu.register_list, lambda answer: rtu.bits(answer, count)):
        try:
            values = read(answer)
        except ValueError:
            continue
        assert len(answer) == 5 + answer[2]
        assert len(values) in (answer[2] // 2, count)


@given(st.integers(0, 10), st.integers(0, 7))
def test_no_flipped_bit_passes(byte: int, bit: int) -> None:
    answer = bytearray(hx("11 03 06 ae 41 56 52 43 40 49 ad"))
    answer[byte] ^= 1 << bit
    with pytest.raises(rtu.RtuError):
        rtu.check_answer(READ_3, bytes(answer))

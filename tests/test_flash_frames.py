"""The frame that carries a block: function 16, built from the image's bytes as they are (application protocol 6.12)."""

import pytest
from rtu_helpers import hx

from cext import rtu

# unit 1, registers 0x0048.., count, bytes; offset 0x100 and length 5; the data, and zeros up to the last register
FIVE_BYTES = hx("01 10 00 48 00 06 0c 00 00 01 00 00 05 68 65 6c 6c 6f 00 8c 79")


@pytest.mark.parametrize("data", [b"hello", bytearray(b"hello"), memoryview(b"say hello now")[4:9]])
def test_head_data_and_zeros_stand_in_the_registers(data: bytes) -> None:
    assert rtu.write_bytes_request(1, 0x48, hx("00 00 01 00 00 05"), data, 6) == FIVE_BYTES


def test_it_is_the_frame_that_the_same_registers_give() -> None:
    image = bytes(range(256))
    for size in (0, 1, 127, 128, 240):
        body = (hx("00 00 00 00 00 80") + image[:size]).ljust(246, b"\0")
        words = [int.from_bytes(body[at : at + 2], "big") for at in range(0, 246, 2)]
        frame = rtu.write_bytes_request(9, 0xFF00, body[:6], image[:size], 123)
        assert frame == rtu.write_registers_request(9, 0xFF00, words)
        assert rtu.crc16(frame) == 0


def test_all_may_be_head_or_data() -> None:
    registers = rtu.write_registers_request(1, 0, [0x0102])
    assert rtu.write_bytes_request(1, 0, b"\1\2", b"", 1) == rtu.write_bytes_request(1, 0, b"", b"\1\2", 1) == registers


@pytest.mark.parametrize(
    ("unit", "address", "head", "data", "count", "words"),
    [
        (1, 0, b"12", b"345", 2, "2 and 3 bytes, 2 registers hold 4"),
        (1, 0, b"12345", b"", 2, "5 and 0 bytes, 2 registers hold 4"),
        (1, 0, b"", b"", 0, "number of registers 0, expected 1..123"),
        (1, 0, b"", b"", 124, "number of registers 124, expected 1..123"),
        (248, 0, b"", b"", 1, "unit 248, expected 0..247"),
        (1, 0xFFFF, b"", b"", 2, "address 65535 and 2 registers pass the last address, 65535"),
    ],
)
def test_what_does_not_fit_is_named(unit: int, address: int, head: bytes, data: bytes, count: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rtu.write_bytes_request(unit, address, head, data, count)


def test_numbers_are_no_bytes() -> None:
    with pytest.raises(TypeError):
        rtu.write_bytes_request(1, 0, b"", [1, 2], 1)  # type: ignore[arg-type]

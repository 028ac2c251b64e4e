"""Modbus RTU: frames to values and back, and one blocking transaction on a serial line.

Sources: "Modbus application protocol V1.1b3" (functions, limits, exceptions) and "Modbus over serial line V1.02"
(checksum, silent interval, broadcast). Nothing here knows a register map or opens a port.

The length a frame must have comes from the request alone. What the line claims, the byte count above all, is compared
with it afterwards and never believed before.

A frame is ``bytes``: unit, function, payload, checksum (low byte first). Function codes: 1, 2 read coils and discrete
inputs, 3, 4 read holding and input registers, 5, 6 write one, 15, 16 write several, 23 read and write registers.
"""

from array import array
from collections.abc import Sequence

from typing_extensions import Buffer

class RtuError(Exception):
    """The line did not bring the answer asked for. ``str()`` tells the facts:
    ``asked 01 03 01 00 00 02 c5 f7, got nothing in 80 ms``."""

    request: bytes
    answer: bytes
    """All that was heard instead, possibly nothing."""
    elapsed_ms: float
    """From the first byte sent until the line was given up; 0.0 when a frame was checked without a line."""
    what: str
    """The fault in words, possibly empty."""
    def __init__(self, request: bytes, answer: bytes, elapsed_ms: float = ..., what: str = ...) -> None: ...

class NoAnswer(RtuError):
    """Not one byte came before the deadline, or the port did not take the request."""

class HalfAnswer(RtuError):
    """The answer began and stopped."""

class BadChecksum(RtuError):
    """The bytes heard do not end in their checksum: noise, or two senders at once."""

class WrongUnit(RtuError):
    """A whole, sound frame, but of another unit."""

class WrongAnswer(RtuError):
    """A sound frame of the right unit, but its function, byte count, or confirmed address or value is not as asked."""

class EchoMismatch(RtuError):
    """A line with local echo did not give back the bytes sent, or gave back none."""

class LineBusy(RtuError):
    """Somebody talks without end; nothing was sent."""

class ExceptionReply(RtuError):
    """The device refused (application protocol, 7)."""

    code: int
    name: str
    """The specification's word for ``code``: ``illegal data address``."""

class PortGone(OSError):
    """The descriptor is dead: unplugged, hung up or closed. Only opening the port again helps."""

EXCEPTION_NAMES: dict[int, str]

def crc16(data: Buffer) -> int:
    """The checksum of ``data`` (polynomial 0xA001, serial line 2.5.1.2); ``crc16(b"123456789") == 0x4B37``."""

def frame(unit: int, function: int, payload: bytes) -> bytes:
    """A frame around any payload. Raises ValueError when unit (0..247), function (1..127) or length (0..252) is not."""

def read_request(unit: int, function: int, address: int, count: int) -> bytes:
    """Functions 1, 2 (1..2000 bits) and 3, 4 (1..125 registers), application protocol 6.1-6.4.

    Raises ValueError naming what is out of range: unit 1..247, address and count within 0..65535.
    """

def write_single_request(unit: int, function: int, address: int, value: int) -> bytes:
    """Functions 5 (value 0 or 1) and 6 (0..65535), application protocol 6.5, 6.6. Unit 0 is all. Raises ValueError."""

def write_coils_request(unit: int, address: int, bits: Sequence[int]) -> bytes:
    """Function 15, 1..1968 bits, application protocol 6.11. Unit 0 is all. Raises ValueError."""

def write_registers_request(unit: int, address: int, values: Sequence[int] | array[int]) -> bytes:
    """Function 16, 1..123 registers, application protocol 6.12. Unit 0 is all. Raises ValueError."""

def write_bytes_request(unit: int, address: int, head: bytes, data: Buffer, count: int) -> bytes:
    """Function 16 whose ``count`` registers (1..123) are given as the bytes on the wire: ``head``, ``data``, and zeros
    up to the last register. For blocks of an image: nothing is taken apart into numbers. Raises ValueError."""

def read_write_registers_request(
    unit: int, read_address: int, read_count: int, write_address: int, values: Sequence[int] | array[int]
) -> bytes:
    """Function 23, writes 1..121 registers, then reads 1..125, application protocol 6.17. Raises ValueError."""

def answer_length(request: bytes) -> int:
    """How long the normal answer to ``request`` is; 0 for a broadcast. Raises ValueError for a request unknown here."""

def check_answer(request: bytes, answer: bytes) -> bytes:
    """``answer`` itself, once it is known to be the whole, sound answer to ``request``. Raises RtuError."""

def registers(answer: bytes) -> array[int]:
    """The registers in a checked answer of function 3, 4 or 23, as ``array("H")``. Raises ValueError if it has none."""

def register_list(answer: bytes) -> list[int]:
    """The same as a list; most of its time goes into the integers."""

def bits(answer: bytes, count: int) -> list[int]:
    """The ``count`` bits (0 or 1) in a checked answer of function 1 or 2. Raises ValueError when it holds another
    number."""

class Line:
    """One serial line at an open, raw descriptor (made non-blocking here). One thread owns it.

    A transaction runs whole without the GIL and sleeps rather than polls::

        silent interval | request | device thinks | answer
        t3.5              wire      answer_ms       wire + margin_ms

    - ``char_bits``: start, data, parity and stop bits of a character, 10 to 12.
    - ``local_echo``: the adaptor hears its own sending; the echo is compared and dropped.
    - ``answer_ms``: how long the device may take until its first byte.
    - ``margin_ms``: what an answer may take beyond its wire time, once begun. Adaptors deliver in pieces: a USB one may
      keep the last bytes for its latency timer, by default 16 ms, and a USB frame, 1 ms. So 18 is enough for it, and
      half an answer is given up within 20 ms of its wire time, wake-ups included.
    - ``turnaround_ms``: silence after a broadcast, for the devices to act on it (serial line 2.4.1).
    - ``quiet_us``: the silent interval if not the specification's: 3.5 characters, 1750 µs above 19200 baud.

    ``local_echo`` and the times in ms may be changed between transactions.
    """

    fd: int
    baud: int
    char_bits: int
    local_echo: bool
    answer_ms: int
    margin_ms: int
    turnaround_ms: int
    last_request: bytes
    """The request of the latest transaction, for a transcript of the line."""
    last_answer: bytes
    """All that was heard in it, also when it failed."""
    def __init__(
        self,
        fd: int,
        baud: int,
        char_bits: int = 10,
        *,
        local_echo: bool = False,
        answer_ms: int = 200,
        margin_ms: int = 18,
        turnaround_ms: int = 100,
        quiet_us: float | None = None,
    ) -> None: ...
    @property
    def char_us(self) -> float:
        """Wire time of one character."""
    @property
    def quiet_us(self) -> float:
        """Silence kept before each request, counted from the last byte on the line, whoever sent it."""
    @property
    def last_elapsed_us(self) -> int:
        """From the first byte of the latest request to the end of its transaction."""
    def transact(self, request: bytes) -> bytes:
        """Send ``request`` and return the whole answer, checked; ``b""`` for a broadcast (unit 0).

        Bytes that came unasked, a late answer for one, are dropped before sending. Ends as soon as the answer is whole;
        at an exception reply's fifth byte; at the deadline of the first byte; or, begun but not finished, at its wire
        time plus margin. A frame of another unit or function is heard to its end, so that it cannot be taken for the
        next answer.

        Raises an RtuError, PortGone, ValueError for a request unknown here, RuntimeError when two threads use the line.
        """

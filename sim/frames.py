"""Modbus RTU frames in words, for people who watch the line."""

_READS = {1: "coils", 2: "discrete inputs", 3: "holding registers", 4: "input registers"}
_SHOWN_BYTES = 14


def describe(frame: bytes, is_request: bool) -> str:
    """What a frame says, in a few words. Any bytes are taken; those that are no frame are called so."""
    if len(frame) < 4:
        return "not a frame"
    unit, function = frame[0], frame[1]
    if function & 0x80:
        return f"unit {unit} refuses function {function & 0x7F}: exception {frame[2]}"
    return _request(unit, function, frame) if is_request else _answer(unit, function, frame)


def hexadecimal(frame: bytes) -> str:
    """The bytes in hex, a long frame cut in its middle."""
    if len(frame) <= _SHOWN_BYTES:
        return frame.hex(" ")
    half = _SHOWN_BYTES // 2
    return f"{frame[:half].hex(' ')} .. {frame[-half + 2 :].hex(' ')} ({len(frame)} bytes)"


def _request(unit: int, function: int, frame: bytes) -> str:
    address, number = _word(frame, 2), _word(frame, 4)
    if function in _READS:
        return f"read {number} {_READS[function]} of unit {unit} from 0x{address:04X}"
    if function in (5, 6):
        return f"write 0x{number:04X} to 0x{address:04X} of unit {unit}"
    if function in (15, 16):
        return f"write {number} registers of unit {unit} from 0x{address:04X}"
    return f"function {function} to unit {unit}"


def _answer(unit: int, function: int, frame: bytes) -> str:
    if function in _READS:
        return f"unit {unit} answers {frame[2] // 2} registers" if function > 2 else f"unit {unit} answers bits"
    return f"unit {unit} has written"


def _word(frame: bytes, at: int) -> int:
    return int.from_bytes(frame[at : at + 2], "big")

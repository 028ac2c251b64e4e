"""One register of a device: where it stands, what it holds, and its raw words ↔ the agent's own values."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

# A number in the agent's unit, an enumeration's word (or its bare number when the map has no word for it), text, the
# names of raised bits, raw bytes; None where the device says "invalid".
Value = int | str | tuple[str, ...] | bytes | None

NUMBER_WORDS = {"u16": 1, "s16": 1, "u32": 2, "s32": 2, "u64": 4, "float32": 2, "flag": 1}
SIZED_TYPES = ("text", "bits", "data")  # as many words as the map says
TYPES = (*NUMBER_WORDS, *SIZED_TYPES)
READ_FUNCTION = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
GROUPS = ("live", "identity", "statistics", "setting", "control")


@dataclass(frozen=True, slots=True)
class Label:
    """One named number of an enumeration, or one named bit. ``stop_reason`` is the platform's number (protocol.md §4)
    for a charge that ended because of it."""

    number: int
    name: str
    doc: str = ""
    stop_reason: int | None = None


@dataclass(frozen=True, slots=True)
class Register:
    """One row of a map. ``offset`` counts from its window's base; a value in the agent's unit is raw × mul ÷ div."""

    window: str  # board | gun
    name: str
    function: str  # holding | input | coil | discrete
    offset: int
    type: str
    words: int
    group: str
    access: str  # r | rw | w
    doc: str
    unit: str = ""  # the maker's, as his manual has it
    mul: int = 1
    div: int = 1
    values: tuple[Label, ...] = field(default=())
    bits: tuple[Label, ...] = field(default=())
    invalid: int | None = None  # the raw pattern that means "no value"
    range: tuple[int, int] | None = None  # raw, for writes
    read_back: bool = True  # False: it does not keep what was written (a clock, a trigger)

    def decode(self, words: Sequence[int]) -> Value:
        """The value in ``words`` (this register's own words, high word first)."""
        data = struct.pack(f">{len(words)}H", *words)
        if self.type == "text":
            return data.split(b"\0", 1)[0].decode("utf-8", "replace")
        if self.type == "data":
            return data
        raw = int.from_bytes(data, "big")
        if raw == self.invalid:
            return None
        if self.type == "float32":
            return self._from_float(data)
        if self.type == "bits":
            return self._raised(raw)
        return self._from_number(int.from_bytes(data, "big", signed=self.type.startswith("s")))

    def encode(self, value: int | str | bytes) -> tuple[int, ...]:
        """The words that write ``value``: text, an enumeration's word, bytes, or a number in the agent's unit.

        A number that falls between two counts is rounded down, so that a limit never becomes more than was asked.
        ``ValueError`` names the register, the value and what was expected.
        """
        if self.type in ("text", "data"):
            return self._from_bytes(value.encode("utf-8") if isinstance(value, str) else value)
        if self.values:
            return self.encode_raw(self._number_of(value))
        if not isinstance(value, int):
            raise self._refusal(value, "a number")
        if self.type == "float32":
            return _split(struct.pack(">f", value * self.div / self.mul))
        return self.encode_raw(value * self.div // self.mul)

    def encode_raw(self, raw: int) -> tuple[int, ...]:
        """The words of a raw number, checked against the register's range."""
        low, high = self.range or self.limits()
        if not low <= raw <= high:
            raise self._refusal(raw, f"{low}..{high} in counts of {self.unit or '1'}")
        return _split(raw.to_bytes(self.words * 2, "big", signed=raw < 0))

    def limits(self) -> tuple[int, int]:
        """Least and greatest raw number that fits the type."""
        if self.type == "flag":
            return 0, 1
        size = 16 * self.words
        return (-(1 << size - 1), (1 << size - 1) - 1) if self.type.startswith("s") else (0, (1 << size) - 1)

    def stop_reason(self, name: str) -> int | None:
        """The platform's stop reason for a fault bit or an enumeration's word of this register."""
        return next((label.stop_reason for label in (*self.values, *self.bits) if label.name == name), None)

    def _from_number(self, raw: int) -> int | str:
        if self.values:
            return next((label.name for label in self.values if label.number == raw), raw)
        return _half_up(raw * self.mul, self.div)

    def _from_float(self, data: bytes) -> int | None:
        (raw,) = struct.unpack(">f", data)
        return math.floor(raw * self.mul / self.div + 0.5) if math.isfinite(raw) else None

    def _raised(self, raw: int) -> tuple[str, ...]:
        names = {label.number: label.name for label in self.bits}
        return tuple(names.get(bit, f"bit_{bit}") for bit in range(16 * self.words) if raw >> bit & 1)

    def _number_of(self, word: object) -> int:
        for label in self.values:
            if label.name == word:
                return label.number
        raise self._refusal(word, f"one of {', '.join(label.name for label in self.values)}")

    def _from_bytes(self, value: object) -> tuple[int, ...]:
        size = 2 * self.words
        if not isinstance(value, bytes) or len(value) > size:
            raise self._refusal(value, f"at most {size} bytes")
        return _split(value.ljust(size, b"\0"))

    def _refusal(self, value: object, expected: str) -> ValueError:
        return ValueError(f"{self.window}.{self.name} = {value!r}, expected {expected}")


def _half_up(number: int, divisor: int) -> int:
    return (2 * number + divisor) // (2 * divisor)


def _split(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(data) // 2}H", data)

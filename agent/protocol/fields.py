"""The kinds of field a message is made of, as the command table names them (docs/protocol.md, "Fields").

A message class is a ``NamedTuple`` whose annotations carry one of these: ``gun: Annotated[int, Gun()]``. ``shape_of``
turns such a class into the compiled form that the codec reads and writes by.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args, get_type_hints

from agent.protocol.results import Result
from cext.message import FieldKind, FieldSpec, Shape

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class Text:
    """Text without comma or control character; empty means "not given". ``secret`` text is never shown in an error."""

    doc: str = ""
    secret: bool = False


@dataclass(frozen=True)
class Int:
    """A 64-bit integer in ``low..high``."""

    doc: str = ""
    low: int = INT64_MIN
    high: int = INT64_MAX
    optional: bool = False  # may be left out; only a message's last field can be
    waived_by: tuple[int, ...] = ()  # values of the message's first field with which any integer will do


@dataclass(frozen=True)
class Choice:
    """An integer with a meaning for each value."""

    meanings: Mapping[int, str]
    doc: str = ""


@dataclass(frozen=True)
class TextChoice:
    """A text with a meaning for each value (the platform's document calls 113's flag a String)."""

    meanings: Mapping[str, str]
    doc: str = ""


@dataclass(frozen=True)
class Double:
    """A decimal number without exponent, in ``low..high``."""

    doc: str
    low: float
    high: float


@dataclass(frozen=True)
class Gun:
    """A gun's number, 1..n; ``whole_pile`` says that 0 stands for all of them."""

    whole_pile: bool = False
    doc: str = ""


@dataclass(frozen=True)
class InnerPile:
    """The header's pile number once more."""

    doc: str = "the pile number once more"


@dataclass(frozen=True)
class DayStart:
    """A local time of day in seconds, 0..86399."""

    doc: str = ""


@dataclass(frozen=True)
class DayEnd:
    """A local time of day in seconds, 1..86400; ``:59`` on the wire is inclusive and becomes the next second."""

    doc: str = ""


@dataclass(frozen=True)
class SizedText:
    """Two fields on the wire: how many bytes of UTF-8 follow, and that text, which may hold commas."""

    doc: str = ""


@dataclass(frozen=True)
class Repeat:
    """Rows of ``row``: their count, then each row's fields. With ``to_end`` no count stands before them."""

    row: type
    doc: str = ""
    least: int = 0
    to_end: bool = False


Kind = Text | Int | Choice | TextChoice | Double | Gun | InnerPile | DayStart | DayEnd | SizedText | Repeat


def fields_of(message: type) -> dict[str, Kind]:
    """The declared fields of a message class, in wire order."""
    hints = get_type_hints(message, include_extras=True)
    return {name: get_args(hint)[1] for name, hint in hints.items()}


def shape_of(message: type) -> Shape:
    """The compiled form of a message class. A method ``fault()`` of the class is its cross-field rule."""
    specs = [_spec(name, kind) for name, kind in fields_of(message).items()]
    return Shape(message, specs, getattr(message, "fault", None))


def describe(kind: Kind) -> str:
    """What a field of that kind must hold, in words for errors and pages."""
    match kind:
        case Text():
            return "text without comma or control character"
        case Choice(meanings=meanings) | TextChoice(meanings=meanings):
            return ", ".join(f"{value} {meaning}" for value, meaning in meanings.items())
        case Int(low=low, high=high):
            return "an integer" + _bounds(low, high)
        case Double(low=low, high=high):
            return f"a decimal number {low:g}..{high:g}"
        case Gun(whole_pile=whole_pile):
            return "a gun's number from 1, or 0 for the whole pile" if whole_pile else "a gun's number from 1"
        case InnerPile():
            return "the header's pile number"
        case DayStart():
            return "a time of day 00:00:00..23:59:59, seconds of day, or an epoch time"
        case DayEnd():
            return "a time of day 00:00:01..24:00:00, seconds of day, or an epoch time"
        case SizedText():
            return "a length from 1, then text of as many bytes of UTF-8, then a comma"
        case Repeat(row=row, least=least, to_end=to_end):
            names = ", ".join(fields_of(row))
            return f"rows of {names}" if to_end else f"a count from {least}, then as many rows of {names}"


def _bounds(low: int, high: int) -> str:
    if low == INT64_MIN and high == INT64_MAX:
        return " of 64 bits"
    return f" from {low}" if high == INT64_MAX else f" {low}..{high}"


def _spec(name: str, kind: Kind) -> FieldSpec:
    expected = describe(kind)
    match kind:
        case Text(secret=secret):
            return FieldSpec(name, FieldKind.TEXT, expected, secret=secret)
        case TextChoice(meanings=meanings):
            return FieldSpec(name, FieldKind.TEXT, expected, choices=frozenset(meanings))
        case Choice(meanings=meanings):
            low, high = min(meanings), max(meanings)
            gaps = frozenset(range(low, high + 1)) - meanings.keys()
            return FieldSpec(name, FieldKind.INT, expected, low, high, choices=frozenset(meanings) if gaps else None)
        case Int(low=low, high=high, optional=optional, waived_by=waived_by):
            return FieldSpec(name, FieldKind.INT, expected, low, high, optional=optional, waived_by=waived_by)
        case Double(low=low, high=high):
            return FieldSpec(name, FieldKind.DOUBLE, expected, limits=(low, high))
        case Gun(whole_pile=whole_pile):
            low = 0 if whole_pile else 1
            return FieldSpec(name, FieldKind.INT, expected, low, INT64_MAX, range_result=Result.NO_SUCH_GUN)
        case InnerPile():
            return FieldSpec(name, FieldKind.PILE, expected, range_result=Result.WRONG_PILE)
        case DayStart():
            return FieldSpec(name, FieldKind.DAY_START, expected, 0, 86399)
        case DayEnd():
            return FieldSpec(name, FieldKind.DAY_END, expected, 1, 86400)
        case SizedText():
            return FieldSpec(name, FieldKind.SIZED_TEXT, expected, 1, INT64_MAX)
        case Repeat(row=row, least=least, to_end=to_end):
            kind_number = FieldKind.ROWS_TO_END if to_end else FieldKind.ROWS
            return FieldSpec(name, kind_number, expected, least, INT64_MAX, rows=shape_of(row))

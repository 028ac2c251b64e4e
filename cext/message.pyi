"""The codec of the platform's comma-joined lines (docs/protocol.md).

A line goes in as ``bytes`` and comes out as a ``Message`` whose ``data`` is an instance of the message class that the
command's ``Shape`` was made of; ``write_fields`` and ``write_line`` go the other way. Whatever a line gets wrong is a
``MessageError``. Which commands there are, and what their fields mean, is not known here: that table is in
agent/protocol.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, overload

LINE_BYTES_MAX: int
PILE_CHARACTERS_MAX: int
HEADER: tuple[str, ...]

class MessageError(ValueError):
    """What is wrong with a line: ``result`` (a number of docs/protocol.md), the ``field``, its ``value`` where there is
    one and it may be shown, and what was ``expected``. No value of a message that carries a password is shown.
    ``command`` and ``timestamp_text`` are the header's, as far as they could be read (else ``None`` and ``"0"``)."""

    result: int
    field: str
    value: str | None
    expected: str
    command: int | None
    timestamp_text: str
    def __init__(self, result: int, field: str, value: str | None, expected: str) -> None: ...

class FieldKind:
    """How a field stands on the wire."""

    TEXT: int
    INT: int
    DOUBLE: int
    PILE: int
    DAY_START: int
    DAY_END: int
    SIZED_TEXT: int
    ROWS: int
    ROWS_TO_END: int

class FieldSpec:
    """One field: its kind, the range of its number, the choices it is limited to, and what an error says was expected.

    A number outside its range earns ``range_result``, except where the message's first field is in ``waived_by``. An
    ``optional`` field may only be a message's last. ``secret`` keeps all values of its message out of errors. ``rows``
    is the shape of the rows of a field that repeats.
    """

    name: str
    kind: int
    expected: str
    low: int
    high: int
    def __init__(
        self,
        name: str,
        kind: int,
        expected: str,
        low: int = 0,
        high: int = 0,
        *,
        choices: Collection[Any] | None = None,
        limits: tuple[float, float] | None = None,
        range_result: int = 13,
        optional: bool = False,
        secret: bool = False,
        waived_by: Collection[int] = (),
        rows: Shape | None = None,
    ) -> None: ...

class Shape:
    """A message class (a ``NamedTuple``), its fields in wire order, and its cross-field rule.

    ``rule(data)`` returns ``None`` or ``(field, value, expected, result)``.
    """

    cls: type
    fields: tuple[FieldSpec, ...]
    def __init__(self, cls: type, fields: Sequence[FieldSpec], rule: Callable[[Any], Any] | None = None) -> None: ...

class Rows(Sequence[Any]):
    """Rows of integers, packed; each is made an instance of its class when it is asked for. Equal to a tuple of the
    same rows; a slice is a tuple."""

    def __init__(self) -> None:
        """Raises ``TypeError``: only reading a line makes rows."""

    def __len__(self) -> int: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...
    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Any, ...]: ...

class Message:
    """A parsed line: the envelope, and ``data`` as the command's message class. ``timestamp_text`` is the timestamp
    verbatim."""

    ip: str
    version: str
    command: int
    timestamp: int
    timestamp_text: str
    pile: str
    data: Any

class Codec:
    """Reads lines by a table of command number to ``Shape``; epoch times of day are taken ``utc_offset_s`` east
    of UTC."""

    def __init__(self, shapes: Mapping[int, Shape], utc_offset_s: int) -> None: ...
    def decode(self, line: bytes) -> Message:
        """A downlink line. Raises ``MessageError``."""

    def read_body(self, shape: Shape, body: bytes | None, pile: str) -> Any:
        """A reply's body as the class of ``shape``. Raises ``MessageError``."""

def split_reply(line: bytes) -> tuple[Message, str, int, bytes | None]:
    """An uplink line: its envelope (``data`` unset), the request's timestamp verbatim, the result, and the body or
    ``None``. Raises ``MessageError``."""

def split_result(body: bytes) -> tuple[int, bytes | None]:
    """The body of a DUPLICATE: the first result, and that reply's own body or ``None``. Raises ``MessageError``."""

def pile_of(line: bytes) -> bytes | None:
    """The pile number of a line, from its first commas alone; ``None`` where there are fewer than four."""

def is_ordered_day(rows: Rows) -> bool:
    """Rows that begin with (start, end) in seconds of day and follow one another once around the clock."""

def write_line(fields: list[str]) -> bytes:
    """The line of those fields. Raises ``MessageError`` for one that would end in a comma or be too long."""

def write_text(name: str, value: object, expected: str, secret: bool = False) -> str:
    """``value`` if it may stand in a field as it is. Raises ``MessageError`` naming ``name``."""

def write_fields(shape: Shape, values: Sequence[Any], pile: str, prefix: str = "") -> list[str]:
    """The wire fields of a message's values. Raises ``MessageError`` for a value that does not fit its
    field."""

"""Rules that look at several fields of a message at once."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from agent.protocol.results import Result
from cext.message import Rows, is_ordered_day

DAY_S = 86400
MS_FROM = 10**12  # a header's timestamp from here on is in ms, below in s


class Span(Protocol):
    """What has a begin and an end in seconds of the day."""

    @property
    def start_s(self) -> int: ...
    @property
    def end_s(self) -> int: ...


class Fault(NamedTuple):
    """A broken rule: the field, its value, what was expected, and the result it earns."""

    field: str
    value: str
    expected: str
    result: int = Result.OUT_OF_RANGE


def day_fault(periods: Sequence[Span]) -> Fault | None:
    """``None`` when the periods cover 24 hours exactly once, in whatever order they stand."""
    if isinstance(periods, Rows) and is_ordered_day(periods):
        return None
    reached_s = 0
    for start_s, end_s in sorted(span for period in periods for span in _spans(period)):
        if start_s == end_s:
            return _not_a_day("an empty period", start_s, end_s)
        if start_s > reached_s:
            return _not_a_day("a gap", reached_s, start_s)
        if start_s < reached_s:
            return _not_a_day("an overlap", start_s, min(reached_s, end_s))
        reached_s = end_s
    return None if reached_s == DAY_S else _not_a_day("a gap", reached_s, DAY_S)


def clock(second: int) -> str:
    """A second of the day as ``HH:MM:SS``."""
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def epoch_ms(timestamp: int) -> int:
    """A header's timestamp, which may be in seconds, in ms."""
    return timestamp if timestamp >= MS_FROM else timestamp * 1000


def _spans(period: Span) -> list[tuple[int, int]]:
    """A period as spans that do not cross midnight."""
    if period.start_s <= period.end_s:
        return [(period.start_s, period.end_s)]
    return [(0, period.end_s), (period.start_s, DAY_S)]


def _not_a_day(what: str, from_s: int, to_s: int) -> Fault:
    return Fault("periods", f"{what} {clock(from_s)}-{clock(to_s)}", "periods that cover 24 hours exactly once")

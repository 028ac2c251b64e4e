"""Rules that look at several fields of a message at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent.protocol.results import Result
from cext.message import Rows, is_ordered_day

if TYPE_CHECKING:
    from agent.protocol.commands import Period

DAY_S = 86400


class Fault(NamedTuple):
    """A broken rule: the field, its value, what was expected, and the result it earns."""

    field: str
    value: str
    expected: str
    result: int = Result.OUT_OF_RANGE


def day_fault(periods: "Sequence[Period]") -> Fault | None:
    """``None`` when the periods cover 24 hours exactly once, in whatever order they stand."""
    if isinstance(periods, Rows) and is_ordered_day(periods):
        return None
    spans = sorted(span for period in periods for span in _spans(period))
    reached_s = 0
    for start_s, end_s in spans:
        if start_s != reached_s:
            what = "a gap" if start_s > reached_s else "an overlap"
            between = sorted((start_s, reached_s))
            return _not_a_day(f"{what} {clock(between[0])}-{clock(between[1])}")
        reached_s = end_s
    return None if reached_s == DAY_S else _not_a_day(f"a gap {clock(reached_s)}-{clock(DAY_S)}")


def clock(second: int) -> str:
    """A second of the day as ``HH:MM:SS``."""
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def _spans(period: "Period") -> list[tuple[int, int]]:
    """A period as spans that do not cross midnight; an empty period keeps its place and so shows as an overlap."""
    if period.start_s < period.end_s:
        return [(period.start_s, period.end_s)]
    if period.start_s == period.end_s:
        return [(period.start_s, period.end_s), (period.start_s, period.end_s + 1)]
    return [(0, period.end_s), (period.start_s, DAY_S)]


def _not_a_day(what: str) -> Fault:
    return Fault("periods", what, "periods that cover 24 hours exactly once")

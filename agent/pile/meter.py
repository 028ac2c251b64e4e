"""Which meter readings may be billed: none that goes back, jumps or is missing (docs/protocol.md, "Meter")."""

from dataclasses import dataclass
from enum import StrEnum

TOLERANCE_MS = 2000  # a reading bears the time its poll began: the meter may have been read later, behind a stop
BELIEVED_AFTER = 3  # readings in a row that follow a doubtful one plausibly: then the meter was set anew


class Doubt(StrEnum):
    """Why a reading is not billed."""

    BACK = "goes back"
    JUMP = "jumps"


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A doubtful reading, and how many have followed it plausibly."""

    why: Doubt
    meter_wh: int
    at_ms: int
    followed_by: int = 0


def doubt_of(before_wh: int, after_wh: int, elapsed_ms: int, max_power_w: int) -> Doubt | None:
    """What is wrong with a meter that went from one reading to another."""
    if after_wh < before_wh:
        return Doubt.BACK
    most_wh = max_power_w * (max(elapsed_ms, 0) + TOLERANCE_MS) // 3_600_000
    return Doubt.JUMP if after_wh - before_wh > most_wh else None


def follow(doubtful: Doubtful | None, why: Doubt, meter_wh: int, at_ms: int, max_power_w: int) -> Doubtful:
    """What is known of a meter whose reading, again or for the first time, does not fit what was billed."""
    if doubtful is None or doubt_of(doubtful.meter_wh, meter_wh, at_ms - doubtful.at_ms, max_power_w):
        return Doubtful(why, meter_wh, at_ms)
    return Doubtful(doubtful.why, meter_wh, at_ms, doubtful.followed_by + 1)


def is_set_anew(doubtful: Doubtful) -> bool:
    """The meter counts plausibly from another value on: energy is billed from there, what lies between never."""
    return doubtful.followed_by >= BELIEVED_AFTER

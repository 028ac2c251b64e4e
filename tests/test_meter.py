"""Which steps of an energy meter are believed, and when a meter that was set anew is."""

import pytest

from agent.pile.meter import Doubt, Doubtful, doubt_of, follow, is_set_anew

MAX_POWER_W = 360_000  # 100 Wh a second


@pytest.mark.parametrize(
    ("before_wh", "after_wh", "elapsed_ms", "doubt"),
    [
        (1000, 1000, 0, None),
        (1000, 1100, 1000, None),
        (1000, 1300, 1000, None),  # a second, and two seconds of tolerance: 300 Wh
        (1000, 1301, 1000, Doubt.JUMP),
        (1000, 999, 1000, Doubt.BACK),
        (1000, 0, 3_600_000, Doubt.BACK),
        (0, 4_294_967_295, 3_600_000, Doubt.JUMP),
        (1000, 1201, -5000, Doubt.JUMP),
    ],
)
def test_a_step(before_wh: int, after_wh: int, elapsed_ms: int, doubt: Doubt | None) -> None:
    assert doubt_of(before_wh, after_wh, elapsed_ms, MAX_POWER_W) is doubt


def followed(*readings_wh: int) -> Doubtful:
    """Readings a second apart, none of which fits what was billed."""
    doubtful = None
    for second, meter_wh in enumerate(readings_wh):
        doubtful = follow(doubtful, Doubt.BACK, meter_wh, second * 1000, MAX_POWER_W)
    assert doubtful is not None
    return doubtful


def test_three_readings_that_follow_plausibly_make_a_new_beginning() -> None:
    assert not is_set_anew(followed(5, 7, 9))
    assert is_set_anew(followed(5, 7, 9, 9))


def test_a_meter_that_keeps_jumping_is_never_believed() -> None:
    assert not is_set_anew(followed(5, 90_000, 7, 80_000, 3, 99_000, 1))

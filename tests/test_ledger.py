"""Energy split at tariff boundaries, and what it costs: worked by hand, the arithmetic shown."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pile.ledger import Ledger, Segment, advance, open_ledger
from agent.pile.money import Price
from agent.pile.tariff import Tariff, flat_tariff, tariff_of

UTC_OFFSET_S = 8 * 3600
MIDNIGHT_MS = 1_795_276_800_000  # 2026-11-22 00:00:00 +08:00
HOUR_MS = 3_600_000
DAY, NIGHT = Price(100_000, 50_000), Price(40_000, 30_000)  # 1.00 + 0.50 and 0.40 + 0.30 yuan per kWh
DAY_AND_NIGHT = tariff_of("T7", [(21600, 79200, 100_000, 50_000), (79200, 21600, 40_000, 30_000)])


def charge(readings: list[tuple[float, int]], tariff: Tariff = DAY_AND_NIGHT) -> Ledger:
    """The ledger of meter readings (hour of the day, Wh)."""
    (hour, meter_wh), *later = readings
    ledger = open_ledger(MIDNIGHT_MS + int(hour * HOUR_MS), meter_wh, tariff, UTC_OFFSET_S)
    for hour, meter_wh in later:
        ledger = advance(ledger, MIDNIGHT_MS + int(hour * HOUR_MS), meter_wh, tariff, UTC_OFFSET_S)
    return ledger


def test_within_one_period() -> None:
    ledger = charge([(8, 1000), (9, 8700), (10, 16400)])
    assert ledger.segments == (Segment(MIDNIGHT_MS + 8 * HOUR_MS, MIDNIGHT_MS + 10 * HOUR_MS, 15400, DAY),)
    # 15.4 kWh x 1.00 = 15.40 yuan; 15.4 kWh x 0.50 = 7.70 yuan
    assert (ledger.electricity_fen, ledger.service_fen, ledger.total_fen) == (1540, 770, 2310)


def test_across_a_boundary_energy_is_split_by_time() -> None:
    # 21:30 to 22:30, 7001 Wh: 3500 Wh (half of it, rounded down) by day, the other 3501 Wh by night
    ledger = charge([(21.5, 0), (22.5, 7001)])
    assert [(segment.energy_wh, segment.price) for segment in ledger.segments] == [(3500, DAY), (3501, NIGHT)]
    # day: 3.5 x 1.00 = 3.50, 3.5 x 0.50 = 1.75; night: 3.501 x 0.40 = 1.4004, 3.501 x 0.30 = 1.0503
    assert [(segment.electricity_fen, segment.service_fen) for segment in ledger.segments] == [(350, 175), (140, 105)]
    assert ledger.total_fen == 350 + 175 + 140 + 105


def test_midnight_is_no_boundary_where_the_price_stays() -> None:
    ledger = charge([(23, 0), (25, 2000)])
    assert [(segment.energy_wh, segment.price) for segment in ledger.segments] == [(2000, NIGHT)]


def test_a_night_that_is_left_and_entered_again_has_three_segments() -> None:
    ledger = charge([(5, 0), (23, 18000)])  # one hour of night, sixteen of day, one of night
    assert [segment.energy_wh for segment in ledger.segments] == [1000, 16000, 1000]


def test_half_a_fen_is_rounded_up_once_for_each_part() -> None:
    tariff = flat_tariff("flat", Price(50_000, 50_000))
    # 10 Wh x 0.50 yuan = 0.5 fen, up to 1, for either part; 9 Wh are 0.45 fen, down to 0
    assert charge([(8, 0), (9, 10)], tariff).total_fen == 2
    assert charge([(8, 0), (9, 9)], tariff).total_fen == 0


def test_no_energy_costs_nothing() -> None:
    assert charge([(8, 500), (9, 500)]).total_fen == 0
    assert charge([(8, 500)]).segments[0].energy_wh == 0


@pytest.mark.parametrize(("hour", "meter_wh"), [(9, 999), (7, 1001)])
def test_a_reading_that_goes_back_is_refused(hour: float, meter_wh: int) -> None:
    with pytest.raises(ValueError, match="expected from 1000 Wh"):
        charge([(8, 1000), (hour, meter_wh)])


READINGS = st.lists(st.tuples(st.integers(1, 40 * HOUR_MS), st.integers(0, 60_000)), min_size=1, max_size=8)


@given(READINGS)
def test_whatever_the_readings_the_segments_have_no_gap_and_the_parts_add_up(steps: list[tuple[int, int]]) -> None:
    ledger = open_ledger(MIDNIGHT_MS, 0, DAY_AND_NIGHT, UTC_OFFSET_S)
    at_ms, meter_wh = MIDNIGHT_MS, 0
    for step_ms, step_wh in steps:
        at_ms, meter_wh = at_ms + step_ms, meter_wh + step_wh
        ledger = advance(ledger, at_ms, meter_wh, DAY_AND_NIGHT, UTC_OFFSET_S)
    assert ledger.energy_wh == meter_wh == ledger.meter_wh
    assert all(before.end_ms == after.start_ms for before, after in pairwise(ledger.segments))
    assert (ledger.segments[0].start_ms, ledger.segments[-1].end_ms) == (MIDNIGHT_MS, at_ms)
    assert ledger.total_fen == sum(part.electricity_fen + part.service_fen for part in ledger.segments)
    assert all(segment.energy_wh >= 0 for segment in ledger.segments)
    assert all(before.price != after.price for before, after in pairwise(ledger.segments))


@given(st.integers(0, 100_000), st.integers(1, 24 * HOUR_MS - 1))
def test_a_reading_in_between_never_changes_the_energy(total_wh: int, between_ms: int) -> None:
    one = advance(
        open_ledger(MIDNIGHT_MS, 0, DAY_AND_NIGHT, UTC_OFFSET_S),
        MIDNIGHT_MS + 24 * HOUR_MS, total_wh, DAY_AND_NIGHT, UTC_OFFSET_S,
    )  # fmt: skip
    half = advance(
        open_ledger(MIDNIGHT_MS, 0, DAY_AND_NIGHT, UTC_OFFSET_S),
        MIDNIGHT_MS + between_ms, total_wh // 2, DAY_AND_NIGHT, UTC_OFFSET_S,
    )  # fmt: skip
    two = advance(half, MIDNIGHT_MS + 24 * HOUR_MS, total_wh, DAY_AND_NIGHT, UTC_OFFSET_S)
    assert one.energy_wh == two.energy_wh == total_wh

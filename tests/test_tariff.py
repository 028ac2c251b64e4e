"""A day's prices: which one holds when, and when the next begins (spec 110)."""

import pytest

from agent.pile.money import Price
from agent.pile.tariff import DAY_MS, flat_tariff, tariff_of

HOUR_MS = 3_600_000
DAY, NIGHT = Price(100_000, 50_000), Price(40_000, 30_000)
DAY_AND_NIGHT = tariff_of("T7", [(21600, 79200, 100_000, 50_000), (79200, 21600, 40_000, 30_000)])  # 06-22, 22-06


@pytest.mark.parametrize(
    ("hour", "price"),
    [
        (0, NIGHT),
        (5.999, NIGHT),
        (6, DAY),
        (12, DAY),
        (21.999, DAY),
        (22, NIGHT),
        (23.999, NIGHT),
        (24, NIGHT),
        (30, DAY),
    ],
)
def test_the_price_of_an_hour(hour: float, price: Price) -> None:
    assert DAY_AND_NIGHT.price_at(int(hour * HOUR_MS)) == price


@pytest.mark.parametrize(
    ("hour", "boundary"), [(0, 6), (5.5, 6), (6, 22), (21.999, 22), (22, 24), (23, 24), (24, 30), (47, 48)]
)
def test_the_next_boundary_lies_in_the_day_or_at_its_end(hour: float, boundary: int) -> None:
    assert DAY_AND_NIGHT.boundary_after(int(hour * HOUR_MS)) == boundary * HOUR_MS


def test_periods_may_stand_in_any_order() -> None:
    shuffled = tariff_of("T7", [(79200, 21600, 40_000, 30_000), (21600, 79200, 100_000, 50_000)])
    assert shuffled == DAY_AND_NIGHT


def test_48_half_hours() -> None:
    tariff = tariff_of("T48", [(1800 * n, 1800 * (n + 1), n, 0) for n in range(48)])
    assert [tariff.price_at(1800_000 * n + 1_799_999).price for n in range(48)] == list(range(48))


def test_one_price_around_the_clock() -> None:
    tariff = flat_tariff("flat", DAY)
    assert tariff.price_at(3 * DAY_MS - 1) == DAY
    assert tariff.boundary_after(5) == DAY_MS


def test_free_and_cheapest() -> None:
    assert flat_tariff("free", Price(0, 0)).is_free
    assert not DAY_AND_NIGHT.is_free
    assert DAY_AND_NIGHT.cheapest == NIGHT

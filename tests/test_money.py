"""Money in integers: Wh x 1e-5 yuan per kWh is exactly 1e-6 fen, and each part is rounded half up once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pile.money import Price, amount_fen, energy_for_wh, total_fen

prices = st.integers(0, 10**6)  # up to 10 yuan per kWh


@pytest.mark.parametrize(
    ("energy_wh", "price", "fen"),
    [
        (1_000, 100_000, 100),  # 1 kWh at 1 yuan: 1000 x 100000 = 100,000,000 microfen = 100 fen
        (12_345, 80_000, 988),  # 12345 x 80000 = 987,600,000: 987.6 fen
        (1, 100_000, 0),  # 0.1 fen
        (4, 100_000, 0),  # 0.4 fen
        (5, 100_000, 1),  # 0.5 fen: half goes up
        (25, 100_000, 3),  # 2.5 fen: half goes up, not to the even neighbour
        (1_499_999, 1, 1),  # 1.499999 fen
        (1_500_000, 1, 2),  # 1.5 fen at 0.00001 yuan per kWh
        (0, 100_000, 0),
        (60_000, 0, 0),
    ],
)
def test_an_amount_is_rounded_half_up_once(energy_wh: int, price: int, fen: int) -> None:
    assert amount_fen(energy_wh, price) == fen


def test_a_total_is_the_sum_of_rounded_parts() -> None:
    # 5 Wh: 5 x 60000 = 0.30 fen -> 0, 5 x 40000 = 0.20 fen -> 0; the sum of the exact parts, 0.50, would be 1.
    assert total_fen(5, Price(60_000, 40_000)) == 0
    # 15 Wh: 0.90 -> 1 and 0.60 -> 1; the sum of the exact parts, 1.50, would be 2 as well.
    assert total_fen(15, Price(60_000, 40_000)) == 2
    # 13 Wh: 0.78 -> 1 and 0.52 -> 1: 2, where the exact 1.30 would be 1.
    assert total_fen(13, Price(60_000, 40_000)) == 2


@pytest.mark.parametrize(
    ("amount", "price", "energy_wh"),
    [
        (1000, Price(60_000, 40_000), 10_008),  # 600.48 + 400.32; one more: 600.54 is 601
        (1, Price(100_000, 0), 14),  # 1.4 fen; 15 Wh are 1.5, which is 2
        (0, Price(100_000, 0), 4),  # 0.4 fen is nothing
        (100, Price(10**9, 0), 0),  # 1 Wh costs 1000 fen
        (1000, Price(0, 0), None),  # free
    ],
)
def test_the_energy_an_amount_buys(amount: int, price: Price, energy_wh: int | None) -> None:
    assert energy_for_wh(amount, price) == energy_wh


@given(st.integers(0, 2**63), prices, prices)
def test_the_cap_is_the_greatest_energy_that_costs_no_more(amount: int, electricity: int, fee: int) -> None:
    price = Price(electricity, fee)
    energy_wh = energy_for_wh(amount, price)
    if price.is_free:
        assert energy_wh is None
    else:
        assert energy_wh is not None
        assert total_fen(energy_wh, price) <= amount < total_fen(energy_wh + 1, price)


@given(st.integers(0, 10**7), st.integers(0, 10**7), prices)
def test_more_energy_never_costs_less(energy_wh: int, more_wh: int, price: int) -> None:
    assert amount_fen(energy_wh, price) <= amount_fen(energy_wh + more_wh, price)

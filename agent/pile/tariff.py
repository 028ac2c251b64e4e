"""A day's prices (spec 110): periods of local time that cover 24 hours exactly once."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from agent.pile.money import Price

DAY_S = 24 * 3600
DAY_MS = DAY_S * 1000


@dataclass(frozen=True, slots=True)
class Tariff:
    """``starts_s`` (seconds of the local day, ascending, the first one 0) say from when each of ``prices`` holds."""

    template: str
    starts_s: tuple[int, ...]
    prices: tuple[Price, ...]

    def price_at(self, local_ms: int) -> Price:
        """The price at a local time (ms since any local midnight)."""
        return self.prices[self._index(local_ms)]

    def boundary_after(self, local_ms: int) -> int:
        """The next local time at which another period begins: in this day, or at its end."""
        day_ms = local_ms // DAY_MS * DAY_MS
        following = self._index(local_ms) + 1
        return day_ms + (self.starts_s[following] * 1000 if following < len(self.starts_s) else DAY_MS)

    @property
    def is_free(self) -> bool:
        return all(price.is_free for price in self.prices)

    @property
    def is_flat(self) -> bool:
        """One price around the clock: it holds whatever the time is."""
        return len(set(self.prices)) == 1

    @property
    def cheapest(self) -> Price:
        """The price at which a kilowatt-hour costs least."""
        return min(self.prices, key=lambda price: price.price + price.service_fee)

    def _index(self, local_ms: int) -> int:
        return bisect_right(self.starts_s, local_ms % DAY_MS // 1000) - 1


def flat_tariff(template: str, price: Price) -> Tariff:
    """One price around the clock."""
    return Tariff(template, (0,), (price,))


def tariff_of(template: str, periods: Iterable[tuple[int, int, int, int]]) -> Tariff:
    """The tariff of 110's periods (start_s, end_s, price, service_fee), which are known to cover the day once.

    A period that crosses midnight stands at both ends of the day.
    """
    begins: dict[int, Price] = {}
    for start_s, end_s, price, service_fee in periods:
        begins[start_s] = Price(price, service_fee)
        if start_s > end_s:
            begins[0] = Price(price, service_fee)
    starts_s = tuple(sorted(begins))
    return Tariff(template, starts_s, tuple(begins[start_s] for start_s in starts_s))

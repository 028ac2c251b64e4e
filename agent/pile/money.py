"""Money in integers (docs/protocol.md, "Money"): Wh x 1e-5 yuan per kWh is exactly 1e-6 fen."""

from dataclasses import dataclass

MICROFEN_PER_FEN = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What a kilowatt-hour costs, in 1e-5 yuan: electricity and service fee."""

    price: int
    service_fee: int

    @property
    def is_free(self) -> bool:
        return self.price == 0 and self.service_fee == 0


def amount_fen(energy_wh: int, price: int) -> int:
    """The amount for that energy at ``price`` (1e-5 yuan per kWh), rounded half up once."""
    return (energy_wh * price + MICROFEN_PER_FEN // 2) // MICROFEN_PER_FEN


def total_fen(energy_wh: int, price: Price) -> int:
    """Electricity and service, each rounded, then added."""
    return amount_fen(energy_wh, price.price) + amount_fen(energy_wh, price.service_fee)


def energy_for_wh(amount: int, price: Price) -> int | None:
    """The most energy that costs no more than ``amount`` fen; ``None`` where energy is free."""
    if price.is_free:
        return None
    # Rounding moves each of the two parts by half a fen at most, so the answer lies within one fen's worth of energy.
    per_wh = price.price + price.service_fee
    low, high = 0, (amount + 2) * MICROFEN_PER_FEN // per_wh + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if total_fen(middle, price) <= amount else (low, middle)
    return low

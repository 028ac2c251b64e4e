"""Units as a device's manual writes them ("0.1 V", "0.01 kWh") and the exact factor between two of them."""

from fractions import Fraction

# name: what it measures, and how many of that quantity's base unit one of it is
_UNITS = {
    "V": ("voltage", Fraction(1)),
    "mV": ("voltage", Fraction(1, 1000)),
    "A": ("current", Fraction(1)),
    "mA": ("current", Fraction(1, 1000)),
    "W": ("power", Fraction(1)),
    "kW": ("power", Fraction(1000)),
    "Wh": ("energy", Fraction(1)),
    "kWh": ("energy", Fraction(1000)),
    "°C": ("temperature", Fraction(1)),
    "%": ("share", Fraction(1)),
    "s": ("time", Fraction(1)),
    "ms": ("time", Fraction(1, 1000)),
    "min": ("time", Fraction(60)),
    "bytes": ("size", Fraction(1)),
}


def factor(unit: str, canonical: str) -> Fraction:
    """How many ``canonical`` one count of ``unit`` is: ``factor("0.01 kWh", "Wh") == 10``.

    An empty unit is a bare number and only converts to itself. ``ValueError`` says what was wrong with ``unit``.
    """
    if unit == canonical:
        return Fraction(1)
    quantity, size = _parse(unit)
    wanted, wanted_size = _parse(canonical)
    if quantity != wanted:
        raise ValueError(f"measures {quantity or 'nothing'}, expected a unit of {wanted or 'nothing (a bare number)'}")
    return size / wanted_size


def _parse(unit: str) -> tuple[str, Fraction]:
    if not unit:
        return "", Fraction(1)
    count, _, name = unit.rpartition(" ")
    if name not in _UNITS:
        raise ValueError(f"is not a known unit, expected a number and one of {', '.join(_UNITS)}")
    quantity, size = _UNITS[name]
    try:
        return quantity, Fraction(count or "1") * size
    except ValueError:
        raise ValueError(f"has {count!r} before the unit, expected a number such as 0.1") from None

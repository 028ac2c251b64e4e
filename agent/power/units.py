"""Units as a device's manual writes them ("0.1 V", "0.01 kWh") and the exact factor between two of them."""

import re
from math import gcd

# name: what it measures, and how many of that quantity's base unit one of it is, as numerator and denominator (not a
# Fraction: that would load decimal, half a MiB for good)
_UNITS = {
    "V": ("voltage", 1, 1),
    "mV": ("voltage", 1, 1000),
    "A": ("current", 1, 1),
    "mA": ("current", 1, 1000),
    "W": ("power", 1, 1),
    "kW": ("power", 1000, 1),
    "Wh": ("energy", 1, 1),
    "kWh": ("energy", 1000, 1),
    "°C": ("temperature", 1, 1),
    "%": ("share", 1, 1),
    "s": ("time", 1, 1),
    "ms": ("time", 1, 1000),
    "min": ("time", 60, 1),
    "bytes": ("size", 1, 1),
}
_COUNT = re.compile(r"(\d+)(?:\.(\d+))?", re.ASCII)


def factor(unit: str, canonical: str) -> tuple[int, int]:
    """How many ``canonical`` one count of ``unit`` is, in lowest terms: ``factor("0.01 kWh", "Wh") == (10, 1)``.

    An empty unit is a bare number and only converts to itself. ``ValueError`` says what was wrong with ``unit``.
    """
    if unit == canonical:
        return 1, 1
    quantity, numerator, denominator = _parse(unit)
    wanted, wanted_numerator, wanted_denominator = _parse(canonical)
    if quantity != wanted:
        raise ValueError(f"measures {quantity or 'nothing'}, expected a unit of {wanted or 'nothing (a bare number)'}")
    numerator, denominator = numerator * wanted_denominator, denominator * wanted_numerator
    shared = gcd(numerator, denominator)
    return numerator // shared, denominator // shared


def _parse(unit: str) -> tuple[str, int, int]:
    if not unit:
        return "", 1, 1
    text, _, name = unit.rpartition(" ")
    if name not in _UNITS:
        raise ValueError(f"is not a known unit, expected a number and one of {', '.join(_UNITS)}")
    quantity, numerator, denominator = _UNITS[name]
    count = _COUNT.fullmatch(text or "1")
    if count is None:
        raise ValueError(f"has {text!r} before the unit, expected a number such as 0.1")
    places = count[2] or ""
    return quantity, int(count[1] + places) * numerator, 10 ** len(places) * denominator

"""Units of measure a column may declare (vocabularies/unit.yaml), and how one is converted into another.

Factors are exact by definition: international yard and pound agreement of 1959 (1 yd = 0.9144 m, 1 lb = 0.45359237 kg),
SI prefixes, and t/°C = (t/°F − 32) × 5/9.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from catalog import vocabularies

#: dimension → unit → how many of the dimension's first unit one of it is
_SCALES: dict[str, dict[str, Fraction]] = {
    "length": {
        "m": Fraction(1),
        "km": Fraction(1000),
        "cm": Fraction(1, 100),
        "mm": Fraction(1, 1000),
        "yd": Fraction("0.9144"),
        "ft": Fraction("0.3048"),
        "mi": Fraction("1609.344"),
    },
    "mass": {"kg": Fraction(1), "g": Fraction(1, 1000), "lb": Fraction("0.45359237")},
    "time": {
        "s": Fraction(1),
        "ms": Fraction(1, 1000),
        "min": Fraction(60),
        "h": Fraction(3600),
        "day": Fraction(86400),
        "week": Fraction(604800),
    },
    "speed": {"m_s": Fraction(1), "km_h": Fraction(1000, 3600)},
    "share": {"ratio": Fraction(1), "pct": Fraction(1, 100)},
    "money": {"CNY": Fraction(1), "fen": Fraction(1, 100), "wan_CNY": Fraction(10000)},
    "voltage": {"mV": Fraction(1), "V": Fraction(1000)},
    "temperature": {"degC": Fraction(1), "degF": Fraction(5, 9)},
}
_ZERO = {"degF": Fraction(32)}  # where a scale's zero is not the dimension's


def is_known(unit: str) -> bool:
    """Whether the unit is in the vocabulary."""
    return unit.strip().lower() in vocabularies.mapping("unit")


def code_of(unit: str) -> str:
    """The vocabulary's code of a unit or of one of its spellings. Raises KeyError when there is none."""
    return vocabularies.mapping("unit")[unit.strip().lower()]


def conversion(source: str, target: str) -> tuple[Fraction, Fraction] | None:
    """(offset, factor) with ``target value = (source value - offset) × factor``; None when they measure different things."""
    source, target = code_of(source), code_of(target)
    if source == target:
        return Fraction(0), Fraction(1)
    for scale in _SCALES.values():
        if source in scale and target in scale:
            if target in _ZERO:
                # (x - zero_s) × f_s = (y - zero_t) × f_t, brought into the form above
                factor = scale[source] / scale[target]
                return _ZERO.get(source, Fraction(0)) - _ZERO[target] / factor, factor
            return _ZERO.get(source, Fraction(0)), scale[source] / scale[target]
    return None


def as_decimal(number: Fraction) -> Decimal | None:
    """The number in decimal notation, None when that never ends (1/60)."""
    rest = number.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return Decimal(number.numerator) / Decimal(number.denominator) if rest == 1 else None

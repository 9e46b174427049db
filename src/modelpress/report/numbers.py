"""How numbers are written: never with more digits than their interval supports. Pure, standard library only."""

from __future__ import annotations

import math

from modelpress.report.record import Interval, Ratio, Row

NULL = "–"
Z_95 = 1.959963984540054


def decimals(half_width: float, *, most: int = 2) -> int:
    """Decimal places that an uncertainty supports: two of its digits if it starts with 1 or 2, otherwise one.

    >>> [decimals(width) for width in (3.5, 1.4, 0.3, 0.05)]
    [0, 1, 1, 2]
    """
    if not math.isfinite(half_width) or half_width <= 0:
        return most
    leading, exponent = f"{half_width:.0e}".split("e")
    digits = 2 if int(leading) < 3 else 1
    return min(most, max(0, digits - 1 - int(exponent)))


def fixed(value: float, places: int) -> str:
    """``value`` with ``places`` decimals and without a negative zero."""
    text = f"{value:.{places}f}"
    return text.lstrip("-") if float(text) == 0 else text


def significant(value: float, digits: int = 3) -> str:
    """``value`` with so many significant digits, never in exponent form: 14.26 -> 14.3, 1234.5 -> 1234."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return fixed(value, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def half_width(low: float, high: float) -> float:
    """Half of an interval's width."""
    return (high - low) / 2


def ratio_text(ratio: Ratio, *, interval: bool = True) -> str:
    """``1.46x [1.41, 1.52]``."""
    return _with_interval(ratio.ratio, ratio.ci_low, ratio.ci_high, "x", interval)


def points_text(change: Interval, *, interval: bool = True) -> str:
    """A share's difference in points, without the unit: ``0.4 [-0.6, 1.4]``."""
    return _with_interval(100 * change.value, 100 * change.ci_low, 100 * change.ci_high, "", interval)


def _with_interval(value: float, low: float, high: float, unit: str, interval: bool) -> str:
    if low == value == high:  # a row against itself: exact, not measured
        return f"{value:g}{unit}"
    places = decimals(half_width(low, high))
    text = fixed(value, places) + unit
    return f"{text} [{fixed(low, places)}, {fixed(high, places)}]" if interval else text


def beside(bound: float, threshold: float, places: int) -> tuple[str, str]:
    """Both numbers with as many decimals as keep them apart, so that a sentence never compares 1.0 with 1.0."""
    while fixed(bound, places) == fixed(threshold, places) and bound != threshold and places < 6:
        places += 1
    return fixed(bound, places), fixed(threshold, places)


def wilson(share: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share measured on ``n`` items (Wilson 1927, JASA 22:209-212)."""
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    spread = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - spread), min(1.0, centre + spread)


def share_text(share: float, n: int | None) -> str:
    """A share in per cent, without the unit, with the digits that ``n`` items support: ``83.2``."""
    if not n:
        return fixed(100 * share, 1)
    low, high = wilson(share, n)
    return fixed(100 * share, decimals(100 * half_width(low, high)))


def latency_text(row: Row, field: str = "p50") -> str:
    """One percentile in ms, or a dash where the sample does not bound it: three digits, p50 those of its interval."""
    value: float | None = getattr(row.latency_ms, field, None)
    if value is None:
        return NULL
    if field == "p50" and "p50_interval_ms" in row.details:
        low, high = row.details["p50_interval_ms"]
        text = fixed(value, decimals(half_width(low, high)))
        return min(text, significant(value), key=len)
    return significant(value)


def plural(value: float, noun: str) -> str:
    """``1 point``, ``0.5 points``."""
    return f"{value:g} {noun}" + ("" if value == 1 else "s")

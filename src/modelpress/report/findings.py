"""The questions a verdict asks of one row. Each answer is yes, no or open, with the numbers in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelpress.report.evidence import Budget, Evidence
from modelpress.report.names import engine_title, model_title, thousands
from modelpress.report.numbers import beside, decimals, half_width, points_text, ratio_text, significant
from modelpress.report.record import Interval, Row


@dataclass(frozen=True)
class Finding:
    """``holds=None``: the interval leaves it open, or nothing was measured."""

    holds: bool | None
    words: str


def speed(row: Row, opponent: Evidence | None) -> Finding:
    """Whether the row is faster than the baseline's own fastest engine that loses nothing.

    A row measured under foreign load (its own or its opponent's) leaves it open: such timings decide nothing.
    """
    ratio = row.speedup_best
    if ratio is None or opponent is None:
        why = row.details.get("reasons", {}).get("speedup_best", "it was not timed.")
        return Finding(None, f"its speed cannot be compared: {why}".rstrip("."))
    words = f"{ratio_text(ratio)} the speed of {model_title(opponent.row)} in {engine_title(opponent.row)}"
    shaky = [name for name, entry in (("it", row), ("its opponent", opponent.row)) if entry.status == "unstable"]
    if shaky:
        return Finding(None, f"{words}, but {' and '.join(shaky)} was unstable, so this decides nothing")
    places = decimals(half_width(ratio.ci_low, ratio.ci_high))
    if ratio.ci_low > 1:
        return Finding(True, f"{words}: its lower bound {beside(ratio.ci_low, 1, places)[0]} is above 1")
    if ratio.ci_high < 1:
        return Finding(False, f"{words}: even its upper bound {beside(ratio.ci_high, 1, places)[0]} is below 1")
    return Finding(None, f"{words}: the interval includes 1")


def quality(row: Row, budget: Budget) -> Finding:
    """Whether the metric stays within the budget."""
    drop, limit = row.metric_drop, budget.max_metric_drop
    if drop is None:
        why = row.details.get("reasons", {}).get("metric_drop", "it was not measured.")
        return Finding(None, f"its metric drop is unknown: {why}".rstrip("."))
    words = f"metric drop {points_text(drop)} points"
    places = decimals(100 * half_width(drop.ci_low, drop.ci_high))
    if drop.ci_high <= limit:
        high, allowed = beside(100 * drop.ci_high, 100 * limit, places)
        return Finding(True, f"{words}: its upper bound {high} is within the budget of {allowed}")
    if drop.ci_low > limit:
        low, allowed = beside(100 * drop.ci_low, 100 * limit, places)
        return Finding(False, f"{words}: even its lower bound {low} is above the budget of {allowed}")
    high, allowed = beside(100 * drop.ci_high, 100 * limit, places)
    return Finding(None, f"{words}: its upper bound {high} is above the budget of {allowed}" + _items(row, drop, limit))


def _items(row: Row, drop: Interval, limit: float) -> str:
    """How many test items would make the interval narrow enough, if the drop stayed what it is."""
    spare = limit - drop.value
    if row.metric_n is None or spare <= 0:
        return ", its lower bound is not"
    needed = row.metric_n * ((drop.ci_high - drop.value) / spare) ** 2
    if needed > 1e6:
        return f" ({thousands(row.metric_n)} test items cannot tell)"
    return f" ({thousands(row.metric_n)} test items cannot tell; about {thousands(_rounded_up(needed))} could)"


def _rounded_up(n: float) -> int:
    """Two significant digits, upwards."""
    step: int = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return math.ceil(n / step) * step


def goal(name: str, unit: str, value: float | None, limit: float | None, rivals: list[float]) -> Finding | None:
    """Whether a size or memory goal is met that no lossless baseline row meets already. ``None``: no such goal."""
    if limit is None:
        return None
    if value is None:
        return Finding(None, f"its {name} was not measured")
    words = f"{name} {significant(value)} {unit} against the goal of {limit:g}"
    if value > limit:
        return Finding(False, f"{words}: missed")
    if any(rival <= limit for rival in rivals):
        return Finding(False, f"{words}: met, but the baseline meets it too")
    return Finding(True, f"{words}: met")

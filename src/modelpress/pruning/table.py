"""Pure parts of pruning to a latency: predicting it from a few measured layers, and choosing among shapes.

A table of measured layer costs that are added up is how NetAdapt (arXiv:1804.03230) estimates a network's latency. What
does not add up is corrected here by measuring the chosen network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from modelpress.report.record import Interval

AIM = 0.93  # of the budget: below it by more than one measurement differs from the next
NEAR = 0.87  # of the budget: a p50 below this leaves too much of it unused
CHECKS = 8  # networks that are measured to correct the table
LEAST_LAYER = 0.02  # of the cost of a network with one layer: noise must not make a layer free


@dataclass(frozen=True)
class Point:
    """Costs of one kind of layer, measured. ``macs``: multiply-adds of one such layer."""

    macs: float
    base_ms: float  # a network of one such layer: embeddings, that layer, head
    layer_ms: float  # each further one


def point(macs: float, shallow_ms: float, deep_ms: float, further: int) -> Point:
    """From a network of one layer and one of ``1 + further`` equal layers."""
    each = (deep_ms - shallow_ms) / further if further else 0.0
    return Point(macs, shallow_ms, max(each, LEAST_LAYER * shallow_ms if further else 0.0))


def predict(points: Sequence[Point], layer_macs: Sequence[float]) -> float:
    """p50 in ms of a network from the multiply-adds of each of its layers, first to last.

    Costs are interpolated linearly between the measured points and never fall with growing multiply-adds. The last
    layer is part of the base, because exported graphs compute it for the first token only.
    """
    ordered = sorted(points, key=lambda entry: entry.macs)
    xs = [entry.macs for entry in ordered]
    bases = np.maximum.accumulate([entry.base_ms for entry in ordered])
    each = np.maximum.accumulate([entry.layer_ms for entry in ordered])
    *first, last = layer_macs
    return float(np.interp(last, xs, bases) + sum(np.interp(macs, xs, each) for macs in first))


def largest(predicted: Sequence[float], goal_ms: float) -> int:
    """Index of the first of ``predicted`` (largest network first) within the goal; the last where none is.

    >>> largest([4.0, 3.0, 2.0], 3.1), largest([4.0, 3.0], 1.0)
    (1, 1)
    """
    return next((index for index, ms in enumerate(predicted) if ms <= goal_ms), len(predicted) - 1)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` indices of ``count``, ends included, evenly spread.

    >>> spread(10, 4), spread(3, 4)
    ([0, 3, 6, 9], [0, 1, 2])
    """
    return sorted({round(float(index)) for index in np.linspace(0, count - 1, min(count, most))})


def search(
    predicted: Sequence[float], measure: Callable[[int], Interval], budget_ms: float
) -> tuple[int, dict[int, Interval]]:
    """The largest network whose p50 is certainly within the budget, and all that was measured (index -> interval).

    ``predicted``: ms of every network, largest first. The chosen one is measured; its ratio to the prediction corrects
    the others, and what is known to be too slow or good enough bounds the choice. The result may be too slow only if
    it is the last.
    """
    tried: dict[int, Interval] = {}
    scale, last = 1.0, len(predicted) - 1
    while True:
        slow = max((i for i, found in tried.items() if found.ci_high > budget_ms), default=-1)
        good = min((i for i, found in tried.items() if found.ci_high <= budget_ms), default=None)
        if good is not None and (tried[good].value >= NEAR * budget_ms or good - slow == 1 or len(tried) >= CHECKS):
            return good, tried
        if slow == last:
            return last, tried
        wanted = largest([scale * ms for ms in predicted], AIM * budget_ms)
        low, high = slow + 1, last if good is None else good - 1
        if len(tried) >= CHECKS or (good is not None and slow >= 0 and not low < wanted < high):
            wanted = (low + high) // 2  # the table, corrected by one noisy figure, misleads: halve what is left
        index = min(max(wanted, low), high)
        tried[index] = measure(index)
        scale = tried[index].value / predicted[index]


def nearest(count: int, measure: Callable[[int], Interval], target_ms: float) -> tuple[int, dict[int, Interval]]:
    """Index (0: the slowest of ``count`` networks, each faster than the one before) whose p50 is nearest to the target.

    By bisection, so that few are measured; all of those are returned too.
    """
    tried: dict[int, Interval] = {}

    def ms(index: int) -> float:
        if index not in tried:
            tried[index] = measure(index)
        return tried[index].value

    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if ms(middle) > target_ms else (low, middle)
    around = [index for index in (low - 1, low) if index >= 0]
    return min(around, key=lambda index: abs(ms(index) - target_ms)), tried

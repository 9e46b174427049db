"""The Pareto front: points that no other point beats in both directions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

Point = tuple[float, float]


def front(points: Sequence[Point], x: int, y: int) -> list[int]:
    """Indices of the points that are not dominated; ``x`` and ``y`` are 1 (higher is better) or -1.

    A point is dominated by one that is at least as good in both and better in one. Equal points stand or fall
    together. O(n log n).

    >>> front([(1, 0.8), (2, 0.9), (3, 0.85)], -1, 1)
    [0, 1]
    """
    order = sorted(range(len(points)), key=lambda i: (-x * points[i][0], -y * points[i][1]))
    kept: list[int] = []
    best = -float("inf")
    for _, same_x in groupby(order, key=lambda i: points[i][0]):
        group = list(same_x)
        top = y * points[group[0]][1]
        if top > best:
            kept += [i for i in group if y * points[i][1] == top]
            best = top
    return sorted(kept)

"""The Pareto front: points that no other point beats in every direction. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[Sequence[float]], *ways: int) -> list[int]:
    """Indices of the points that are not dominated, ascending; ``ways``: for each number 1 (more is better) or -1.

    A point is dominated by one that is at least as good in everything and better in something. Equal points stand or
    fall together.

    >>> front([(1, 0.8), (2, 0.9), (3, 0.85)], -1, 1)
    [0, 1]
    """
    gains = [tuple(way * number for way, number in zip(ways, point, strict=True)) for point in points]
    kept: dict[tuple[float, ...], None] = {}
    for gain in sorted(set(gains), reverse=True):  # whoever dominates a point stands before it
        if not any(all(a >= b for a, b in zip(better, gain, strict=True)) for better in kept):
            kept[gain] = None
    return [index for index, gain in enumerate(gains) if gain in kept]

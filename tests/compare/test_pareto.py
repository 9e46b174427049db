from __future__ import annotations

import random

import pytest

from modelpress.compare.pareto import Point, front


def by_definition(points: list[Point], x: int, y: int) -> list[int]:
    """Not dominated: nobody is at least as good in both and better in one."""

    def beats(a: Point, b: Point) -> bool:
        left, right = (x * a[0], y * a[1]), (x * b[0], y * b[1])
        return left[0] >= right[0] and left[1] >= right[1] and left != right

    return [i for i, point in enumerate(points) if not any(beats(other, point) for other in points)]


@pytest.mark.parametrize("x", [-1, 1])
@pytest.mark.parametrize("y", [-1, 1])
def test_against_the_definition(x: int, y: int) -> None:
    generator = random.Random(3)
    for size in (0, 1, 2, 5, 40):
        for _ in range(20):  # few distinct values: many ties
            points = [(generator.randint(0, 6) / 2, generator.randint(0, 6) / 2) for _ in range(size)]
            assert front(points, x, y) == by_definition(points, x, y)

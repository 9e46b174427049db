from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest

from modelpress.compare.pareto import front


def by_definition(points: list[tuple[float, ...]], ways: tuple[int, ...]) -> list[int]:
    """Not dominated: nobody is at least as good in everything and better in something."""
    gains = np.array(points).reshape(len(points), len(ways)) * np.array(ways)
    at_least = (gains[:, None] >= gains[None]).all(axis=2)
    better = (gains[:, None] > gains[None]).any(axis=2)
    return [int(i) for i in np.flatnonzero(~(at_least & better).any(axis=0))]


@pytest.mark.parametrize("ways", [way for count in (1, 2, 3) for way in product([-1, 1], repeat=count)])
def test_against_the_definition(ways: tuple[int, ...]) -> None:
    generator = random.Random(3)
    for size in (0, 1, 2, 5, 40):
        for _ in range(20):  # few distinct values: many ties
            points = [tuple(generator.randint(0, 6) / 2 for _ in ways) for _ in range(size)]
            assert front(points, *ways) == by_definition(points, ways)


def test_a_number_missing_is_not_taken_for_one() -> None:
    with pytest.raises(ValueError, match="zip"):
        front([(1.0, 2.0, 3.0)], 1, 1)

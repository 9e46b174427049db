from __future__ import annotations

import pytest

from modelpress.errors import ModelPressError
from modelpress.objectives.options import number


def test_numbers_within_bounds_pass() -> None:
    assert number("x", 2, above=0) == 2.0
    assert number("x", 0, at_least=0, below=1) == 0.0


@pytest.mark.parametrize(
    ("given", "bounds", "message"),
    [
        ("hot", {"above": 0}, "x is 'hot', which is no number; give a number above 0"),
        (True, {"at_least": 0}, "x is True, which is no number"),
        (0, {"above": 0}, "x is 0; it must be above 0"),
        (1, {"at_least": 0, "below": 1}, "x is 1; it must be at least 0 and below 1"),
        (float("nan"), {"at_least": 0}, "x is nan"),
        (float("inf"), {"at_least": 0}, "x is inf"),
    ],
)
def test_others_are_refused(given: object, bounds: dict[str, float], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        number("x", given, **bounds)

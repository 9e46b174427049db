"""Sparsity over time, against the formula and numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelpress.errors import ModelPressError
from modelpress.pruning.schedules import Schedule

GRID = np.linspace(0, 1, 201)


def schedule(**options: Any) -> Schedule:
    return Schedule(**{"name": "cubic", "begin": 0.1, "end": 0.6, "updates": 10, **options})


def test_cubic_is_the_formula_at_every_update() -> None:
    """s_f + (s_i - s_f)(1 - t)^3 at t = k / 10, as in arXiv:1710.01878, for s_i = 0.2 and s_f = 0.9."""
    plan = schedule()
    for k in range(11):
        expected = 0.9 - 0.7 * (1 - k / 10) ** 3
        assert plan.sparsity(0.1 + 0.05 * k, 0.9, 0.2) == pytest.approx(expected)
        assert plan.sparsity(0.1 + 0.05 * k + 0.049, 0.9, 0.2) == pytest.approx(expected)  # until the next one


def test_linear_adds_the_same_share_at_every_update() -> None:
    plan = schedule(name="linear", updates=5)
    levels = sorted({round(plan.sparsity(p, 0.5), 9) for p in GRID})
    assert levels == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize("name", ["one_shot", "linear", "cubic"])
def test_warm_up_rise_and_tail(name: str) -> None:
    plan = schedule(name=name)
    levels = np.array([plan.sparsity(p, 0.7, 0.1) for p in GRID])
    assert (levels[GRID < 0.1] == 0.1).all()
    assert (levels[plan.final_from <= GRID] == 0.7).all()
    assert (np.diff(levels) >= 0).all()
    assert len(set(levels.round(9))) == (2 if name == "one_shot" else 11)


def test_one_shot_ends_where_it_begins() -> None:
    assert schedule(name="one_shot", end=0.0).final_from == 0.1
    assert schedule(name="linear").final_from == 0.6
    assert schedule(begin=0.3, end=0.3).sparsity(0.3, 0.5) == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cubik"}, "transform.schedule is 'cubik'; allowed: 'one_shot', 'linear', 'cubic'. Did you mean 'cub"),
        ({"begin": 1.0}, "transform.begin is 1.0; it must be a share of the training from 0 to below 1"),
        ({"end": -0.1}, "transform.end is -0.1; it must be a share"),
        ({"end": "late"}, "transform.end is 'late'; it must be a share"),
        ({"updates": 0}, "transform.updates is 0; it must be a whole number from 1"),
        ({"updates": 2.5}, "transform.updates is 2.5"),
        ({"begin": 0.7}, "transform.begin is 0.7 and transform.end 0.6; pruning cannot end before it begins"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        schedule(**options)

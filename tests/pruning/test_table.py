"""Predicting and choosing, against costs that are known."""

from __future__ import annotations

import numpy as np
import pytest

from modelpress.pruning.table import AIM, CHECKS, NEAR, largest, nearest, point, predict, search, spread
from modelpress.report.record import Interval

BASE_MS, PER_MAC = 0.5, 2e-3


def cost(macs: list[float]) -> float:
    """A machine on which costs really add up."""
    return BASE_MS + PER_MAC * sum(macs)


def about(ms: float, width: float = 0.02) -> Interval:
    return Interval(ms, ms * (1 - width), ms * (1 + width))


def test_costs_that_add_up_are_predicted_exactly() -> None:
    points = [point(m, cost([m]), cost([m, m, m]), 2) for m in (100.0, 400.0, 1600.0)]
    for macs in ([100.0] * 6, [1600.0] * 2, [250.0, 1000.0, 700.0], [400.0]):
        assert predict(points, macs) == pytest.approx(cost(macs))


def test_noise_never_makes_a_layer_free_or_a_larger_one_cheaper() -> None:
    noisy = [point(100.0, 1.0, 0.9, 2), point(200.0, 0.8, 2.0, 1)]
    assert noisy[0].layer_ms > 0
    small, large = (predict(noisy, [macs] * 4) for macs in (100.0, 200.0))
    assert small < large


def test_a_network_of_one_layer_has_a_base_only() -> None:
    assert predict([point(10.0, 1.5, 1.5, 0)], [10.0]) == 1.5


def test_largest_and_spread() -> None:
    assert largest([5.0, 4.0, 3.0], 4.0) == 1
    assert largest([5.0, 4.0, 3.0], 1.0) == 2
    assert spread(50, 4) == [0, 16, 33, 49]
    assert spread(1, 4) == [0]


@pytest.mark.parametrize("bias", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("budget_ms", [2.5, 4.0, 7.0])
def test_the_result_fits_and_is_near_the_budget(bias: float, budget_ms: float) -> None:
    truth = np.linspace(9.0, 1.0, 60)
    index, tried = search((truth / bias).tolist(), lambda i: about(float(truth[i])), budget_ms)
    assert tried[index].ci_high <= budget_ms
    assert tried[index].value >= 0.85 * budget_ms
    assert len(tried) <= CHECKS


def test_a_table_that_misleads_is_left_after_a_few_checks() -> None:
    truth = [9.0, 8.9, 8.8, 8.7, 8.6, 8.5, 8.4, 8.3, 2.9, 1.0]
    index, tried = search(np.linspace(3.2, 0.5, 10).tolist(), lambda i: about(truth[i]), 3.0)
    assert truth[index] == 2.9
    assert len(tried) <= CHECKS + 4


def test_coarse_steps_give_the_largest_that_fits() -> None:
    truth = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    index, tried = search(truth, lambda i: about(truth[i]), 3.9)
    assert (index, tried[index].value) == (3, 3.0)
    assert tried[index].value < NEAR * 3.9 < AIM * 3.9


def test_what_meets_the_budget_already_stays() -> None:
    index, tried = search([2.0, 1.0], lambda i: about([2.0, 1.0][i]), 10.0)
    assert (index, list(tried)) == (0, [0])


def test_unreachable_gives_the_last_and_what_it_takes() -> None:
    index, tried = search([4.0, 3.0, 2.0], lambda i: about([4.0, 3.0, 2.0][i]), 1.0)
    assert index == 2
    assert tried[2].ci_high > 1.0


@pytest.mark.parametrize(("target", "expected"), [(9.0, 0), (3.6, 2), (3.4, 3), (3.0, 3), (0.1, 5), (5.4, 1)])
def test_nearest_by_bisection(target: float, expected: int) -> None:
    truth = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    index, tried = nearest(6, lambda i: about(truth[i]), target)
    assert index == expected == int(np.argmin([abs(ms - target) for ms in truth]))
    assert len(tried) <= 4


def test_noise_between_two_bounds_does_not_end_the_search_early() -> None:
    """Figures off by a quarter threw the correction from one end to the other; four of them left a budget unused."""
    truth = np.linspace(4.0, 1.0, 31).tolist()
    noise = iter([1.2, 0.8, 1.2, 0.9, 1.1, 1.0, 1.0, 1.0, 1.0, 1.0])
    seen: list[int] = []

    def measure(index: int) -> Interval:
        seen.append(index)
        return about(truth[index] * next(noise))

    index, tried = search([0.7 * ms for ms in truth], measure, 3.0)
    assert tried[index].ci_high <= 3.0
    assert tried[index].value >= NEAR * 3.0
    assert len(tried) <= CHECKS
    assert len(seen) == len(set(seen))

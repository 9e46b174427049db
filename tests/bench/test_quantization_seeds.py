from __future__ import annotations

import math

import numpy as np
import pytest

from bench.quantization_seeds import Outcome, by_seed, item_interval, line, mean_interval


def outcome(seed: int, lost: list[float]) -> Outcome:
    values = np.array(lost)
    return Outcome(seed, "openvino", values, values == 0, values >= 0)


def test_mean_interval_is_students() -> None:
    found = mean_interval([1.0, 2.0, 4.5])
    half = 4.302653 * 1.802776 / math.sqrt(3)  # t of 97.5 % with two degrees of freedom, standard deviation by hand
    assert found.value == pytest.approx(2.5)
    assert found.ci_high - found.value == pytest.approx(half, rel=1e-4)
    assert found.value - found.ci_low == pytest.approx(half, rel=1e-4)


def test_one_value_has_no_interval() -> None:
    found = mean_interval([0.5])
    assert (found.value, found.ci_low, found.ci_high) == (0.5, -math.inf, math.inf)


def test_draws_of_a_seed_are_averaged_first() -> None:
    outcomes = [outcome(1, [0, 0]), outcome(1, [1, 1]), outcome(2, [1, 0])]
    assert by_seed(outcomes, [0.0, 1.0, 0.5]) == [0.5, 0.5]


def test_item_interval_averages_files_before_it_looks_at_items() -> None:
    lost = np.array([[1.0, 0.0, 0.0, -1.0], [-1.0, 0.0, 0.0, 1.0]])  # the files differ, but cancel on every item
    assert item_interval(lost) == mean_interval([0.0, 0.0, 0.0, 0.0])
    same = item_interval(np.array([[1.0, 0.0, 0.0, 0.0]] * 2))
    assert same.value == pytest.approx(0.25)
    assert same.ci_high - same.value == pytest.approx(3.182446 * 0.5 / 2, rel=1e-4)


def test_a_row_gives_points_and_what_is_wanted() -> None:
    row = line("ptq", [outcome(1, [1, 0, 0, 0]), outcome(2, [1, 0, 0, 0])])
    assert row.startswith("| ptq | openvino | 2 | 25.00 [")
    assert "| 75.00 [75.00, 75.00] | 100.00 [100.00, 100.00] | drop <= 0.35, agreement >= 98.5 |" in row

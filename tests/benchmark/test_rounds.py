from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from modelpress.benchmark.rounds import balanced_orders, drift, instability, round_medians, variation
from tests.benchmark.fakes import settings


@pytest.mark.parametrize(("subjects", "rounds"), [(1, 2), (2, 4), (3, 8), (9, 12), (9, 6), (4, 4)])
def test_every_subject_has_the_same_mean_position(subjects: int, rounds: int) -> None:
    orders = balanced_orders(subjects, rounds)
    places = np.array([np.argsort(order) for order in orders])
    assert places.shape == (rounds, subjects)
    np.testing.assert_allclose(places.mean(axis=0), (subjects - 1) / 2)
    assert orders[1::2] == [order[::-1] for order in orders[::2]]


def test_two_subjects_alternate_a_b_b_a() -> None:
    assert balanced_orders(2, 4) == [[0, 1], [1, 0], [1, 0], [0, 1]]


def test_every_position_is_met_equally_often() -> None:
    places = Counter((subject, position) for order in balanced_orders(5, 10) for position, subject in enumerate(order))
    assert set(places.values()) == {2}
    assert len(places) == 25


def test_a_linear_drift_cancels() -> None:
    """Latency grows by 1 % per turn; equal engines must come out equal."""
    totals, turn = np.zeros(3), 0
    for order in balanced_orders(3, 6):
        for subject in order:
            totals[subject] += 1 + 0.01 * turn
            turn += 1
    assert np.ptp(totals) < 1e-9


STEADY = [[2.0, 2.1, 2.2]] * 6


def test_variation_and_drift() -> None:
    rounds = [[1.0], [1.0], [1.0], [1.1], [1.2], [1.2]]
    assert round_medians(rounds) == [1.0, 1.0, 1.0, 1.1, 1.2, 1.2]
    assert drift(rounds) == pytest.approx(0.2)
    assert variation(rounds) == pytest.approx(
        np.std([1, 1, 1, 1.1, 1.2, 1.2], ddof=1) / np.mean([1, 1, 1, 1.1, 1.2, 1.2])
    )
    assert (variation(STEADY), drift(STEADY), variation([[1.0]])) == (0, 0, 0)


def test_a_steady_row_has_no_reason() -> None:
    strict = settings(max_foreign_share=0.05, max_round_cov=0.1, max_drift=0.1)
    assert instability(STEADY, 0.01, True, strict) is None
    assert instability(STEADY, None, True, strict) is None


@pytest.mark.parametrize(
    ("rounds", "share", "converged", "why"),
    [
        (STEADY, 0.2, True, r"other processes used 20% of the processor \(limit 5%\)"),
        ([[1.0], [1.5]] * 3, 0.0, True, r"round medians vary by 21\.9% \(limit 10%\)"),
        ([[1.0], [1.0], [1.2], [1.2]], 0.0, True, r"drifted by \+20\.0%"),
        (STEADY, 0.0, False, "warm-up did not settle within 5%"),
    ],
)
def test_each_reason_states_its_bound(rounds: list[list[float]], share: float, converged: bool, why: str) -> None:
    strict = settings(max_foreign_share=0.05, max_round_cov=0.1, max_drift=0.1, warm_tolerance=0.05)
    reason = instability(rounds, share, converged, strict)
    assert reason is not None
    assert re.search(why, reason)

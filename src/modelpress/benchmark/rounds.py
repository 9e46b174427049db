"""The order of a session and the signs that its numbers are not to be trusted. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelpress.benchmark.session import Settings


def balanced_orders(subjects: int, rounds: int) -> list[list[int]]:
    """One order of subjects per round: rotated from pair to pair, each followed by its reverse (A B B A).

    In every pair of rounds each subject's mean position is the same, so a linear drift of the machine cancels in every
    ratio; over ``2 * subjects`` rounds each subject stands at every position exactly twice.

    >>> balanced_orders(3, 4)
    [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]]
    """
    step = max(1, subjects // max(1, rounds // 2))
    orders = []
    for pair in range(rounds // 2):
        shift = pair * step % subjects
        order = [(shift + position) % subjects for position in range(subjects)]
        orders += [order, order[::-1]]
    return orders


def round_medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    """Median of each round, ms."""
    return [float(np.median(block)) for block in rounds]


def variation(rounds: Sequence[Sequence[float]]) -> float:
    """Coefficient of variation of the round medians."""
    medians = round_medians(rounds)
    return float(np.std(medians, ddof=1) / np.mean(medians)) if len(medians) > 1 else 0.0


def drift(rounds: Sequence[Sequence[float]]) -> float:
    """Relative change from the first to the last third of the rounds (median of medians): 0.1 means 10 % slower."""
    medians = round_medians(rounds)
    third = max(1, len(medians) // 3)
    return float(np.median(medians[-third:]) / np.median(medians[:third]) - 1.0)


def instability(
    rounds: Sequence[Sequence[float]], foreign_share: float | None, converged: bool, settings: Settings
) -> str | None:
    """Why a row is ``unstable``, with the bound that it broke; ``None`` if it is steady."""
    reasons = []
    if foreign_share is not None and foreign_share > settings.max_foreign_share:
        reasons.append(
            f"other processes used {foreign_share:.0%} of the processor (limit {settings.max_foreign_share:.0%})"
        )
    if (cov := variation(rounds)) > settings.max_round_cov:
        reasons.append(f"round medians vary by {cov:.1%} (limit {settings.max_round_cov:.0%})")
    if abs(change := drift(rounds)) > settings.max_drift:
        reasons.append(f"latency drifted by {change:+.1%} during the session (limit {settings.max_drift:.0%})")
    if not converged:
        reasons.append(f"warm-up did not settle within {settings.warm_tolerance:.0%}")
    return "; ".join(reasons) or None

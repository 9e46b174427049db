"""The statistics of a report, in NumPy alone: percentiles with a minimum sample, paired ratios, paired drops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelpress.report.record import Interval, Latency

Rounds = Sequence[Sequence[float]]
Parts = list[NDArray[np.float64]]


# --- percentiles -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def minimum_count(q: float, confidence: float = 0.99, discarded: int = 1) -> int:
    """Smallest sample from which percentile ``q`` (0 < q < 100) may be stated.

    The early-stopping rule of MLPerf Inference (arXiv:1911.02549): of ``n`` queries ``discarded`` (t >= 1) may be
    slower than the bound; the bound holds for a share q of all queries with this confidence if
    P[Binomial(n, 1 - q/100) <= t] <= 1 - confidence. At 99 %: p50 11, p90 64, p95 130, p99 662, p99.9 6636.
    """
    slow = 1.0 - q / 100.0
    if not 0.0 < slow < 1.0 or not 0.0 < confidence < 1.0 or discarded < 0:
        raise ValueError(f"need 0 < q < 100, 0 < confidence < 1, discarded >= 0; got {q}, {confidence}, {discarded}")
    low, high = discarded + 1, discarded + 2
    while binomial_cdf(discarded, high, slow) > 1.0 - confidence:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        enough = binomial_cdf(discarded, middle, slow) <= 1.0 - confidence
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def percentile_allowed(n: int, q: float, confidence: float = 0.99) -> bool:
    """Whether ``n`` queries are enough to state percentile ``q``; see :func:`minimum_count`."""
    return n >= minimum_count(q, confidence)


def percentile(latencies_ms: ArrayLike, q: float, confidence: float = 0.99) -> float | None:
    """Percentile ``q`` in ms, or ``None`` where the sample is too small for it."""
    values = np.asarray(latencies_ms, np.float64)
    return float(np.percentile(values, q)) if percentile_allowed(values.size, q, confidence) else None


def summarize(latencies_ms: ArrayLike) -> Latency:
    """Every query counts; none is dropped. Raises ValueError on an empty or non-positive sample."""
    values = np.asarray(latencies_ms, np.float64).ravel()
    if values.size == 0 or not np.all(np.isfinite(values)) or values.min() <= 0:
        raise ValueError(f"latencies must be positive and at least one, got {values.size} values")
    p50, p90, p95, p99 = (percentile(values, q) for q in (50, 90, 95, 99))
    cov = float(values.std(ddof=1) / values.mean()) if values.size > 1 else 0.0
    return Latency(p50, p90, p95, p99, float(values.min()), cov, int(values.size))


def p50_bound(latencies_ms: ArrayLike, confidence: float = 0.99) -> float | None:
    """One-sided upper bound of the median: the first order statistic k with P[Binomial(n, 1/2) < k] >= confidence."""
    values = np.sort(np.asarray(latencies_ms, np.float64).ravel())
    below = np.cumsum([math.exp(_log_binomial(k, values.size, 0.5)) for k in range(values.size)])
    ranks = np.flatnonzero(below >= confidence)
    return float(values[ranks[0]]) if ranks.size else None


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P[Binomial(n, p) <= k]."""
    return math.fsum(math.exp(_log_binomial(i, n, p)) for i in range(min(k, n) + 1))


def _log_binomial(k: int, n: int, p: float) -> float:
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return choose + k * math.log(p) + (n - k) * math.log1p(-p)


# --- ratios of latencies ---------------------------------------------------------------------------------------------


def ratio_interval(
    baseline_rounds: Rounds,
    candidate_rounds: Rounds,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Speed-up = median(baseline) / median(candidate), with a bootstrap interval over PAIRED rounds.

    Round i of both was measured next to each other, so both take the same resampled rounds (a cluster bootstrap:
    queries of one round are not independent). Plain percentile limits are too narrow for few rounds; the tail
    probability is therefore expanded to that of Student's t (Hesterberg, "What Teachers Should Know about the
    Bootstrap", arXiv:1411.5279, section 5.3).
    """
    baseline, candidate = _paired(baseline_rounds, candidate_rounds)
    picks = np.random.default_rng(seed).integers(0, len(baseline), (resamples, len(baseline)))
    ratios = np.array([_ratio(baseline, candidate, pick) for pick in picks])
    tail = _expanded_tail(confidence, len(baseline))
    low, high = np.quantile(ratios, [tail, 1.0 - tail])
    return Interval(_ratio(baseline, candidate, np.arange(len(baseline))), float(low), float(high))


def _paired(baseline: Rounds, candidate: Rounds) -> tuple[Parts, Parts]:
    if len(baseline) != len(candidate) or len(baseline) < 2:
        raise ValueError(f"need the same number of rounds, at least 2, got {len(baseline)} and {len(candidate)}")
    arrays = [[np.asarray(values, np.float64) for values in rounds] for rounds in (baseline, candidate)]
    if any(values.size == 0 for rounds in arrays for values in rounds):
        raise ValueError("every round needs at least one latency")
    return arrays[0], arrays[1]


def _ratio(baseline: Parts, candidate: Parts, pick: NDArray[np.int64]) -> float:
    slow = np.median(np.concatenate([baseline[i] for i in pick]))
    return float(slow / np.median(np.concatenate([candidate[i] for i in pick])))


def _expanded_tail(confidence: float, n: int) -> float:
    """Normal tail probability at sqrt(n / (n - 1)) times the t quantile with n - 1 degrees of freedom."""
    return NormalDist().cdf(-math.sqrt(n / (n - 1)) * t_quantile(0.5 + confidence / 2, n - 1))


@lru_cache(maxsize=256)
def t_quantile(probability: float, degrees: int) -> float:
    """Quantile (probability > 1/2) of Student's t, integrating its density over the angle atan(t / sqrt(degrees))."""
    angles = np.linspace(0.0, math.pi / 2, 200_001)
    density = np.cos(angles) ** (degrees - 1)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(degrees) * math.tan(float(np.interp(probability, 0.5 + 0.5 * area / area[-1], angles)))


# --- paired drops of accuracy ----------------------------------------------------------------------------------------


def drop_interval(baseline_correct: ArrayLike, candidate_correct: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Accuracy of the baseline minus that of the candidate on the same n items, with Tango's score interval.

    T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    Statistics in Medicine 17 (1998) 891-908. Chosen over a bootstrap: it is exact arithmetic (no seed), keeps its
    coverage with few discordant pairs, and where two engines agree on every item it gives +- z^2 / (n + z^2) where
    bootstrap and Wald intervals collapse to [0, 0].
    """
    baseline, candidate = np.asarray(baseline_correct, bool).ravel(), np.asarray(candidate_correct, bool).ravel()
    if baseline.size != candidate.size or baseline.size == 0:
        raise ValueError(f"need the same items for both, got {baseline.size} and {candidate.size}")
    lost, won, n = int((baseline & ~candidate).sum()), int((candidate & ~baseline).sum()), baseline.size
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    value = (lost - won) / n
    low = _crossing(lambda drop: tango_score(lost, won, n, drop) - z, -1.0, value)
    high = _crossing(lambda drop: tango_score(lost, won, n, drop) + z, value, 1.0)
    return Interval(value, low, high)


def tango_score(lost: int, won: int, n: int, drop: float) -> float:
    """Score statistic of the hypothesis that the paired difference is ``drop``; falls from +inf to -inf in ``drop``."""
    b = -lost - won + (2 * n - lost + won) * drop
    c = -won * drop * (1.0 - drop)
    won_share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * won_share + drop * (1.0 - drop))
    distance = lost - won - n * drop
    if distance == 0.0:
        return 0.0
    return distance / math.sqrt(variance) if variance > 1e-12 else math.copysign(math.inf, distance)


def _crossing(falling: Callable[[float], float], low: float, high: float) -> float:
    """Zero of a falling function between ``low`` and ``high``, by bisection to double precision."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2

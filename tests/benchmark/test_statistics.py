from __future__ import annotations

import math

import numpy as np
import pytest

from modelpress.benchmark.statistics import (
    binomial_cdf,
    drop_interval,
    minimum_count,
    p50_bound,
    percentile,
    percentile_allowed,
    ratio_interval,
    summarize,
    t_quantile,
    tango_score,
)

# MLPerf Inference's early-stopping counts (t = 1 discarded)
COUNTS_99 = {50: 11, 90: 64, 95: 130, 99: 662, 99.9: 6636}
COUNTS_95 = {50: 8, 90: 46, 95: 93, 99: 473, 99.9: 4742}


@pytest.mark.parametrize(("confidence", "table"), [(0.99, COUNTS_99), (0.95, COUNTS_95)])
def test_minimum_counts_equal_the_published_table(confidence: float, table: dict[float, int]) -> None:
    assert {q: minimum_count(q, confidence) for q in table} == table


@pytest.mark.parametrize("q", [50, 90, 99])
def test_a_percentile_is_stated_only_from_its_count_on(q: float) -> None:
    n = COUNTS_99[q]
    assert not percentile_allowed(n - 1, q)
    assert percentile_allowed(n, q)
    assert percentile(np.arange(1, n), q) is None
    assert percentile(np.arange(1, n + 1), q) == np.percentile(np.arange(1, n + 1), q)


def test_minimum_count_by_simulation() -> None:
    """With n = 64 queries the second slowest is above the true p90 in at least 99 % of all samples."""
    samples = np.random.default_rng(0).random((20_000, 64))
    covered = np.mean(np.sort(samples, axis=1)[:, -2] >= 0.9)
    assert 0.988 < covered < 0.993


def test_minimum_count_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="0 < q < 100"):
        minimum_count(100)


def test_binomial_cdf_against_exact_integers() -> None:
    exact = sum(math.comb(20, k) for k in range(8)) / 2**20
    assert binomial_cdf(7, 20, 0.5) == pytest.approx(exact, rel=1e-12)


def test_summary_keeps_every_query() -> None:
    values = np.concatenate([np.full(70, 2.0), [200.0]])
    summary = summarize(values)
    assert (summary.n, summary.min, summary.p50, summary.p90) == (71, 2.0, 2.0, 2.0)
    assert summary.p95 is None
    assert summary.p99 is None
    assert summary.cov == pytest.approx(values.std(ddof=1) / values.mean())


@pytest.mark.parametrize("values", [[], [1.0, 0.0], [1.0, float("nan")]])
def test_summary_refuses_impossible_latencies(values: list[float]) -> None:
    with pytest.raises(ValueError, match="latencies must be positive"):
        summarize(values)


def test_bound_of_the_median() -> None:
    assert p50_bound([1, 2, 3, 4, 5, 6]) is None  # 1 - 2^-6 < 0.99
    assert p50_bound([7, 1, 2, 3, 4, 5, 6]) == 7
    samples = np.random.default_rng(1).random((2000, 51))
    covered = np.mean([p50_bound(sample, 0.9) >= 0.5 for sample in samples])
    assert 0.89 < covered < 0.96


@pytest.mark.parametrize(
    ("probability", "degrees", "printed"),
    [(0.975, 1, 12.706), (0.975, 5, 2.571), (0.975, 11, 2.201), (0.995, 7, 3.499), (0.95, 30, 1.697)],
)
def test_t_quantiles_equal_the_printed_table(probability: float, degrees: int, printed: float) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(printed, abs=6e-4)


def test_ratio_of_known_rounds() -> None:
    rng = np.random.default_rng(2)
    slow = [list(rng.normal(10, 0.1, 30)) for _ in range(12)]
    fast = [[value / 4 for value in block] for block in slow]
    interval = ratio_interval(slow, fast)
    assert interval.value == pytest.approx(4)
    assert (interval.ci_low, interval.ci_high) == pytest.approx((4, 4))


def test_pairing_removes_what_both_sides_share() -> None:
    """The machine is slower in some rounds; a paired ratio does not care, an unpaired one would."""
    rng = np.random.default_rng(3)
    pace = rng.uniform(1, 2, 12)
    slow = [list(10 * p * rng.normal(1, 0.01, 41)) for p in pace]
    fast = [list(5 * p * rng.normal(1, 0.01, 41)) for p in pace]
    paired = ratio_interval(slow, fast)
    shuffled = ratio_interval(slow, [fast[i] for i in rng.permutation(12)])
    width, unpaired_width = paired.ci_high - paired.ci_low, shuffled.ci_high - shuffled.ci_low
    assert width < 0.3 * unpaired_width
    assert paired.ci_low <= 2 <= paired.ci_high


def test_coverage_of_the_ratio_interval_with_few_rounds() -> None:
    """Rounds differ by 5 % on each side independently; nominal 95 % from 8 rounds."""
    rng = np.random.default_rng(4)
    hits = 0
    for seed in range(150):
        blocks = [
            [list(level * rng.normal(1, 0.05) * rng.normal(1, 0.02, 9)) for _ in range(8)] for level in (6.0, 2.0)
        ]
        interval = ratio_interval(blocks[0], blocks[1], resamples=150, seed=seed)
        hits += interval.ci_low <= 3.0 <= interval.ci_high
    assert 0.90 <= hits / 150 <= 1.0


def test_the_interval_is_reproducible_and_wants_pairs() -> None:
    blocks = [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [1.5, 2.5, 3.5]]
    assert ratio_interval(blocks, blocks[::-1], seed=5) == ratio_interval(blocks, blocks[::-1], seed=5)
    with pytest.raises(ValueError, match="same number of rounds"):
        ratio_interval(blocks, blocks[:2])
    with pytest.raises(ValueError, match="at least one latency"):
        ratio_interval(blocks, [[1.0], [], [1.0]])


def outcomes(both: int, lost: int, won: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    baseline = np.repeat([True, True, False, False], [both, lost, won, neither])
    candidate = np.repeat([True, False, True, False], [both, lost, won, neither])
    return baseline, candidate


def constrained_score(lost: int, won: int, n: int, drop: float) -> float:
    """The score statistic again, with the nuisance parameter maximised on a grid instead of in closed form."""
    share = np.linspace(max(0.0, -drop), (1 - drop) / 2, 400_001)[1:-1]
    rest = 1 - drop - 2 * share
    log_likelihood = lost * np.log(share + drop) + won * np.log(share) + (n - lost - won) * np.log(rest)
    best = share[np.argmax(log_likelihood)]
    return (lost - won - n * drop) / math.sqrt(n * (2 * best + drop * (1 - drop)))


@pytest.mark.parametrize("drop", [-0.15, -0.02, 0.03, 0.2])
def test_tango_score_against_a_grid_search(drop: float) -> None:
    assert tango_score(12, 5, 100, drop) == pytest.approx(constrained_score(12, 5, 100, drop), abs=1e-3)


def test_limits_of_the_drop_lie_at_the_normal_quantile() -> None:
    interval = drop_interval(*outcomes(60, 12, 5, 23))
    assert interval.value == pytest.approx(0.07)
    assert constrained_score(12, 5, 100, interval.ci_low) == pytest.approx(1.959964, abs=2e-3)
    assert constrained_score(12, 5, 100, interval.ci_high) == pytest.approx(-1.959964, abs=2e-3)


def test_no_discordant_pair_is_not_certainty() -> None:
    n, z2 = 2591, 1.959964**2
    interval = drop_interval(np.ones(n, bool), np.ones(n, bool))
    assert interval.value == 0
    assert interval.ci_high == pytest.approx(z2 / (n + z2), rel=1e-4)
    assert interval.ci_low == pytest.approx(-interval.ci_high)


def test_drop_is_antisymmetric_and_reaches_the_ends() -> None:
    baseline, candidate = outcomes(50, 9, 4, 37)
    there, back = drop_interval(baseline, candidate), drop_interval(candidate, baseline)
    assert (there.value, there.ci_low, there.ci_high) == pytest.approx((-back.value, -back.ci_high, -back.ci_low))
    total = drop_interval(np.ones(20, bool), np.zeros(20, bool))
    assert total.value == 1
    assert 0.6 < total.ci_low < total.ci_high <= 1


def test_coverage_of_the_drop_interval() -> None:
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(400):
        kinds = rng.choice(4, 200, p=[0.8, 0.04, 0.02, 0.14])
        interval = drop_interval((kinds == 0) | (kinds == 1), (kinds == 0) | (kinds == 2))
        hits += interval.ci_low <= 0.02 <= interval.ci_high
    assert 0.92 <= hits / 400 <= 0.98


def test_drop_needs_the_same_items() -> None:
    with pytest.raises(ValueError, match="same items"):
        drop_interval([True], [True, False])

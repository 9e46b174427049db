"""Every calibrator against an independent reference: ONNX Runtime's, NumPy's quantile, and searches written by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import HistogramCollector
from torch import Tensor

from modelpress.errors import ModelPressError
from modelpress.quantization import calibrators
from modelpress.quantization.calibrators import Entropy, Histogram, Mse, Percentile, divergence, quantile, squared_error
from modelpress.quantization.observers import Observer, make

CALIBRATORS = ("percentile", "entropy", "mse")


def outliers() -> Tensor:
    """Normal, but for 20 values that are 20 times as large, as in a transformer's activations."""
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    x[:20] *= 20
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))]


def laplace() -> Tensor:
    uniform = torch.rand(200_000, generator=torch.Generator().manual_seed(2)) - 0.5
    return -uniform.sign() * torch.log1p(-2 * uniform.abs())


def gelu() -> Tensor:
    return torch.nn.functional.gelu(torch.randn(200_000, generator=torch.Generator().manual_seed(3)) * 2)


def relu() -> Tensor:
    return torch.randn(200_000, generator=torch.Generator().manual_seed(4)).relu()


DATA = {"outliers": outliers(), "laplace": laplace(), "gelu": gelu(), "relu": relu()}
every_data = pytest.mark.parametrize("data", DATA)


def found(observer: Observer, *batches: Tensor) -> float:
    for batch in batches:
        observer.observe(batch)
    return float(observer.amax())


# The references


def onnxruntime_threshold(method: str, x: Tensor, bins: int, levels: int = 128, percentile: float = 99.99) -> float:
    """Its percentile counts |x| in ``bins``; its entropy counts x, so bins and levels are on both sides of zero."""
    sides = (bins, levels) if method == "percentile" else (2 * bins + 1, 2 * levels + 1)
    collector = HistogramCollector(method, True, *sides, percentile, "same")
    for batch in x.split(len(x) // 2):
        collector.collect({"x": batch.numpy()})
    return float(collector.compute_collection_result()["x"][1])


def divergence_by_hand(counts: NDArray[np.int64], kept: int, levels: int) -> float:
    """The classic algorithm for one candidate, bin by bin."""
    reference = [float(count) for count in counts[:kept]]
    reference[-1] += float(counts[kept:].sum())
    step_of = [(bin_ * levels) // kept for bin_ in range(kept)]
    candidate = [0.0] * kept
    for step in range(levels):
        members = [bin_ for bin_ in range(kept) if step_of[bin_] == step]
        filled = [bin_ for bin_ in members if reference[bin_] > 0]
        for bin_ in filled:
            candidate[bin_] = sum(float(counts[member]) for member in members) / len(filled)
    if sum(candidate) == 0:
        return float("inf")
    p, q = (np.array(values) / sum(values) for values in (reference, candidate))
    if np.any(q[p > 0] == 0):
        return float("inf")
    return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())


def error_of(x: NDArray[np.float64], threshold: float) -> float:
    """Mean squared error of the round trip through INT8; symmetric, so that -128 is never needed."""
    scale = threshold / 127
    return float(np.mean((x - np.clip(np.round(x / scale), -127, 127) * scale) ** 2))


# Histogram


@pytest.mark.parametrize("bins", [256, 300])
def test_histogram_is_numpys(bins: int) -> None:
    x = (DATA["outliers"][:20_000] * 16).round() / 16  # no value near an edge that rounding could move
    histogram = Histogram(bins)
    histogram.add(x, float(x.abs().max()))
    edges = np.arange(histogram.size + 1) * histogram.width
    reference, _ = np.histogram(-np.abs(x.double().numpy()), bins=-edges[::-1])  # bins that include their upper end
    zeros = int((x == 0).sum())
    reference[-1] -= zeros
    np.testing.assert_array_equal(histogram.counts[1:], reference[::-1])
    assert histogram.counts[0] == zeros


@pytest.mark.parametrize("bins", [256, 2048, 3000])
def test_counts_do_not_depend_on_the_split(bins: int) -> None:
    x = DATA["outliers"][:50_000]
    x = x[x.abs().argsort()]  # ascending: the range grows with every batch
    whole, parts = Histogram(bins), Histogram(bins)
    whole.add(x, float(x.abs().max()))
    for batch in x.split(777):
        parts.add(batch, float(batch.abs().max()))
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert parts.exponent == whole.exponent
    assert parts.counts.sum() == len(x)
    assert parts.counts.nbytes == Histogram(bins).counts.nbytes


def test_large_tensors_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = Histogram(256), Histogram(256)
    whole.add(DATA["gelu"], 9.0)
    monkeypatch.setattr(calibrators, "CHUNK", 1000)
    parts.add(DATA["gelu"], 9.0)
    np.testing.assert_array_equal(parts.counts, whole.counts)


@every_data
def test_coarse_counts_are_those_of_equal_bins_up_to_the_maximum(data: str) -> None:
    x = DATA[data].abs().double().numpy()
    histogram = Histogram(256)
    histogram.add(DATA[data], float(x.max()))
    counts = histogram.up_to(float(x.max()))
    reference, _ = np.histogram(x[x > 0], bins=256, range=(0, x.max()))
    assert counts.sum() == (x > 0).sum()
    assert counts[-1] >= 1
    # off by what lies in the two fine bins at the edges, of which the counts are at most a fifth of a coarse bin's
    off = np.abs(counts - reference)
    assert np.all(off <= 2 + 0.2 * np.maximum(reference, np.roll(reference, -1)))
    assert off.sum() < 0.02 * counts.sum()


# Percentile


@every_data
@pytest.mark.parametrize("percentile", [60.0, 99.0, 99.9, 99.99, 99.9995])
def test_percentile_is_numpys_quantile(data: str, percentile: float) -> None:
    x = DATA[data]
    reference = float(np.quantile(x.abs().double().numpy(), percentile / 100))
    bin_width = float(x.abs().max()) / (8 * 2048)  # a value is known to within a bin
    assert found(Percentile(percentile), x) == pytest.approx(reference, abs=bin_width)


@every_data
def test_percentile_100_is_the_maximum(data: str) -> None:
    assert found(Percentile(100), DATA[data]) == float(DATA[data].abs().max())


@every_data
@pytest.mark.parametrize("percentile", [99.0, 99.9])
def test_percentile_is_that_of_onnxruntime(data: str, percentile: float) -> None:
    x = DATA[data]
    reference = onnxruntime_threshold("percentile", x, 2048, percentile=percentile)
    # it returns the lower end of the bin (of 1/2048 of the first batch's maximum), we interpolate within ours
    assert found(Percentile(percentile), x) == pytest.approx(reference, abs=1.2 * float(x.abs().max()) / 2048)


def test_quantile_of_few_values() -> None:
    counts = np.array([2, 0, 1, 0, 1])  # 0, 0, 1.5, 3.5 if values lie in the middle of their bin
    for fraction in (0.0, 0.3, 0.5, 0.75, 0.9, 1.0):
        assert quantile(counts, fraction) == pytest.approx(np.quantile([0, 0, 1.5, 3.5], fraction))


def test_percentile_of_mostly_zeros_says_so() -> None:
    observer = Percentile(99, name="relu")
    observer.observe(torch.cat([torch.zeros(999), torch.ones(1)]))
    with pytest.raises(ModelPressError, match="'relu' .*99.9 % of its values were 0, so their percentile 99 is 0"):
        observer.amax()


# Entropy


@pytest.mark.parametrize(("size", "levels"), [(64, 8), (100, 16), (300, 128)])
def test_divergence_is_that_of_the_loop(size: int, levels: int) -> None:
    random = np.random.default_rng(size)
    counts = np.floor(1000 * np.exp(-np.arange(size) / (size / 6)) * random.random(size)).astype(np.int64)
    counts[size // 3 : size // 3 + 9] = 0
    counts[-1] = 5
    candidates = np.arange(levels, size + 1)
    reference = [divergence_by_hand(counts, int(kept), levels) for kept in candidates]
    computed = divergence(counts, candidates, levels)
    assert np.isinf(reference).any()
    np.testing.assert_allclose(computed, reference, rtol=1e-9, atol=1e-12)


@every_data
def test_entropy_is_the_least_divergence_of_the_loop(data: str) -> None:
    x = DATA[data].abs().double().numpy()
    counts, edges = np.histogram(x[x > 0], bins=256, range=(0, x.max()))
    losses = [divergence_by_hand(counts, kept, 32) for kept in range(32, 257)]
    # the counts differ a little from NumPy's at the edges of bins: near the minimum another candidate may win
    chosen = found(Entropy(bins=256, levels=32), DATA[data])
    loss = losses[round(chosen / edges[1]) - 32]
    assert loss <= 1.1 * min(losses)
    assert loss < 0.5 * float(np.median(losses))


@pytest.mark.parametrize("data", ["outliers", "laplace"])
def test_entropy_is_near_that_of_onnxruntime(data: str) -> None:
    """Not to a bin: its steps are whole numbers of bins, the last takes what remains, and it smooths empty bins.

    This moves the threshold where the divergence is flat, so it is compared too. Its step over zero is a special one,
    and it clips to the signed extremes: the data are made symmetric.
    """
    x = torch.cat([DATA[data], -DATA[data]])
    reference = onnxruntime_threshold("entropy", x, 512, 64)
    observer = Entropy(bins=512, levels=64)
    assert found(observer, x) == pytest.approx(reference, rel=0.2)
    assert reference < 0.8 * observer.maximum
    counts = observer.histogram.up_to(observer.maximum)
    losses = divergence(counts, np.arange(64, 513), 64)
    theirs = round(reference / observer.maximum * 512) - 64
    assert losses[theirs - 1 : theirs + 2].min() < 1.15 * losses.min()
    assert losses[-1] > 1.4 * losses.min()


def test_entropy_keeps_an_even_distribution_whole() -> None:
    x = torch.rand(200_000, generator=torch.Generator().manual_seed(5))
    assert found(Entropy(), x) == float(x.max())


def test_exact_zeros_do_not_pull_the_range() -> None:
    dense = DATA["relu"][DATA["relu"] > 0]
    assert found(Entropy(), DATA["relu"]) == found(Entropy(), dense)
    assert found(Mse(), DATA["relu"]) == found(Mse(), dense)


# Mean squared error


@pytest.mark.parametrize("size", [256, 300])
def test_squared_error_is_that_of_values_spread_within_their_bins(size: int) -> None:
    random = np.random.default_rng(size)
    counts = np.floor(100 * np.exp(-np.arange(size) / 30) * random.random(size)).astype(np.int64)
    counts[-1] = 3
    fine = 400  # values a bin, evenly spread
    x = (np.arange(size * fine) + 0.5) / fine
    candidates = np.array([1, 7, 60, 127, 128, 200, size])
    reference = [float((np.repeat(counts, fine) * _squares(x, kept)).sum()) / fine for kept in candidates]
    np.testing.assert_allclose(squared_error(counts, candidates), reference, rtol=2e-3)


def _squares(x: NDArray[np.float64], threshold: int) -> NDArray[np.float64]:
    scale = threshold / 127
    squares: NDArray[np.float64] = (x - np.minimum(np.round(x / scale), 127) * scale) ** 2
    return squares


@every_data
def test_mse_is_the_least_of_a_search_over_the_data(data: str) -> None:
    x = DATA[data].double().numpy()
    maximum = float(np.abs(x).max())
    errors = {threshold: error_of(x, threshold) for threshold in np.linspace(maximum / 150, maximum, 150)}
    best = min(errors, key=lambda threshold: errors[threshold])
    chosen = found(Mse(), DATA[data])
    assert error_of(x, chosen) <= 1.001 * errors[best]
    assert chosen == pytest.approx(best, rel=0.05)
    assert errors[best] < 0.97 * errors[maximum]


# Properties


@every_data
@pytest.mark.parametrize("name", CALIBRATORS)
def test_no_range_is_above_the_maximum(name: str, data: str) -> None:
    for x in (DATA[data], DATA[data][:300], DATA[data][:1] + 0.1):
        assert 0 < found(make(name), x) <= float(x.abs().max())


@every_data
@pytest.mark.parametrize("name", CALIBRATORS)
def test_the_range_does_not_depend_on_the_split(name: str, data: str) -> None:
    x = DATA[data][:60_000]
    whole = found(make(name), x)
    assert found(make(name), *x.split(7_001)) == whole
    assert found(make(name), *x[x.abs().argsort()].reshape(10, 60, 100)) == whole


@every_data
@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("factor", [2.0**-30, 0.37, 3.0, 1e6])
def test_the_range_scales_with_the_data(name: str, data: str, factor: float) -> None:
    """To the last digit for powers of two; else values cross edges of the fine bins, and a near candidate may win."""
    whole, scaled = found(make(name), DATA[data]), found(make(name), DATA[data] * factor)
    assert scaled == pytest.approx(whole * factor, rel=1e-9 if factor == 2.0**-30 else 0.02)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_the_sign_does_not_matter(name: str) -> None:
    assert found(make(name), -DATA["gelu"]) == found(make(name), DATA["gelu"])


def test_fifty_layers_take_seconds() -> None:
    observers = [make(name) for name in ("entropy", "mse") for _ in range(25)]
    for observer in observers:
        observer.observe(DATA["laplace"][:20_000])
    started = time.process_time()
    assert all(observer.amax() > 0 for observer in observers)
    assert time.process_time() - started < 20  # a guard against a loop over bins, which takes minutes; it takes 1


def test_candidates_in_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {name: found(make(name), DATA["laplace"]) for name in ("entropy", "mse")}
    monkeypatch.setattr(calibrators, "CHUNK", 5_000)
    assert {name: found(make(name), DATA["laplace"]) for name in whole} == whole

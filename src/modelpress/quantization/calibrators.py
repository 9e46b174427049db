"""Calibrators: observers that keep a histogram of |x| and choose from it where to clip.

The maths are pure functions of ``counts`` (K,): how many magnitudes lie in the bins (0, 1], (1, 2], … (K-1, K], in
units of a bin's width, the maximum in the last. Exact zeros stand apart: every scale represents them exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelpress.quantization.observers import EXPONENT_MIN, Observer, checked

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Indices = NDArray[np.int64]

BINS = 2048
BINS_MAX = 16384
FINER = 16  # bins kept for one that is used, at most; at least half as many
LEVELS = 128  # magnitudes that INT8 tells apart on the positive side, 0 among them
CHUNK = 1 << 20  # values binned at a time; also entries of a table of candidates: bounds the memory


class Histogram:
    """Counts of magnitudes, in bins 8 to 16 times finer than ``bins`` from 0 to the maximum.

    The range always ends at a power of two and is doubled when a larger value comes: bins are merged in pairs, so
    the counts are exactly those of one pass that had known the maximum, however the data were split.
    """

    def __init__(self, bins: int) -> None:
        self.bins = bins
        self.size = FINER * bins
        self.exponent = EXPONENT_MIN
        self.counts: Counts = np.zeros(self.size + 1, dtype=np.int64)  # the first is that of exact zeros

    @property
    def width(self) -> float:
        """Of a fine bin, in units of the data."""
        return math.ldexp(1.0, self.exponent) / self.size

    def add(self, x: Tensor, largest: float) -> None:
        """Count ``x`` (any shape, finite float32), of which ``largest`` is the largest magnitude."""
        if largest:
            self._grow(math.frexp(largest)[1])
        per_width = self.size * math.ldexp(1.0, -self.exponent)
        for part in x.flatten().split(CHUNK):
            bins = part.abs().mul_(per_width).ceil_().to(torch.int32)
            self.counts += torch.bincount(bins, minlength=self.size + 1).cpu().numpy()

    def _grow(self, exponent: int) -> None:
        if not self.counts[1:].any():
            self.exponent = max(self.exponent, exponent)
        while self.exponent < exponent:
            pairs = self.counts[1:].reshape(-1, 2).sum(1)
            self.counts[1:] = np.concatenate([pairs, np.zeros_like(pairs)])
            self.exponent += 1

    def up_to(self, maximum: float) -> Counts:
        """(bins,) counts in equal bins from 0 to ``maximum``, without zeros; the unit of the data is of no influence.

        A fine bin across an edge is split as if its values were spread evenly, to whole numbers.
        """
        fine = self.counts[1 : int(self.counts.nonzero()[0][-1]) + 1]
        ends = self.width * np.arange(len(fine) + 1)
        ends[-1] = maximum
        upto = np.interp(np.linspace(0, maximum, self.bins + 1), ends, _before(fine))
        return np.diff(np.rint(upto)).astype(np.int64)


class _Calibrator(Observer):
    """An observer with a histogram."""

    def __init__(self, bins: int, levels: int, name: str) -> None:
        super().__init__(name)
        allowed = f"a whole number from {2 * levels} to {BINS_MAX}"
        self.bins = int(checked("bins", bins, allowed, _whole(2 * levels, BINS_MAX)))
        self.histogram = Histogram(self.bins)

    def _least(self, columns: int, first: int, loss: Callable[[Counts, Indices], Floats]) -> float:
        """The upper end of the bin at which clipping loses least, from the ``first`` on; the first of equals.

        ``loss`` needs memory for ``columns`` numbers a candidate, which is bounded by taking some at a time.
        """
        counts = self.histogram.up_to(self.maximum)
        parts = np.array_split(np.arange(first, self.bins + 1), math.ceil(self.bins * columns / CHUNK))
        losses = np.concatenate([loss(counts, part) for part in parts])
        return (first + int(losses.argmin())) * self.maximum / self.bins

    def _take(self, x: Tensor, largest: float) -> None:
        self.histogram.add(x, largest)


class Percentile(_Calibrator):
    """Clips the largest magnitudes, so that ``percentile`` % of the values lie within the range.

    "Integer Quantization for Deep Learning Inference: Principles and Empirical Evaluation", arXiv:2004.09602. It is
    off by at most a bin of the histogram; 100 gives the largest magnitude itself.
    """

    def __init__(self, percentile: float = 99.99, bins: int = BINS, name: str = "") -> None:
        super().__init__(bins, LEVELS, name)
        allowed = "a number above 50 and at most 100"
        self.percentile = checked("percentile", percentile, allowed, lambda given: 50 < given <= 100)

    def _threshold(self) -> float:
        if self.percentile == 100:
            return self.maximum
        threshold = quantile(self.histogram.counts, self.percentile / 100) * self.histogram.width
        if not threshold:
            zeros = f"{100 * self.histogram.counts[0] / self.count:.6g} % of its values were 0"
            raise self._fault(
                f"cannot choose a range: {zeros}, so their percentile {self.percentile:g} is 0",
                "Give a larger percentile (at most 100) or another calibrator, or leave this layer in float",
            )
        return threshold


class Entropy(_Calibrator):
    """The range whose ``levels`` steps keep the distribution of magnitudes best, by Kullback-Leibler divergence.

    TensorRT's classic entropy calibrator ("8-bit Inference with TensorRT", GTC 2017), with steps of equal width.
    """

    def __init__(self, bins: int = BINS, levels: int = LEVELS, name: str = "") -> None:
        allowed = f"a whole number from 2 to {BINS_MAX // 2}"
        self.levels = int(checked("levels", levels, allowed, _whole(2, BINS_MAX // 2)))
        super().__init__(bins, self.levels, name)

    def _threshold(self) -> float:
        return self._least(self.levels, self.levels, lambda counts, some: divergence(counts, some, self.levels))


class Mse(_Calibrator):
    """The range with the least mean squared error of rounding to INT8 and clipping.

    "A White Paper on Neural Network Quantization", arXiv:2106.08295, section 3.1.
    """

    def __init__(self, bins: int = BINS, name: str = "") -> None:
        super().__init__(bins, LEVELS, name)

    def _threshold(self) -> float:
        return self._least(LEVELS, 1, squared_error)


def quantile(counts: Counts, fraction: float) -> float:
    """Linear interpolation between the two nearest order statistics; the values of a bin are spread evenly within it.

    Here ``counts`` (K + 1,) begins with the number of zeros.
    """
    position = fraction * (int(counts.sum()) - 1)
    ranks = np.array([math.floor(position), math.ceil(position)])
    upto = counts.cumsum()
    bins = upto.searchsorted(ranks, side="right")
    below = upto[bins] - counts[bins]
    low, high = np.where(bins == 0, 0.0, bins - 1 + (ranks - below + 0.5) / counts[bins])
    return float(low + (high - low) * (position - ranks[0]))


def divergence(counts: Counts, candidates: Indices, levels: int) -> Floats:
    """KL(P || Q) for every candidate i, of which the first i bins are kept; (K,), (n,) -> (n,).

    P: the kept bins, all that is clipped being added to the last. Q: the kept bins without the clipped, gathered into
    ``levels`` steps, bin j into step floor(j * levels / i), and each step spread evenly over those of its bins that P
    does not find empty. Both are scaled to sum to 1. Infinite where Q is 0 and P is not.

    With step sums c over m non-empty bins, Q is c / m there, so the sum over bins becomes one over steps:
    N KL = sum(P log P) - sum over steps of P's mass * log(c / m) + N log(sum of Q / N).
    """
    edges = -(-np.arange(levels + 1) * candidates[:, None] // levels)  # (n, levels + 1), the first bin of each step
    total, kept = counts.sum(), _before(counts)[candidates]
    clipped, last = total - kept, counts[candidates - 1]
    sums = np.diff(_before(counts)[edges])
    filled = np.diff(_before(counts > 0)[edges])
    filled[:, -1] += (last == 0) & (clipped > 0)
    mass = sums.copy()
    mass[:, -1] += clipped
    own = _before(counts * _log(counts))[candidates - 1] + (last + clipped) * _log(last + clipped)
    steps = (mass * _log(sums / np.maximum(filled, 1))).sum(1)
    result = (own - steps) / total + _log(kept / total)
    return np.where((sums[:, -1] == 0) & (clipped > 0), np.inf, result)


def squared_error(counts: Counts, candidates: Indices) -> Floats:
    """Sum of (x - x_hat)^2 for every candidate threshold i, in units of bins; (K,), (n,) -> (n,).

    The scale is s = i / 127, and values are spread evenly within their bin. A magnitude between (l - 1/2) s and
    (l + 1/2) s becomes l s, above that 127 s. From level l - 1 to l the error changes by (2l - 1) s^2 - 2 s x, so that
    the sum needs only, for every level, how many values lie above its lower end and what they add up to.
    """
    scale = candidates[:, None] / (LEVELS - 1)
    level = np.arange(1, LEVELS)
    ends = np.minimum((level - 0.5) * scale, len(counts))
    bins = np.minimum(ends.astype(np.int64), len(counts) - 1)
    within, middle = ends - bins, counts * (np.arange(len(counts)) + 0.5)
    number = counts.sum() - _before(counts)[bins] - counts[bins] * within
    added = middle.sum() - _before(middle)[bins] - counts[bins] * within * (bins + within / 2)
    start = np.arange(len(counts), dtype=np.float64)
    unquantized = float((counts * (start**2 + start + 1 / 3)).sum())  # all values rounded to 0
    changes: Floats = ((2 * level - 1) * scale**2 * number - 2 * scale * added).sum(1)
    return unquantized + changes


def _before(values: Floats | Counts | NDArray[np.bool_]) -> Floats:
    """(K,) -> (K + 1,): at k the sum of the first k. Counts stay exact, being far below 2^53."""
    result = np.zeros(len(values) + 1)
    np.cumsum(values, out=result[1:])
    return result


def _log(values: Floats | Counts) -> Floats:
    """Natural logarithm; 0 at 0, where it is only ever multiplied by 0."""
    result: Floats = np.log(np.where(values > 0, values, 1.0))
    return result


def _whole(low: int, high: int) -> Callable[[float], bool]:
    return lambda given: low <= given <= high and float(given).is_integer()

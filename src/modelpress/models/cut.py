"""Pure maths of cutting a post-LayerNorm encoder narrower, on the canonical weights of :mod:`modelpress.models.layout`.

A unit (hidden channel, head dimension, neuron) is kept for the size of what it carries times the size of the weights
that read it (the score of "A Simple and Effective Pruning Approach for Large Language Models", arXiv:2306.11695, per
unit instead of per weight). What the dropped units carried is predicted from the kept ones by least squares and folded
into the weights that remain.

Shapes: D hidden channels, H heads of d dimensions, F feed-forward neurons; a Linear weight is (out, in).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Weights = dict[str, Tensor]
READERS = ("q", "k", "v")  # read the residual stream before attention; ``up`` reads it after
WRITERS = ("o", "down")  # add to it
RIDGE = 1e-2  # of the mean variance: the moments come from a sample


@dataclass(frozen=True)
class Moments:
    """First and second moments of a layer's inputs or outputs over tokens."""

    mean: Tensor  # (n,)
    covariance: Tensor  # (n, n)

    @property
    def rms(self) -> Tensor:
        """(n,) root mean square."""
        return (self.covariance.diagonal() + self.mean.square()).sqrt()


Statistics = Mapping[str, Moments]  # canonical name -> outputs of a norm, or inputs of ``o``, ``down`` and ``head``


def narrow(
    weights: Weights, statistics: Statistics, *, layers: int, heads: tuple[int, int], width: int, neurons: int
) -> Weights:
    """Cut to ``width`` channels, ``heads[1]`` of ``heads[0]`` heads and ``neurons``; nothing changes where nothing is
    cut.

    Heads and neurons are judged on the uncut residual stream, so channels go last.
    """
    cut = dict(weights)
    for i in range(layers):
        cut |= cut_heads(cut, statistics, i, *heads, width // heads[1])
        cut |= cut_neurons(cut, statistics, f"layers.{i}.", neurons)
    return cut_channels(cut, statistics, layers, width)


def cut_heads(weights: Weights, statistics: Statistics, layer: int, old: int, new: int, width: int) -> Weights:
    """The ``new`` heads, and in each the ``width`` dimensions, that carry most.

    Scores are ``q . k / sqrt(d)``. Fewer dimensions shrink the divisor, so queries shrink by ``sqrt(d_new / d_old)``
    and the kept part of every score stays what it was.
    """
    at = f"layers.{layer}."
    d = len(weights[f"{at}q.weight"]) // old
    if (new, width) == (old, d):
        return {}
    size = statistics[stream(f"{at}q")].rms
    q, k, v = (energy(weights[f"{at}{name}.weight"] * size).unflatten(0, (old, d)) for name in READERS)
    scores, values = q * k, v * energy(weights[f"{at}o.weight"].T).unflatten(0, (old, d))  # (H, d)
    kept = top(share(scores.sum(1)) + share(values.sum(1)), new)
    qk, vo = ((kept[:, None] * d + top(by_unit[kept], width)).flatten() for by_unit in (scores, values))
    cut: Weights = {}
    for name, index, scale in (("q", qk, (width / d) ** 0.5), ("k", qk, 1.0), ("v", vo, 1.0)):
        for part in ("weight", "bias"):
            cut[f"{at}{name}.{part}"] = weights[f"{at}{name}.{part}"][index] * scale
    return cut | fold(weights, f"{at}o", statistics[f"{at}o"], vo)


def cut_neurons(weights: Weights, statistics: Statistics, at: str, count: int) -> Weights:
    """The ``count`` feed-forward neurons that carry most."""
    down = weights[f"{at}down.weight"]
    if count == down.shape[1]:
        return {}
    moments = statistics[f"{at}down"]
    kept = top(moments.rms.square() * energy(down.T), count)
    cut = {f"{at}up.{part}": weights[f"{at}up.{part}"][kept] for part in ("weight", "bias")}
    return cut | fold(weights, f"{at}down", moments, kept)


def cut_channels(weights: Weights, statistics: Statistics, layers: int, width: int) -> Weights:
    """One set of ``width`` hidden channels for the whole network: the residual stream runs through every layer."""
    if width == weights["word.weight"].shape[1]:
        return weights
    kept = top(channel_importance(weights, statistics, layers), width)
    cut = dict(weights)
    for name in ("word", "position", "token_type"):
        if f"{name}.weight" in weights:
            cut[f"{name}.weight"] = weights[f"{name}.weight"][:, kept]
    for name in readers(layers):
        cut |= fold(weights, name, statistics[stream(name, layers)], kept)
    norms = ["norm", *(f"layers.{i}.{norm}" for i in range(layers) for norm in ("norm1", "norm2"))]
    for name in (*norms, *(f"layers.{i}.{writer}" for i in range(layers) for writer in WRITERS)):
        for part in ("weight", "bias"):
            cut[f"{name}.{part}"] = weights[f"{name}.{part}"][kept]
    return cut | _cut_pool(cut | {"head.weight": weights["head.weight"]}, statistics["head"], width)


def _cut_pool(weights: Weights, moments: Moments, width: int) -> Weights:
    """The dense layer before the head has an output space of its own, so its units are chosen apart."""
    kept = top(moments.rms * energy(weights["head.weight"].T).sqrt(), width)
    cut = {f"pool.{part}": weights[f"pool.{part}"][kept] for part in ("weight", "bias")}
    return cut | fold(weights, "head", moments, kept)


def channel_importance(weights: Weights, statistics: Statistics, layers: int) -> Tensor:
    """(D,) sum over all readers of the stream: the share of each channel in the energy of what they compute."""
    shares = [
        share(energy((weights[f"{name}.weight"] * statistics[stream(name, layers)].rms).T)) for name in readers(layers)
    ]
    return torch.stack(shares).sum(0)


def readers(layers: int) -> list[str]:
    """Linear layers that read the residual stream."""
    return [f"layers.{i}.{name}" for i in range(layers) for name in (*READERS, "up")] + ["pool"]


def stream(reader: str, layers: int = 0) -> str:
    """Name of the statistics of what a reader reads; those before attention are kept under ``layers.I.input``.

    >>> stream("layers.2.up"), stream("layers.2.q"), stream("pool", 4)
    ('layers.2.norm1', 'layers.2.input', 'layers.3.norm2')
    """
    if reader == "pool":
        return f"layers.{layers - 1}.norm2"
    at, _, name = reader.rpartition(".")
    return f"{at}.norm1" if name == "up" else f"{at}.input"


def fold(weights: Weights, linear: str, moments: Moments, kept: Tensor) -> Weights:
    """A Linear layer that reads only ``kept`` inputs, with the best linear guess of the others folded in.

    With x the inputs, C their covariance and K the kept: x - mean is predicted by ``R (x_K - mean_K)``, R = C_{:K}
    C_{KK}⁻¹.
    """
    weight, bias = weights[f"{linear}.weight"], weights[f"{linear}.bias"]
    folded = weight @ prediction(moments, kept)
    return {f"{linear}.weight": folded, f"{linear}.bias": bias + weight @ moments.mean - folded @ moments.mean[kept]}


def prediction(moments: Moments, kept: Tensor) -> Tensor:
    """(n, k) R of :func:`fold`: all inputs, less their means, from the kept ones, less theirs."""
    inner = moments.covariance[kept][:, kept]
    ridge = RIDGE * inner.diagonal().mean() * torch.eye(len(kept), dtype=inner.dtype)
    guess: Tensor = torch.linalg.solve(inner + ridge, moments.covariance[kept]).T
    guess[kept] = torch.eye(len(kept), dtype=inner.dtype)
    return guess


def energy(tensor: Tensor) -> Tensor:
    """Sum of squares over the last axis."""
    return tensor.square().sum(-1)


def share(values: Tensor) -> Tensor:
    """Values scaled to sum to one, so that large matrices do not outvote small ones."""
    return values / values.sum()


def top(values: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` largest along the last axis, in ascending order; ties go to the lower index."""
    order = torch.sort(values, dim=-1, descending=True, stable=True).indices
    return order[..., :count].sort(-1).values

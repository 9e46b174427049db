"""Pure maths of cutting a post-LayerNorm encoder narrower, on the canonical weights of :mod:`modelpress.models.layout`.

Shapes: D hidden channels, H heads of d dimensions, F feed-forward neurons; a Linear weight is (out, in).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]
READERS = ("q", "k", "v", "up")  # Linear layers that read the residual stream
WRITERS = ("o", "down")  # and those that add to it
KNOBS = {"mean": True, "norm": True, "gain": True}

def narrow(weights: Weights, *, layers: int, heads: tuple[int, int], width: int, neurons: int) -> Weights:
    """Cut to ``width`` channels, ``heads[1]`` of ``heads[0]`` heads and ``neurons`` neurons.

    Heads and neurons are judged on the uncut residual stream, so channels go last.
    """
    weights = dict(weights)
    for i in range(layers):
        at = f"layers.{i}."
        stream = "norm" if i == 0 else f"layers.{i - 1}.norm2"
        weights |= cut_heads(weights, at, stream, *heads, width // heads[1])
        weights |= cut_neurons(weights, at, neurons)
    return cut_channels(weights, layers, width)


def cut_heads(weights: Weights, at: str, stream: str, old: int, new: int, width: int) -> Weights:
    """The heads, and in each the dimensions, whose weights carry most; nothing changes where all are kept.

    Scores are ``q . k / sqrt(d)``. Fewer dimensions shrink the divisor, so queries shrink by ``sqrt(d_new / d_old)``
    and the kept part of every score stays what it was.
    """
    by_head = {name: weights[f"{at}{name}.weight"].unflatten(0, (old, -1)) for name in ("q", "k", "v")}
    bias = {name: weights[f"{at}{name}.bias"].unflatten(0, (old, -1)) for name in ("q", "k", "v")}
    out = weights[f"{at}o.weight"].T.unflatten(0, (old, -1))  # (H, d, D)
    d = out.shape[1]
    gain = input_gain(weights, stream)
    scores = energy(by_head["q"] * gain) * energy(by_head["k"] * gain)  # (H, d)
    values = energy(by_head["v"] * gain) * energy(out)
    kept = top(share(scores.sum(1)) + share(values.sum(1)), new)[:, None]
    qk, vo = (kept, top(scores[kept[:, 0]], width)), (kept, top(values[kept[:, 0]], width))
    cut: Weights = {}
    for name, index, scale in (("q", qk, (width / d) ** 0.5), ("k", qk, 1.0), ("v", vo, 1.0)):
        cut[f"{at}{name}.weight"] = by_head[name][index].flatten(0, 1) * scale
        cut[f"{at}{name}.bias"] = bias[name][index].flatten() * scale
    cut[f"{at}o.weight"] = out[vo].flatten(0, 1).T.contiguous()
    mean = by_head["v"] @ weights[f"{stream}.bias"] + bias["v"]
    mean[vo] = 0
    if KNOBS["mean"]: cut[f"{at}o.bias"] = weights[f"{at}o.bias"] + torch.einsum("hd,hdo->o", mean, out)
    return cut


def cut_neurons(weights: Weights, at: str, size: int) -> Weights:
    """The feed-forward neurons with the largest product of incoming and outgoing weights."""
    up, bias, down = weights[f"{at}up.weight"], weights[f"{at}up.bias"], weights[f"{at}down.weight"]
    stream = f"{at}norm1"
    kept = top(energy(up * input_gain(weights, stream)) * energy(down.T), size)
    mean = F.gelu(up @ weights[f"{stream}.bias"] + bias)
    mean[kept] = 0
    return {
        f"{at}up.weight": up[kept],
        f"{at}up.bias": bias[kept],
        f"{at}down.weight": down[:, kept],
        f"{at}down.bias": weights[f"{at}down.bias"] + (down @ mean if KNOBS["mean"] else 0),
    }


def cut_channels(weights: Weights, layers: int, width: int) -> Weights:
    """One set of hidden channels for the whole network."""
    kept = top(channel_importance(weights, layers), width)
    dropped = torch.ones(weights["word.weight"].shape[1], dtype=torch.bool)
    dropped[kept] = False
    cut = dict(weights)
    for name in ("word", "position", "token_type"):
        if f"{name}.weight" in weights:
            cut[f"{name}.weight"] = weights[f"{name}.weight"][:, kept]
    for linear, stream in readers(layers).items():
        matrix = weights[f"{linear}.weight"]
        cut[f"{linear}.weight"] = matrix[:, kept]
        if KNOBS["mean"]: cut[f"{linear}.bias"] = weights[f"{linear}.bias"] + matrix[:, dropped] @ weights[f"{stream}.bias"][dropped]
    for i in range(layers):
        for name in WRITERS:
            for part in ("weight", "bias"):
                cut[f"layers.{i}.{name}.{part}"] = cut[f"layers.{i}.{name}.{part}"][kept]
    units = top(energy(weights["head.weight"].T), width) if KNOBS.get("pool",1)==1 else top(energy(weights["head.weight"].T)*energy(weights["pool.weight"]* input_gain(weights, f"layers.{layers-1}.norm2")), width)
    for name in ("weight", "bias"):
        cut[f"pool.{name}"] = cut[f"pool.{name}"][units]
    cut["head.weight"] = weights["head.weight"][:, units]
    return cut | _norms(weights, layers, kept)

def _norms(weights: Weights, layers: int, kept: Tensor) -> Weights:
    cut: Weights = {}
    for norm, before in norms(layers).items():
        gain = torch.ones(())
        if KNOBS["norm"]:
            if before: power = input_gain(weights, before) ** 2
            else: power = (weights["word.weight"]-weights["word.weight"].mean(0)).square().mean(0)
            gain = (power[kept].mean() / power.mean()).sqrt()
        cut[f"{norm}.weight"] = weights[f"{norm}.weight"][kept] * gain
        cut[f"{norm}.bias"] = weights[f"{norm}.bias"][kept]
    return cut

def norms(layers):
    streams={"norm":None}
    for i in range(layers):
        streams[f"layers.{i}.norm1"]="norm" if i==0 else f"layers.{i-1}.norm2"
        streams[f"layers.{i}.norm2"]=f"layers.{i}.norm1"
    return streams


def readers(layers: int) -> dict[str, str]:
    """Linear layers that read the residual stream -> the LayerNorm whose output they read."""
    streams: dict[str, str] = {}
    for i in range(layers):
        stream = "norm" if i == 0 else f"layers.{i - 1}.norm2"
        streams |= {f"layers.{i}.{name}": stream for name in ("q", "k", "v")}
        streams[f"layers.{i}.up"] = f"layers.{i}.norm1"
    return streams | {"pool": f"layers.{layers - 1}.norm2"}


def channel_importance(weights: Weights, layers: int) -> Tensor:
    """(D,) sum over all matrices on the residual stream of the share each channel has in the matrix's energy."""
    total = share(energy(weights["word.weight"].T)) + share(energy(weights["position.weight"].T))
    for linear, stream in readers(layers).items():
        total = total + share(energy((weights[f"{linear}.weight"] * input_gain(weights, stream)).T))
    for i in range(layers):
        for name in WRITERS:
            total = total + share(energy(weights[f"layers.{i}.{name}.weight"]))
    return total


def input_gain(weights: Weights, stream: str) -> Tensor:
    """(D,) root mean square of a LayerNorm's outputs if its inputs were standard normal: sqrt(gamma² + beta²)."""
    if not KNOBS["gain"]: return torch.ones_like(weights[f"{stream}.weight"])
    return (weights[f"{stream}.weight"] ** 2 + weights[f"{stream}.bias"] ** 2).sqrt()


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

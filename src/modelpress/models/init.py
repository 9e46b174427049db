"""A student cut out of its teacher: layers chosen by a layer map, widths by the magnitude of what they carry.

Structured magnitude pruning in one step (cf. "Pruning Filters for Efficient ConvNets", arXiv:1608.08710), with one
constraint of residual networks: every layer must keep the *same* hidden channels. What can be kept exactly is: attention
scores over the kept dimensions, and the mean of what dropped channels contributed (folded into biases).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from modelpress.errors import ModelPressError
from modelpress.models import layout
from modelpress.models.layout import Weights

READERS = ("q", "k", "v", "up")  # Linear layers that read the residual stream
WRITERS = ("o", "down")  # and those that add to it


def initialise(student: PreTrainedModel, teacher: PreTrainedModel, layers: Sequence[int]) -> None:
    """Overwrite the student's weights with the teacher's: layer ``i`` from teacher layer ``layers[i]``.

    The classification head is taken only if both sides have as many labels. Deterministic.

    Raises:
        ModelPressError: a student wider than its teacher in any direction, or layouts that do not map.
    """
    if layout.supported(student) and layout.supported(teacher):
        _check_fits(student, teacher)
        weights = _cut(_take_layers(layout.read(teacher), layers), student, teacher)
        if weights["head.weight"].shape[0] != student.config.num_labels:
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith("head.")}
        layout.write(student, weights)
    else:
        _copy_layers(student, teacher, layers)


def _check_fits(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    ours, theirs = student.config, teacher.config
    if ours.vocab_size != theirs.vocab_size:
        raise ModelPressError(
            f"The student has {ours.vocab_size} words and its teacher {theirs.vocab_size}: leave vocab_size null to take "
            "the teacher's, or set model.init=random."
        )
    sizes = {
        "hidden_size": (ours.hidden_size, theirs.hidden_size),
        "num_attention_heads": (ours.num_attention_heads, theirs.num_attention_heads),
        "width of a head": (_head_dim(ours), _head_dim(theirs)),
        "intermediate_size": (_ffn(ours), _ffn(theirs)),
        "positions": tuple(len(layout.read(network)["position.weight"]) for network in (student, teacher)),
    }
    wider = [f"{name} {a} > {b}" for name, (a, b) in sizes.items() if a > b]
    if wider:
        raise ModelPressError(
            f"A student cannot be cut out of a narrower teacher: {', '.join(wider)}. Choose a smaller student, a wider "
            "teacher, or model.init=random."
        )


def _head_dim(config: object) -> int:
    return int(config.hidden_size // config.num_attention_heads)  # type: ignore[attr-defined]


def _ffn(config: object) -> int:
    return int(getattr(config, "intermediate_size", None) or config.hidden_dim)  # type: ignore[attr-defined]


def _take_layers(weights: Weights, layers: Sequence[int]) -> Weights:
    """Keep the chosen teacher layers, numbered as in the student."""
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("layers.")}
    for new, old in enumerate(layers):
        prefix = f"layers.{old}."
        kept |= {
            f"layers.{new}.{name.removeprefix(prefix)}": tensor
            for name, tensor in weights.items()
            if name.startswith(prefix)
        }
    return kept


def _cut(weights: Weights, student: PreTrainedModel, teacher: PreTrainedModel) -> Weights:
    """Narrow heads, feed-forward neurons and hidden channels, in this order: each is chosen on the full residual stream."""
    config = student.config
    for i in range(config.num_hidden_layers):
        _cut_attention(weights, f"layers.{i}.", teacher.config.num_attention_heads, config)
        _cut_ffn(weights, f"layers.{i}.", _ffn(config))
    return _cut_channels(weights, config.num_hidden_layers, config.hidden_size)


def _cut_attention(weights: Weights, at: str, teacher_heads: int, config: object) -> None:
    """Keep the heads, and in each the dimensions, with the largest products of weights.

    Scores are ``q . k / sqrt(d)``: with fewer dimensions the divisor shrinks, so queries shrink by ``sqrt(d_new / d_old)``.
    """
    heads, width = int(config.num_attention_heads), _head_dim(config)  # type: ignore[attr-defined]
    if heads == teacher_heads and width * heads == weights[at + "q.weight"].shape[0]:
        return
    q, k, v = (weights[at + name + ".weight"].unflatten(0, (teacher_heads, -1)) for name in "qkv")
    o = weights[at + "o.weight"].T.unflatten(0, (teacher_heads, -1))
    scores, values = _energy(q) * _energy(k), _energy(v) * _energy(o)  # (heads, dims)
    kept = _top(_share(scores.sum(1)) + _share(values.sum(1)), heads)
    qk, vo = (kept[:, None], _top(scores[kept], width)), (kept[:, None], _top(values[kept], width))
    shrink = (width / q.shape[1]) ** 0.5
    for name, index, scale in (("q", qk, shrink), ("k", qk, 1.0), ("v", vo, 1.0)):
        for part in (".weight", ".bias"):
            tensor = weights[at + name + part].unflatten(0, (teacher_heads, -1))
            weights[at + name + part] = tensor[index].flatten(0, 1) * scale
    dropped_mean = _dropped(weights_v_bias(v, weights[at + "v.bias"] * 0, teacher_heads), vo)
    weights[at + "o.weight"] = o[vo].flatten(0, 1).T.contiguous()
    del dropped_mean

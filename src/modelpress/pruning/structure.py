"""What can be removed from a model, what it would leave, and doing it.

An encoder (:class:`Shape`) loses attention heads, feed-forward neurons, hidden width and whole layers; a dual encoder
all but the width (:mod:`modelpress.pruning.blocks`); any network of convolutions loses channels
(:mod:`modelpress.pruning.channels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from modelpress.errors import ModelPressError
from modelpress.models import layout
from modelpress.models.classifier import TextClassifier, Widening
from modelpress.models.dual import DualEncoder
from modelpress.pruning import blocks, select, shapes
from modelpress.pruning.removal import Scores, choose, compensate, keep_layers, remove, widening
from modelpress.pruning.select import macs, weights
from modelpress.pruning.shapes import LayerShape, Shape

TOKENS = 128  # multiply-adds are those of a text of this length
__all__ = ["LayerShape", "Scores", "Shape", "encoder", "macs", "parameters", "shape_of", "shrink"]


def encoder(model: nn.Module) -> TextClassifier | DualEncoder:
    """``model`` if heads, neurons and layers can be removed from it. Raises if they cannot."""
    if isinstance(model, DualEncoder):
        blocks.blocks(model)
        return model
    return classifier(model)


def classifier(model: nn.Module) -> TextClassifier:
    """``model`` if it is a text classifier that width can be removed from too. Raises if it is not."""
    if isinstance(model, TextClassifier) and layout.supported(model.network):
        return model
    kind = f"a {model.network.config.model_type}" if isinstance(model, TextClassifier) else type(model).__name__
    raise ModelPressError(
        f"Heads, neurons, width and layers can be removed from {', '.join(layout.FAMILIES)} encoders whose embeddings "
        f"are as wide as their layers; this is {kind}. Networks of convolutions: transform.remove=[channels]."
    )


def shape_of(model: nn.Module) -> Shape:
    """The shape of an encoder, read off its weights."""
    return blocks.shape_of(model) if isinstance(model, DualEncoder) else shapes.read(classifier(model).network)


def parameters(model: nn.Module, shape: Shape, kept: Sequence[int] | None = None) -> float:
    """Scalars outside the embeddings of an encoder like ``model`` that has ``shape``, head included.

    ``kept``: its layers, of a dual encoder, whose towers differ.
    """
    if isinstance(model, DualEncoder):
        return blocks.parameters(model, shape, kept)
    return weights(shape) + len(classifier(model).labels) * (shape.width + 1)


def products(model: nn.Module, shape: Shape, kept: Sequence[int] | None = None) -> float:
    """Multiply-accumulates of its layers for one text of 128 tokens; of a dual encoder for an image and a text."""
    return blocks.macs(model, shape, kept) if isinstance(model, DualEncoder) else macs(shape, TOKENS)


def stacks(model: nn.Module, kept: Sequence[int]) -> list[slice]:
    """Where in ``kept`` the layers stand that see the same stream: all of them, or those of each tower."""
    return blocks.towers(model, kept) if isinstance(model, DualEncoder) else [slice(None)]


def removable(model: nn.Module, remove: Sequence[str]) -> tuple[str, ...]:
    """What of ``remove`` this model can lose: a dual encoder keeps its width.

    Raises:
        ModelPressError: nothing is left of it.
    """
    if not isinstance(model, DualEncoder):
        return tuple(remove)
    left = tuple(unit for unit in remove if unit in blocks.UNITS)
    if not left:
        raise ModelPressError(
            f"transform.remove is {list(remove)}; of a dual encoder allowed: {', '.join(blocks.UNITS)} (or [channels] "
            "alone)."
        )
    return left


def covered(model: nn.Module, remove: Sequence[str]) -> float:
    """Share of :func:`parameters` that belongs to units in ``remove``."""
    if isinstance(model, DualEncoder):
        return blocks.covered(model, remove)
    return select.covered(shape_of(model), remove)


def shrink(
    model: nn.Module, shape: Shape, scores: Scores | None = None, kept_layers: Sequence[int] | None = None
) -> TextClassifier | DualEncoder:
    """Remove units until ``model`` has ``shape``, in place; returns ``model``.

    Args:
        scores: of every unit of the model as it is given; those with the largest stay. Without scores the first
            ones do (for latency probes). Statistics in them are folded in, unless layers are dropped too.
        kept_layers: the layers that stay, ascending; by default the first ones.

    Raises:
        ModelPressError: the shape is no part of the model's, or the graph cannot be traced.
    """
    now = shape_of(model)
    chosen = list(range(len(shape.layers))) if kept_layers is None else list(kept_layers)
    _check(now, shape, chosen)
    if isinstance(model, DualEncoder):
        blocks.shrink(model, shape, scores, chosen)
        return model
    owner = classifier(model)
    if len(chosen) < len(now.layers):
        keep_layers(owner.network, chosen)
        now = Shape(now.width, tuple(now.layers[i] for i in chosen))
        scores = scores and scores.of_layers(chosen)
    kept = choose(now, shape, scores)
    if scores is not None and scores.statistics is not None:
        compensate(owner.network, kept, scores.statistics)
        owner.widening = _through(owner.widening, widening(kept.width, scores.statistics, len(now.layers)))
    example = {name: tensor[:1] for name, tensor in owner.example().items()}
    remove(owner.network, kept, example)
    shapes.settle(owner.network, shape)
    owner.shape = shape
    with torch.no_grad():
        owner.network(**example)  # a shape that does not fit shows here, not in an hour
    return owner


def become(model: TextClassifier | DualEncoder, shape: Shape, kept: Sequence[int] = ()) -> None:
    """Give ``model`` a network of ``shape``, larger or smaller, without its weights: they are to be loaded.

    ``kept``: the layers of a dual encoder that stay, where some go.
    """
    if isinstance(model, DualEncoder):
        blocks.resize(model, shape, kept)
        return
    old = model.network
    new: nn.Module = shapes.blank(type(old), old.config, shape)
    model.network = new.to(next(old.parameters()).device).train(old.training)  # type: ignore[assignment]
    model.shape = shape


def _through(before: Widening, now: Widening) -> Widening:
    """From the states now to those of the network that was first pruned."""
    if before.keys() != now.keys():
        return now
    return {place: (before[place][0] @ w, before[place][0] @ b + before[place][1]) for place, (w, b) in now.items()}


def _check(now: Shape, shape: Shape, kept: Sequence[int]) -> None:
    fits = (
        len(kept) == len(shape.layers) > 0
        and sorted(set(kept)) == list(kept)
        and 0 <= kept[0] <= kept[-1] < len(now.layers)
    )
    if not fits:
        raise ModelPressError(
            f"Cannot keep the layers {list(kept)} for a shape of {len(shape.layers)} layers; allowed: that many of "
            f"0 … {len(now.layers) - 1}, ascending."
        )
    _check_size("width", now.width, shape.width)
    for i, new in zip(kept, shape.layers, strict=True):
        old = now.layers[i]
        _check_size(f"heads of layer {i}", old.heads, new.heads)
        _check_size(f"neurons of layer {i}", old.neurons, new.neurons)
        if old.head_width != new.head_width:
            raise ModelPressError(f"Heads stay whole: layer {i} has heads of {old.head_width}, not {new.head_width}.")


def _check_size(what: str, old: int, new: int) -> None:
    if not 1 <= new <= old:
        raise ModelPressError(f"{what} cannot become {new}; allowed: 1 to {old}.")


def room(model: nn.Module) -> Any:
    """The module that scores the units of this kind of network."""
    from modelpress.pruning import block_scores, importance

    return block_scores if isinstance(model, DualEncoder) else importance

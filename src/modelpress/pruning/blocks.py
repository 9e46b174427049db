"""Heads, neurons and layers of a dual encoder's transformers: the blocks of both towers, image first, as one list.

Their residual streams are as wide as before: embeddings, positions and norms hang on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.models.cut import Moments, Statistics, fold, top
from modelpress.models.dual import DualEncoder
from modelpress.models.separate import SeparateAttention
from modelpress.pruning.removal import Scores
from modelpress.pruning.shapes import LayerShape, Shape

STREAM = 1  # in place of the width of the residual stream, which differs between towers and stays
UNITS = ("heads", "neurons", "layers")
PARTS = ("q", "k", "v", "o", "up", "down")


@dataclass(frozen=True)
class Block:
    """One layer of a transformer."""

    holder: nn.ModuleList  # the layers of its tower
    index: int  # its place there
    tokens: int  # that it sees of one item

    @property
    def layer(self) -> Any:
        """open_clip's own module."""
        return self.holder[self.index]

    @property
    def parts(self) -> dict[str, nn.Linear]:
        """Its projections by their canonical names."""
        attention, mlp = self.layer.attn, self.layer.mlp
        layers = (attention.q, attention.k, attention.v, attention.out, mlp.c_fc, mlp.c_proj)
        return dict(zip(PARTS, layers, strict=True))

    @property
    def shape(self) -> LayerShape:
        """Heads, dimensions of each, neurons."""
        width, parts = self.layer.attn.head_width, self.parts
        return LayerShape(parts["q"].out_features // width, width, parts["up"].out_features)

    @property
    def width(self) -> int:
        """Of its residual stream."""
        return self.parts["up"].in_features


def blocks(model: DualEncoder) -> list[Block]:
    """The layers of both towers. Raises :class:`ModelPressError` if there is none that can be reached."""
    found: list[Block] = []
    for tower, tokens in ((model.image, _places(model)), (model.text, int(model.preprocess["context_length"]))):
        for module in tower.modules():
            if isinstance(module, nn.ModuleList) and len(module) and _known(module[0]):
                found += [Block(module, i, tokens) for i in range(len(module))]
    if not found:
        raise ModelPressError(
            "Neither tower of this dual encoder is a transformer of open_clip's, so it has no heads, neurons or layers "
            "to remove. Networks of convolutions: transform.remove=[channels]; others: technique=prune."
        )
    return found


def _known(layer: Any) -> bool:
    return isinstance(getattr(layer, "attn", None), SeparateAttention) and hasattr(getattr(layer, "mlp", None), "c_fc")


def _places(model: DualEncoder) -> int:
    positions = getattr(getattr(model.image, "trunk", None), "positional_embedding", None)
    return len(positions) if isinstance(positions, Tensor) else 1


def shape_of(model: DualEncoder) -> Shape:
    """Of all blocks; its width stands for nothing."""
    return Shape(STREAM, tuple(block.shape for block in blocks(model)))


def parameters(model: DualEncoder, shape: Shape, kept: Sequence[int] | None = None) -> float:
    """Scalars in the blocks of a model like this one that has ``shape``; ``kept``: which blocks those are."""

    def count(layer: LayerShape, block: Block) -> int:
        attention = 4 * block.width * layer.inner + 3 * layer.inner + block.width
        return attention + 2 * block.width * layer.neurons + layer.neurons + block.width + 4 * block.width

    return _total(model, shape, count, kept)


def macs(model: DualEncoder, shape: Shape, kept: Sequence[int] | None = None) -> float:
    """Multiply-accumulates of the blocks for one image and one text as long as the context."""

    def count(layer: LayerShape, block: Block) -> int:
        products = 4 * block.width * layer.inner + 2 * block.width * layer.neurons
        return block.tokens * products + 2 * block.tokens**2 * layer.inner

    return _total(model, shape, count, kept)


def _total(
    model: DualEncoder, shape: Shape, each: Callable[[LayerShape, Block], int], kept: Sequence[int] | None
) -> float:
    """With fewer layers and nobody saying which ones, those of both towers count alike."""
    own = blocks(model)
    if kept is not None or len(own) == len(shape.layers):
        chosen = own if kept is None else [own[i] for i in kept]
        return sum(each(layer, block) for layer, block in zip(shape.layers, chosen, strict=True))
    whole = [each(block.shape, block) for block in own]
    parts = [each(layer, block) / full for layer, block, full in zip(shape.layers, own, whole, strict=False)]
    return sum(whole) * sum(parts) / len(own)


def towers(model: DualEncoder, kept: Sequence[int]) -> list[slice]:
    """Where in ``kept``, ascending, the blocks of each tower stand."""
    own = blocks(model)
    counts = {id(block.holder): 0 for block in own}
    for i in kept:
        counts[id(own[i].holder)] += 1
    ends = list(accumulate(counts.values(), initial=0))
    return [slice(*ends) for ends in pairwise(ends)]


def check_count(model: DualEncoder, count: int) -> None:
    """Raises :class:`ModelPressError` if not every tower can keep one of ``count`` layers."""
    if count < least_layers(model):
        raise ModelPressError(
            f"Every tower keeps a layer: {count} cannot be left of {len(blocks(model))}. Ask for less."
        )


def least_layers(model: DualEncoder) -> int:
    """One for every tower of transformers."""
    return len({id(block.holder) for block in blocks(model)})


def covered(model: DualEncoder, remove: Sequence[str]) -> float:
    """Share of the blocks' parameters that belongs to units in ``remove``."""
    if "layers" in remove:
        return 1.0
    full = shape_of(model)
    least = Shape(STREAM, tuple(_without(layer, remove) for layer in full.layers))
    return 1 - parameters(model, least) / parameters(model, full)


def _without(layer: LayerShape, remove: Sequence[str]) -> LayerShape:
    layer = replace(layer, heads=0) if "heads" in remove else layer
    return replace(layer, neurons=0) if "neurons" in remove else layer


@torch.no_grad()
def shrink(model: DualEncoder, shape: Shape, scores: Scores | None, kept_layers: Sequence[int]) -> None:
    """Remove units until the blocks have ``shape``; those with the largest scores stay, without scores the first ones.

    Statistics in the scores are folded into the weights that remain.
    """
    drop_layers(model, kept_layers)
    for i, (block, new) in enumerate(zip(blocks(model), shape.layers, strict=True)):
        old = block.shape
        heads = torch.arange(new.heads) if scores is None else top(scores.heads[i].cpu(), new.heads)
        neurons = torch.arange(new.neurons) if scores is None else top(scores.neurons[i].cpu(), new.neurons)
        inner = (heads[:, None] * old.head_width + torch.arange(old.head_width)).flatten()
        statistics: Statistics = {} if scores is None else scores.statistics or {}
        for kept, writers, reader in ((inner, ("q", "k", "v"), "o"), (neurons, ("up",), "down")):
            if len(kept) < block.parts[reader].in_features:
                _keep_inputs(block.parts[reader], kept, statistics.get(f"layers.{i}.{reader}"))
                for name in writers:
                    _keep_outputs(block.parts[name], kept)


def resize(model: DualEncoder, shape: Shape, kept: Sequence[int]) -> None:
    """Give the blocks this shape, larger or smaller; what weights they had is lost. Whole layers can only go, all but
    ``kept``.
    """
    if len(blocks(model)) > len(shape.layers):
        drop_layers(model, kept)
    for block, new in zip(blocks(model), shape.layers, strict=True):
        for readers, writer, size in ((("q", "k", "v"), "o", new.inner), (("up",), "down", new.neurons)):
            for name in readers:
                part = block.parts[name]
                part.weight = nn.Parameter(part.weight.new_zeros(size, part.in_features))
                part.bias = nn.Parameter(part.bias.new_zeros(size))
                part.out_features = size
            last = block.parts[writer]
            last.weight = nn.Parameter(last.weight.new_zeros(last.out_features, size))
            last.in_features = size


def drop_layers(model: DualEncoder, kept: Sequence[int]) -> None:
    """Take all other blocks out of both towers."""
    own = blocks(model)
    for block in reversed(own):
        if own.index(block) not in kept:
            del block.holder[block.index]


def _keep_outputs(layer: nn.Linear, kept: Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight[kept.to(layer.weight.device)].clone())
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias[kept.to(layer.weight.device)].clone())
    layer.out_features = len(kept)


def _keep_inputs(layer: nn.Linear, kept: Tensor, moments: Moments | None) -> None:
    if moments is None or layer.bias is None:
        layer.weight = nn.Parameter(layer.weight[:, kept.to(layer.weight.device)].clone())
    else:
        given = {f"x.{part}": tensor.detach().float().cpu() for part, tensor in layer.named_parameters()}
        folded = fold(given, "x", moments, kept)
        layer.weight = nn.Parameter(folded["x.weight"].to(layer.weight))
        layer.bias.copy_(folded["x.bias"])
    layer.in_features = len(kept)

"""How much the units of an encoder matter, by four measures, and which of its layers may go.

magnitude   squares of all weights that belong to a unit ("Pruning Filters for Efficient ConvNets", arXiv:1608.08710)
taylor      |weight x gradient| over the same weights: the change of the task's loss to first order (arXiv:1906.10771)
activation  size of what a unit carries x energy of the weights that read it (:mod:`modelpress.models.cut`)
random      a control
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modelpress.models import layout
from modelpress.models.base import Batch
from modelpress.models.classifier import TextClassifier
from modelpress.models.cut import READERS, Statistics, channel_importance, energy, share, stream
from modelpress.models.probe import evaluating, observe
from modelpress.pruning import shapes
from modelpress.pruning.removal import Scores, keep_layers, stack
from modelpress.pruning.structure import shape_of

MEASURES = ("magnitude", "taylor", "activation", "random")
Values = dict[str, Tensor]  # canonical name of a parameter -> value of each of its entries


def score(model: TextClassifier, batches: Sequence[Batch], measure: str, *, fold: bool, seed: int = 0) -> Scores:
    """Scores of all units of ``model``, with the statistics for folding if ``fold``. ``batches`` need labels."""
    network = model.network
    given = [_inputs(model, batch) for batch in batches] if fold or measure == "activation" else []
    statistics = observe(network, range(model.num_layers), given) if given else {}
    if measure == "activation":
        scores = carried(network, statistics)
    elif measure == "random":
        scores = drawn(model, seed)
    elif measure == "taylor":
        scores = summed(network, taylor(model, batches))
    else:
        scores = _shared(network, squares(network))
    return replace(scores, statistics=statistics if fold else None)


def _inputs(model: TextClassifier, batch: Batch) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    return {name: batch[name].to(device) for name in model.inputs if name in batch}


def squares(network: PreTrainedModel) -> Values:
    """Square of every weight; biases count nothing."""
    found = {name: tensor.square() for name, tensor in layout.read(network).items()}
    return {name: value * (not name.endswith("bias")) for name, value in found.items()}


def taylor(model: TextClassifier, batches: Sequence[Batch]) -> Values:
    """|w dL/dw| of every parameter, L the cross-entropy with the labels, mean over all items of ``batches``."""
    names = {
        f"{name}.{part}": parameter
        for name, module in layout.modules(model.network).items()
        for part, parameter in module.named_parameters(recurse=False)
    }
    trains = {name: parameter.requires_grad for name, parameter in names.items()}
    model.network.requires_grad_(True)
    total = {name: torch.zeros_like(parameter) for name, parameter in names.items()}
    items = sum(len(batch["labels"]) for batch in batches)
    with torch.enable_grad(), evaluating(model.network):
        for batch in batches:
            logits = model.network(**_inputs(model, batch)).logits
            loss = nn.functional.cross_entropy(logits, batch["labels"].to(logits.device), reduction="sum") / items
            for name, gradient in zip(names, torch.autograd.grad(loss, list(names.values())), strict=True):
                total[name] += gradient
    for name, parameter in names.items():
        parameter.requires_grad_(trains[name])
    return {name: (parameter.detach() * total[name]).abs().float().cpu() for name, parameter in names.items()}


def summed(network: PreTrainedModel, values: Values, each: Callable[[Tensor], Tensor] = lambda term: term) -> Scores:
    """Values of all parameters of a unit's group added up; for the width ``each`` matrix's sum is passed through."""
    shape = shapes.read(network)
    layers = range(len(shape.layers))

    def rows(name: str) -> Tensor:
        return values[f"{name}.weight"].flatten(1).sum(1) + values.get(f"{name}.bias", torch.zeros(()))

    def columns(name: str) -> Tensor:
        return values[f"{name}.weight"].sum(0)

    width = [each(columns(name)) for name in ("word", "position", "token_type") if f"{name}.weight" in values]
    width += [each(values[f"{name}.weight"] + values[f"{name}.bias"]) for name in _norms(layers)]
    width += [each(columns("pool"))]
    heads, neurons = [], []
    for i in layers:
        at = f"layers.{i}."
        inner = sum((rows(f"{at}{name}") for name in READERS), columns(f"{at}o"))
        heads.append(_by_head(inner, shape.layers[i].head_width))
        neurons.append(rows(f"{at}up") + columns(f"{at}down"))
        width += [each(columns(f"{at}{name}")) for name in (*READERS, "up")]
        width += [each(rows(f"{at}{name}")) for name in ("o", "down")]
    return Scores(tuple(heads), tuple(neurons), torch.stack(width).sum(0), rows("pool") + columns("head"))


def _shared(network: PreTrainedModel, values: Values) -> Scores:
    """Every matrix has one vote on the width: thousands of words would else outvote the layers."""
    return summed(network, values, share)


def _norms(layers: range) -> list[str]:
    return ["norm", *(f"layers.{i}.{norm}" for i in layers for norm in ("norm1", "norm2"))]


def carried(network: PreTrainedModel, statistics: Statistics) -> Scores:
    """What every unit carries, times the energy of what reads it; see :mod:`modelpress.models.cut`."""
    weights, shape = layout.read(network), shapes.read(network)
    heads, neurons = [], []
    for i, layer in enumerate(shape.layers):
        at = f"layers.{i}."
        size = statistics[stream(f"{at}q")].rms
        q, k, v = (energy(weights[f"{at}{name}.weight"] * size) for name in READERS)
        products = (q * k, v * energy(weights[f"{at}o.weight"].T))
        heads.append(sum((share(_by_head(product, layer.head_width)) for product in products), torch.zeros(())))
        neurons.append(statistics[f"{at}down"].rms.square() * energy(weights[f"{at}down.weight"].T))
    pool = statistics["head"].rms * energy(weights["head.weight"].T).sqrt()
    return Scores(tuple(heads), tuple(neurons), channel_importance(weights, statistics, len(shape.layers)), pool)


def _by_head(inner: Tensor, head_width: int) -> Tensor:
    """(H d,) -> (H,): sums over the dimensions of each head."""
    return inner.view(-1, head_width).sum(1)


def drawn(model: TextClassifier, seed: int) -> Scores:
    """Random scores, the same for the same seed and shape."""
    shape, generator = shape_of(model), torch.Generator().manual_seed(seed)

    def draw(count: int) -> Tensor:
        return torch.rand(count, generator=generator)

    heads = tuple(draw(layer.heads) for layer in shape.layers)
    neurons = tuple(draw(layer.neurons) for layer in shape.layers)
    return Scores(heads, neurons, draw(shape.width), draw(shape.width))


def layers_to_keep(
    model: TextClassifier, count: int, batches: Sequence[Batch], measure: str, *, seed: int = 0
) -> list[int]:
    """The ``count`` layers to keep, ascending. ``model`` is left as it was.

    With ``taylor`` and ``activation`` layers go one at a time, each time the one whose absence changes the logits of
    ``batches`` least in the mean square (dropping layers: "On the Effect of Dropping Layers of Pre-trained Transformer
    Models", arXiv:2004.03844). ``magnitude``: the layers with the smallest weights go; ``random``: any.
    """
    every = list(range(model.num_layers))
    if measure == "random":
        order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed)).tolist()
        return sorted(order[:count])
    if measure == "magnitude":
        values = squares(model.network)
        size = [sum(float(v.sum()) for n, v in values.items() if n.startswith(f"layers.{i}.")) for i in every]
        return sorted(sorted(every, key=lambda i: -size[i])[:count])
    wanted = _logits(model, every, batches)
    while len(every) > count:
        changes = {i: float((_logits(model, _without(every, i), batches) - wanted).square().mean()) for i in every}
        every.remove(min(changes, key=lambda i: changes[i]))
    return every


def _without(layers: Sequence[int], gone: int) -> list[int]:
    return [i for i in layers if i != gone]


@torch.no_grad()
def _logits(model: TextClassifier, layers: Sequence[int], batches: Sequence[Batch]) -> Tensor:
    """(N, C) of the network with only ``layers``."""
    holder = stack(model.network)
    whole = holder.layer
    assert isinstance(whole, nn.ModuleList)
    keep_layers(model.network, layers)
    try:
        with evaluating(model.network):
            return torch.cat([model.network(**_inputs(model, batch)).logits.float().cpu() for batch in batches])
    finally:
        holder.layer = whole
        model.network.config.num_hidden_layers = len(whole)

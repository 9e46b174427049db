"""How much the heads, neurons and layers of a dual encoder matter, by the measures of
:mod:`modelpress.pruning.importance`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from modelpress.models.base import Batch
from modelpress.models.cut import Moments, energy, share
from modelpress.models.dual import DualEncoder
from modelpress.models.probe import Sum, evaluating
from modelpress.objectives.task import task_loss
from modelpress.pruning.blocks import STREAM, Block, blocks, check_count
from modelpress.pruning.removal import Scores

Values = dict[str, Tensor]  # part's parameter -> value of each entry


def score(model: DualEncoder, batches: Sequence[Batch], measure: str, *, fold: bool, seed: int = 0) -> Scores:
    """Scores of all heads and neurons, as :func:`modelpress.pruning.importance.score` gives them."""
    own = blocks(model)
    statistics = observe(model, batches) if fold or measure == "activation" else {}
    if measure == "activation":
        pairs = [_carried(block, statistics, i) for i, block in enumerate(own)]
    elif measure == "random":
        draw = torch.Generator().manual_seed(seed)
        shapes = [block.shape for block in own]
        pairs = [tuple(torch.rand(n, generator=draw) for n in (s.heads, s.neurons)) for s in shapes]  # type: ignore[misc]
    else:
        values = taylor(model, batches) if measure == "taylor" else squares(model)
        pairs = [_summed(block, values[i]) for i, block in enumerate(own)]
    heads, neurons = (tuple(parts) for parts in zip(*pairs, strict=True))
    return Scores(heads, neurons, torch.ones(STREAM), torch.ones(STREAM), statistics if fold else None)


def squares(model: DualEncoder) -> list[Values]:
    """Square of every weight of each block; biases count nothing."""
    return [
        {f"{name}.weight": part.weight.detach().square().cpu() for name, part in block.parts.items()}
        for block in blocks(model)
    ]


def taylor(model: DualEncoder, batches: Sequence[Batch]) -> list[Values]:
    """|w dL/dw| of each block, L the loss of the task, mean over the batches."""
    named = [
        {f"{name}.{key}": p for name, part in block.parts.items() for key, p in part.named_parameters()}
        for block in blocks(model)
    ]
    every = [parameter for values in named for parameter in values.values()]
    trains = [parameter.requires_grad for parameter in every]
    total = [torch.zeros_like(parameter) for parameter in every]
    for parameter in every:
        parameter.requires_grad_(True)
    with torch.enable_grad(), evaluating(model):
        for batch in batches:
            for sums, gradient in zip(total, torch.autograd.grad(_loss(model, batch), every), strict=True):
                sums += gradient / len(batches)
    for parameter, train in zip(every, trains, strict=True):
        parameter.requires_grad_(train)
    found = iter((p.detach() * g).abs().float().cpu() for p, g in zip(every, total, strict=True))
    return [{name: next(found) for name in values} for values in named]


def _loss(model: DualEncoder, batch: Batch) -> Tensor:
    given = {name: tensor.to(model.logit_scale.device) for name, tensor in batch.items()}
    return task_loss(model(given), given["labels"])


def _summed(block: Block, values: Values) -> tuple[Tensor, Tensor]:
    def rows(name: str) -> Tensor:
        return values[f"{name}.weight"].sum(1) + values.get(f"{name}.bias", torch.zeros(()))

    inner = rows("q") + rows("k") + rows("v") + values["o.weight"].sum(0)
    return _by_head(inner, block), rows("up") + values["down.weight"].sum(0)


def _carried(block: Block, statistics: dict[str, Moments], i: int) -> tuple[Tensor, Tensor]:
    """What every unit carries, times the energy of what reads it; see :mod:`modelpress.models.cut`."""
    weights = {name: part.weight.detach().float().cpu() for name, part in block.parts.items()}
    size = statistics[f"layers.{i}.q"].rms
    q, k, v = (energy(weights[name] * size) for name in ("q", "k", "v"))
    heads = sum((share(_by_head(x, block)) for x in (q * k, v * energy(weights["o"].T))), torch.zeros(()))
    return heads, statistics[f"layers.{i}.down"].rms.square() * energy(weights["down"].T)


def _by_head(inner: Tensor, block: Block) -> Tensor:
    return inner.view(-1, block.shape.head_width).sum(1)


@torch.no_grad()
def observe(model: DualEncoder, batches: Sequence[Batch]) -> dict[str, Moments]:
    """Moments of what ``q``, ``o`` and ``down`` of every block read."""
    sums: dict[str, Sum] = {}
    with _watching(model, sums), evaluating(model):
        for batch in batches:
            model({name: tensor.to(model.logit_scale.device) for name, tensor in batch.items()})
    return {name: total.moments() for name, total in sums.items()}


@contextmanager
def _watching(model: DualEncoder, sums: dict[str, Sum]) -> Iterator[None]:
    def add(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        total = sums.setdefault(name, Sum())
        return lambda _, given: total.add(given[0])

    handles = [
        block.parts[part].register_forward_pre_hook(add(f"layers.{i}.{part}"))
        for i, block in enumerate(blocks(model))
        for part in ("q", "o", "down")
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layers_to_keep(
    model: DualEncoder, count: int, batches: Sequence[Batch], measure: str, *, seed: int = 0
) -> list[int]:
    """The ``count`` blocks to keep, ascending; at least one of every tower. ``model`` is left as it was.

    ``magnitude``: those with the smallest weights go; ``random``: any; else one at a time, each time the one without
    which the embeddings of ``batches`` change least (arXiv:2004.03844).
    """
    check_count(model, count)
    own = blocks(model)
    every = list(range(len(own)))
    order: dict[str, Callable[[], list[int]]] = {
        "random": lambda: torch.randperm(len(own), generator=torch.Generator().manual_seed(seed)).tolist(),
        "magnitude": lambda: sorted(every, key=lambda i: sum(float(v.sum()) for v in squares(model)[i].values())),
    }
    wanted = _answers(model, batches) if measure not in order else torch.zeros(())
    while len(every) > count:
        free = [i for i in every if sum(own[j].holder is own[i].holder for j in every) > 1]
        if measure in order:
            gone = next(i for i in order[measure]() if i in free)
        else:
            changes = {i: _change(model, own, [j for j in every if j != i], batches, wanted) for i in free}
            gone = min(changes, key=lambda i: changes[i])
        every.remove(gone)
    return every


def _change(
    model: DualEncoder, own: Sequence[Block], kept: Sequence[int], batches: Sequence[Batch], wanted: Tensor
) -> float:
    with _only(own, kept):
        return float((_answers(model, batches) - wanted).square().mean())


@contextmanager
def _only(own: Sequence[Block], kept: Sequence[int]) -> Iterator[None]:
    """Inside the block the other layers pass on what they get."""
    gone = [own[i] for i in range(len(own)) if i not in kept]
    hooks = [block.layer.register_forward_hook(lambda _, given, result: given[0]) for block in gone]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _answers(model: DualEncoder, batches: Sequence[Batch]) -> Tensor:
    with evaluating(model):
        found = [_flat(model, batch) for batch in batches]
    return torch.cat(found)


def _flat(model: DualEncoder, batch: Batch) -> Tensor:
    device = model.logit_scale.device
    embeddings = model({name: tensor.to(device) for name, tensor in batch.items()}).embeddings or {}
    return torch.cat([tensor.float().flatten() for tensor in embeddings.values()])

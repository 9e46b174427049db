"""Channels of convolutional networks: groups that torch-pruning finds, one share for all of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from modelpress.errors import ModelPressError, one_of
from modelpress.models.base import Batch, Model, parameter_count
from modelpress.models.dual import DualEncoder
from modelpress.models.probe import evaluating
from modelpress.objectives.task import task_loss
from modelpress.pruning.removal import traced, untraceable

MEASURES = ("magnitude", "taylor", "random")
STEPS = 64  # shares of the channels that are tried
Values = dict[str, Tensor]
Cost = Callable[[Model], float]


@dataclass(frozen=True)
class Group:
    """Channels that can only go together with others. ``root``: the convolution whose outputs they are."""

    root: str
    scores: Tensor  # (channels,)


def shrink_channels(
    model: Model, share: float, *, cost: Cost, measure: str, round_to: int, batches: Sequence[Batch] = (), seed: int = 0
) -> Model:
    """Remove channels in place until ``cost(model)`` is at most ``share`` of what it was; returns ``model``.

    Every group of coupled channels keeps the same part of them, rounded down to a multiple of ``round_to``, and at
    least one such multiple (or what it had, if that is less). Outputs of the network and grouped convolutions stay.

    Raises:
        ModelPressError: nothing can be removed, not so much can be, or the graph cannot be traced.
    """
    values = _values(model, one_of("transform.importance", measure, MEASURES), batches)
    groups = find(model, values, seed if measure == "random" else None)
    if not groups:
        raise ModelPressError(f"{type(model).__name__} has no convolution whose channels could be removed.")
    full = cost(model)
    for step in range(STEPS, -1, -1):
        trial = copy.deepcopy(model)
        _remove(trial, groups, step / STEPS, round_to)
        reached = cost(trial) / full
        if reached <= share:
            _remove(model, groups, step / STEPS, round_to)
            return model
    raise ModelPressError(
        f"Removing channels cannot leave {100 * share:.1f} % of the network: the smallest that can be reached is "
        f"{math.ceil(1000 * reached) / 10:.1f} % (round_to is {round_to}). Lower transform.sparsity."
    )


def flops(model: Model) -> float:
    """Floating point operations for the model's example; of a dual encoder those of the images."""
    example = model.example()
    given = {"pixel_values": example["pixel_values"]} if isinstance(model, DualEncoder) else example
    with FlopCounterMode(display=False) as counter, torch.no_grad(), evaluating(model):
        model(given)
    return float(counter.get_total_flops())


def size(model: Model) -> float:
    """Number of parameters; of a dual encoder those of the image tower."""
    return float(parameter_count(_convolutions(model)))


def find(model: Model, values: Values, seed: int | None) -> list[Group]:
    """All groups of channels, scored by the sum of ``values`` (or at random) over their weights."""
    names = {module: name for name, module in model.named_modules()}
    draw = None if seed is None else torch.Generator().manual_seed(seed)
    found = []
    with _graph(model) as graph:
        for group in graph.get_all_groups(ignored_layers=[], root_module_types=[nn.Conv2d]):
            if not _is_free(group):
                continue
            root = group[0].dep.target.module
            count = root.out_channels
            scores = torch.rand(count, generator=draw) if draw else _scores(group, graph, values, names, count)
            found.append(Group(names[root], scores))
    return found


def _graph(model: Model) -> Any:
    example, network = model.example(), _convolutions(model)

    def forward() -> Tensor:
        found = model(example).logits if network is model else network(example["pixel_values"])
        assert found is not None
        return torch.mul(found, 1)  # an operation after the last layer marks it as the output

    return traced(network, forward)


def _convolutions(model: Model) -> nn.Module:
    """Of a dual encoder the image tower."""
    return model.image if isinstance(model, DualEncoder) else model


def _is_free(group: Any) -> bool:
    """Whether it reaches neither the output nor a grouped convolution."""
    import torch_pruning as tp

    targets = [item.dep.target for item in group]
    grouped = any(getattr(target.module, "groups", 1) > 1 for target in targets)
    return not grouped and all(target.type != tp.ops.OPTYPE.OUTPUT for target in targets)


def _scores(group: Any, graph: Any, values: Values, names: dict[nn.Module, str], count: int) -> Tensor:
    total = torch.zeros(count)
    for item in group:
        module, outputs = item.dep.target.module, graph.is_out_channel_pruning_fn(item.dep.handler)
        for part in ("weight", "bias"):
            value = values.get(f"{names.get(module)}.{part}")
            if value is None or (part == "bias" and not outputs):
                continue
            axis = 0 if outputs else 1
            units = value.movedim(axis, 0).flatten(1).sum(1) if value.ndim > 1 else value
            total.index_add_(0, torch.tensor(item.root_idxs), units[torch.tensor(item.idxs)])
    return total


def _remove(model: Model, groups: Sequence[Group], part: float, round_to: int) -> None:
    import torch_pruning as tp

    with _graph(model) as graph:
        for group in groups:
            count = len(group.scores)
            keep = max(min(round_to, count), int(count * part) // round_to * round_to) if part < 1 else count
            gone = group.scores.argsort(stable=True)[: count - keep].sort().values.tolist()
            if gone:
                graph.get_pruning_group(model.get_submodule(group.root), tp.prune_conv_out_channels, gone).prune()
    try:
        with torch.no_grad(), evaluating(model):
            model(model.example())
    except RuntimeError as error:
        raise untraceable(model, error, "the network without these channels") from error


def _values(model: Model, measure: str, batches: Sequence[Batch]) -> Values:
    """Of every parameter by its name: squares of weights, or |w dL/dw| with L the task's loss."""
    named = dict(model.named_parameters())
    if measure != "taylor":
        return {name: p.detach().square().cpu() * (not name.endswith("bias")) for name, p in named.items()}
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    trains = {name: p.requires_grad for name, p in named.items()}
    items = sum(len(batch["labels"]) for batch in batches)
    model.requires_grad_(True)
    with torch.enable_grad(), evaluating(model):
        for batch in batches:
            loss = task_loss(model(batch), batch["labels"]) * len(batch["labels"]) / items
            for name, gradient in zip(named, torch.autograd.grad(loss, list(named.values())), strict=True):
                total[name] += gradient
    for name, p in named.items():
        p.requires_grad_(trains[name])
    return {name: (p.detach() * total[name]).abs().cpu() for name, p in named.items()}

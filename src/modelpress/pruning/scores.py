"""What a weight is worth. Pure functions; the higher the score, the longer the weight stays."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from modelpress.objectives.task import task_loss

if TYPE_CHECKING:
    from modelpress.models.base import Batch, Model

NAMES = ("lamp", "magnitude", "random", "taylor", "movement")


def magnitude(weight: Tensor) -> Tensor:
    """|w| (L1 of one weight)."""
    return weight.detach().abs()


def lamp(weight: Tensor) -> Tensor:
    """w² over the sum of the squares of all weights of the layer that are at least as large; in [0, 1].

    Magnitude that compares across layers whatever their scale: ranked globally, no layer is emptied, because the
    largest weight of each scores 1. "Layer-adaptive Sparsity for the Magnitude-based Pruning", arXiv:2010.07611.
    """
    squares, order = weight.detach().double().square().flatten().sort(descending=True, stable=True)
    values = squares / squares.cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.empty_like(values).scatter_(0, order, values).float().view_as(weight)


def random(weight: Tensor, name: str, seed: int) -> Tensor:
    """Uniform in [0, 1): the control that any importance must beat. The same for a ``name`` and ``seed`` everywhere."""
    numbers = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
    return torch.rand(weight.shape, generator=numbers).to(weight.device)


def taylor(weight: Tensor, gradient: Tensor) -> Tensor:
    """|w · dL/dw|: how much the loss changes to first order when the weight is removed (arXiv:1611.06440)."""
    return (weight.detach() * gradient).abs()


def movement(weight: Tensor, gradient: Tensor) -> Tensor:
    """- w · dL/dw of one step: positive where training moves the weight away from zero.

    Summed over the steps, it is the score of "Movement Pruning: Adaptive Sparsity by Fine-Tuning", arXiv:2005.07683.
    """
    return -weight.detach() * gradient


def taylor_scores(model: Model, names: Sequence[str], batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Mean of :func:`taylor` over ``batches``, which hold ``labels`` (B,), for the task's loss.

    Runs in evaluation mode: what dropout leaves out says nothing about a weight.
    """
    weights = [model.get_parameter(name) for name in names]
    sums = [torch.zeros_like(weight) for weight in weights]
    was = model.training
    model.eval().capture(frozenset())
    with torch.enable_grad():
        for batch in batches:
            given = {name: tensor.to(weights[0].device) for name, tensor in batch.items()}
            loss = task_loss(model(given), given["labels"])
            gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
            for total, weight, gradient in zip(sums, weights, gradients, strict=True):
                total += taylor(weight, gradient)
    model.train(was)
    return {name: total / max(1, len(batches)) for name, total in zip(names, sums, strict=True)}

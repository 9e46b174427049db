"""Optimizer and learning-rate schedule of a stage, from the ``optimizer`` part of a technique yaml."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelpress.errors import ModelPressError, one_of

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

NAMES = ("adamw", "sgd")
SCHEDULES = ("linear", "cosine", "constant")


@dataclass(frozen=True)
class OptimizerConfig:
    """``warmup`` is the share of all steps in which the rate rises from 0; ``schedule`` is what follows."""

    name: str = "adamw"
    lr: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: str = "linear"

    def __post_init__(self) -> None:
        one_of("optimizer.name", self.name, NAMES)
        one_of("optimizer.schedule", self.schedule, SCHEDULES)
        if not self.lr > 0:
            raise ModelPressError(
                f"optimizer.lr is {self.lr}; it must be above 0 (2e-5 to 5e-4 is usual for encoders)."
            )
        if not 0 <= self.warmup < 1:
            raise ModelPressError(f"optimizer.warmup is {self.warmup}; it is a share of the steps, from 0 to below 1.")
        if self.weight_decay < 0:
            raise ModelPressError(f"optimizer.weight_decay is {self.weight_decay}; it must not be negative.")


def rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Multiplier of the learning rate at ``step`` of ``steps``: warm-up, then the schedule down to 0.

    >>> [round(rate(OptimizerConfig(warmup=0.5), step, 8), 2) for step in (0, 2, 4, 6, 8)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup = round(config.warmup * steps)
    if step < warmup:
        return step / warmup
    left = max(0.0, (steps - step) / max(1, steps - warmup))
    if config.schedule == "constant":
        return 1.0
    return left if config.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))


def parameter_groups(modules: Iterable[nn.Module], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and normalisation weights (1-d) do not."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def make(
    config: OptimizerConfig, modules: Iterable[nn.Module], steps: int, *, fused: bool
) -> tuple[Optimizer, LambdaLR]:
    """The optimizer and its per-step schedule; ``fused`` makes one pass over the weights a step."""
    import torch

    groups = parameter_groups(modules, config.weight_decay)
    if config.name == "adamw":
        optimizer: Optimizer = torch.optim.AdamW(groups, lr=config.lr, fused=fused)
    else:
        optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=0.9, fused=fused)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(config, step, steps))


def follow(optimizer: Optimizer, modules: Iterable[nn.Module]) -> None:
    """Train what ``modules`` hold now: a transform replaced parameters. Those that stayed keep their state, new ones
    start without; rates and their schedule go on.
    """
    for group, new in zip(optimizer.param_groups, parameter_groups(modules, 0.0), strict=True):
        group["params"] = new["params"]
    alive = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for parameter in [p for p in optimizer.state if id(p) not in alive]:
        del optimizer.state[parameter]

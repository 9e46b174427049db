"""``torch.compile`` in training: the forward pass of a network, and the backward pass that follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from modelpress.models.base import Batch, Model, Output

Call = Callable[[Batch], Output]
OPTIONS: dict[str, Any] = {"dynamic": True, "isolate_recompiles": True}  # the latter is not in torch's overloads


def compiled(network: Model) -> Call:
    """``network(batch)`` with its parts (a classifier's network, the towers of a dual encoder) in fused kernels, made
    at the first call for every length and number of items.

    The parts run compiled inside this call only: the names of the weights, and what calls the network directly
    (validation, scores, export), stay as they are. Each call of this function keeps its kernels, and counts its
    recompilations, apart from those of other networks of the same class.
    """
    parts = {part: torch.compile(part.forward, **OPTIONS) for part in network.children()}

    def call(batch: Batch) -> Output:
        for part, forward in parts.items():
            vars(part)["forward"] = forward
        try:
            output: Output = network(batch)
            return output
        finally:
            for part in parts:
                del vars(part)["forward"]

    return call

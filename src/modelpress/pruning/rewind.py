"""Lottery tickets: the masks of a trained network on the weights of an earlier one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modelpress.quantization.observers import checked

log = logging.getLogger(__name__)


class Rewind:
    """Remembers all weights (biases and norms too) at the share ``to`` of the training and brings them back at ``at``.

    "The Lottery Ticket Hypothesis", arXiv:1803.03635, goes back to the very start; "Stabilizing the Lottery Ticket
    Hypothesis", arXiv:1903.01611, to a little later. Both within one stage here: the learning rate and the optimizer's
    moments go on as they are. ``init`` is 0: the weights as they entered the stage. null: never.
    """

    def __init__(self, to: float | str | None, at: float) -> None:
        allowed = f"null, init, or a share of the training from 0 to {at:g}, where the masks are final"
        share = 0.0 if to == "init" else to
        self.to = None if share is None else checked("transform.rewind", share, allowed, lambda s: 0 <= s <= at)
        self.at, self.done = at, False
        self.weights: dict[str, Tensor] = {}

    def remember(self, model: nn.Module, progress: float) -> None:
        """Copy the weights when it is time."""
        if self.to is not None and progress >= self.to and not self.weights and not self.done:
            self.weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    @torch.no_grad()
    def go_back(self, model: nn.Module, progress: float) -> bool:
        """Whether it was time, and the weights are now the early ones: the caller's masks must be applied again."""
        if not self.weights or progress < self.at:
            return False
        for name, weight in model.named_parameters():
            weight.copy_(self.weights[name])
        self.weights, self.done = {}, True
        log.info("Masks are final; the weights are again those at %g of the training.", self.to)
        return True

    def state(self) -> dict[str, Any]:
        return {"weights": dict(self.weights), "done": self.done}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.weights, self.done = dict(state["weights"]), state["done"]

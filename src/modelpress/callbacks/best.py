"""Which weights of a stage are kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor


def standard_error(share: float, items: int) -> float:
    """Of a share measured on ``items``: sqrt(p (1 - p) / n)."""
    return math.sqrt(max(0.0, share * (1 - share)) / max(1, items))


class Best(ModelCheckpoint):
    """The latest weights whose metric lies within one standard error of the best one seen.

    A validation split of some hundred items cannot tell such checkpoints apart (Breiman et al., "Classification and
    Regression Trees", 1984: the one-standard-error rule); then more training and a lower learning rate decide.
    A metric that really falls keeps the earlier weights. Weights of a network that is still being reshaped never count
    (``Transform.final_from``): a half-pruned one is more accurate, and not what was asked for.
    """

    def __init__(self, folder: Path, metric: str, items: int) -> None:
        super().__init__(folder, filename="best", monitor=metric, mode="max", save_weights_only=True)
        self.items, self.peak = items, 0.0

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        technique: Any = trainer.lightning_module
        if current is None or not technique.is_final:
            return False
        self.peak = max(self.peak, float(current))
        near = float(current) >= self.peak - standard_error(self.peak, self.items)
        return trainer.strategy.reduce_boolean_decision(near)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "peak": self.peak}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.peak = state_dict["peak"]

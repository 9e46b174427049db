"""When a stage stops early."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping


class Patience(EarlyStopping):
    """Stop when validations no longer improve; those of a network that is still being reshaped are not counted."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _is_final(pl_module):
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _is_final(pl_module):
            super().on_validation_end(trainer, pl_module)


def _is_final(technique: Any) -> bool:
    return bool(technique.is_final)

"""When to remember where a stage is, so that a killed run continues there."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

FILE = "resume.ckpt"


class Resume(Callback):
    """Save the whole training state every ``seconds``, between two batches of an epoch, whole or not at all.

    Never after a batch that a validation follows, such as the last of an epoch: Lightning continues such a checkpoint
    behind the validation that was due, and the best weights might be missed.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._path, self._seconds = Path(folder) / FILE, seconds
        self._saved = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = trainer.strategy.broadcast(time.monotonic() - self._saved >= self._seconds)
        if due and not trainer.is_last_batch and not _validation_follows(trainer, batch_idx):
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        unfinished = self._path.with_suffix(".unfinished")
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            os.replace(unfinished, self._path)
        self._saved = time.monotonic()


def _validation_follows(trainer: Trainer, batch_idx: int) -> bool:
    """Whether ``val_check_interval`` asks for a validation after this batch, within the epoch."""
    whole = trainer.check_val_every_n_epoch is None  # then batches are counted through all epochs
    batch, every = trainer.fit_loop.total_batch_idx if whole else batch_idx, trainer.val_check_batch
    return every is not None and (batch + 1) % every == 0

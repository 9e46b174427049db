"""Training curves in the stage's own folder, whatever logger the user chose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from modelpress.curves import FILE, read


class Curves(Callback):
    """Append one JSON line ``{"step", "metrics"}`` per logging interval and per validation.

    A resumed run first drops the lines after the step it continues from.
    """

    def __init__(self, folder: Path) -> None:
        self._path = Path(folder) / FILE

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        kept = [row for row in read(self._path) if row["step"] <= trainer.global_step] if trainer.global_step else []
        self._path.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._append(trainer, "/train/", "/transform/", "/lr")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._append(trainer, "/validation/")

    @rank_zero_only
    def _append(self, trainer: Trainer, *wanted: str) -> None:
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if any(part in name for part in wanted)
        }
        with self._path.open("a") as file:
            file.write(json.dumps({"step": trainer.global_step, "metrics": metrics}) + "\n")

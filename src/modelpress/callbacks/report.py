"""When to report: after the measurement."""

from __future__ import annotations

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class Report(Callback):
    """Write the verdict, the reports and the deployable folder at the end of the test."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.pressing.finish()  # type: ignore[operator, union-attr]

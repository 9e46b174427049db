"""When to export: as soon as a finished stage has been tested."""

from __future__ import annotations

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class Export(Callback):
    """Press every model of the run into ONNX and engines at the end of the test."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.pressing.export()  # type: ignore[operator, union-attr]

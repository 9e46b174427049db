"""When to measure: after the engines exist."""

from __future__ import annotations

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class Benchmark(Callback):
    """Measure every engine of the run, in one session, at the end of the test."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.pressing.benchmark()  # type: ignore[operator, union-attr]

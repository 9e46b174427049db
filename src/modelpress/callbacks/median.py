"""When a job of a search stops because the others were better by then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from modelpress.sweep import curve
from modelpress.sweep.rules import Rules, Skipped


class Median(Callback):
    """Keep the curve of ``metric`` in the job's ``folder`` and end a job that is behind (``hydra.sweeper.pruner``).

    Validations of a network that is still being reshaped are not counted. All ranks stop together.
    """

    def __init__(self, metric: str, folder: Path, rules: Rules) -> None:
        self._metric, self._folder, self._rules = metric, folder, rules
        self._curve: dict[int, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        before = curve.read(self._folder) if trainer.global_step else {}
        self._curve = {step: value for step, value in before.items() if step <= trainer.global_step}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and _is_final(pl_module):
            self._curve[trainer.global_step] = float(trainer.callback_metrics[self._metric])
            reason = trainer.strategy.broadcast(self._judge() if trainer.is_global_zero else None)
            if reason is not None:
                raise Skipped(reason)

    def _judge(self) -> str | None:
        curve.write(self._folder, self._curve)
        return curve.against(self._folder, self._curve, self._rules)


def medians(job: Path, metric: str, *, is_last: bool) -> list[Callback]:
    """The callback, for the last stage of a job whose search asks for it."""
    rules = Rules.of(job)
    return [Median(metric, job, rules)] if is_last and rules is not None and rules.pruner is not None else []


def _is_final(technique: Any) -> bool:
    return bool(technique.is_final)

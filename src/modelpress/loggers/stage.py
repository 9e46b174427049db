"""Lightning's WandbLogger, made to share one W&B run among the stages of a job."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:
    from wandb import Run


class StageLogger(WandbLogger):
    """Metrics of one stage: ``distill/train/loss`` drawn against ``distill/step``.

    Every stage counts its steps from 0, so a shared axis would draw them over each other. ``finalize`` leaves the run
    open for the next stage; :meth:`modelpress.loggers.wandb.Wandb.finish` closes it.
    """

    def __init__(self, run: Run, stage: str, folder: Path) -> None:
        super().__init__(experiment=run, save_dir=str(folder))
        self.stage = stage
        self._own = stage.rpartition("/")[2] + "/"  # modules already prefix what they log with their stage's name
        run.define_metric(f"{stage}/step", hidden=True)
        run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log under this stage's names."""
        named: dict[str, Any] = {f"{self.stage}/{key.removeprefix(self._own)}": value for key, value in metrics.items()}
        self.experiment.log(named if step is None else {**named, f"{self.stage}/step": step})

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Keep a module's hyperparameters apart from the run's config, which is the whole resolved yaml."""
        values = vars(params) if isinstance(params, Namespace) else dict(params)
        self.experiment.config.update({f"hyperparameters/{self.stage}": values}, allow_val_change=True)

"""Progress with an estimate of the time left: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

log = logging.getLogger(__name__)


def clock(seconds: float) -> str:
    """Minutes and seconds.

    >>> clock(125)
    '2:05'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def tracked(items: Iterable[Any], title: str) -> Iterable[Any]:
    """A loop outside Lightning with a bar and the time left, on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, title, console=console, transient=True, disable=not console.is_terminal)


class Progress(RichProgressBar):
    """Lightning's rich bar; without a terminal, one line every ``every_s`` seconds with step, loss and time left."""

    def __init__(self, every_s: float = 15.0) -> None:
        terminal = sys.stdout.isatty()
        super().__init__(leave=True, refresh_rate=1 if terminal else 0)  # 0: no bar at all
        self._every_s, self._terminal = every_s, terminal
        self._started = self._last = time.monotonic()
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = self._last = time.monotonic()
        self._first_step = trainer.global_step
        super().on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        now = time.monotonic()
        if not self._terminal and now - self._last >= self._every_s:
            self._last = now
            log.info("%s", self._line(trainer, pl_module.steps, now - self._started))  # type: ignore[arg-type]

    def _line(self, trainer: Trainer, steps: int, elapsed_s: float) -> str:
        done = trainer.global_step - self._first_step
        left_s = elapsed_s / max(1, done) * (steps - trainer.global_step)
        metrics = " ".join(f"{name} {float(value):.3f}" for name, value in trainer.progress_bar_metrics.items())
        return f"step {trainer.global_step}/{steps} · {metrics} · {clock(elapsed_s)} so far, {clock(left_s)} left"

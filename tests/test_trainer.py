"""Lightning's Trainer around a stage: how many steps it counts, how Ctrl-C passes."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule
from torch import Tensor, nn

import tests.toy as toy
from modelpress.trainer import interruptible, optimizer_steps


class Counted(LightningModule):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.weight * 1.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("limit", "accumulate", "epochs", "most"),
    [
        *[(1.0, 1, 2, -1), (1.0, 2, 3, -1), (1.0, 4, 1, -1), (0.5, 1, 2, -1), (0.4, 3, 2, -1), (3, 2, 2, -1)],
        *[(99, 1, 1, -1), (1, 1, 2, -1), (1.0, 1, 3, 4), (1.0, 2, 1, 99), (1.0, 1, -1, 8), (1.0, 1, None, 7)],
    ],
)
def test_steps_are_counted_as_lightning_takes_them(
    tmp_path: Path, limit: float, accumulate: int, epochs: int | None, most: int
) -> None:
    options = {
        "limit_train_batches": limit,
        "accumulate_grad_batches": accumulate,
        "max_epochs": epochs,
        "max_steps": most,
    }
    trainer = toy.trainer(tmp_path, **options)
    with toy.known_warnings():
        trainer.fit(Counted(), toy.loader())
    assert optimizer_steps(options, toy.BATCHES) == trainer.global_step


def test_ctrl_c_stays_a_keyboard_interrupt(tmp_path: Path) -> None:
    """Lightning turns it into an exit and mutes the signal."""

    class Stops(Counted):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx == 1:
                raise KeyboardInterrupt
            return super().training_step(batch, batch_idx)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible(), toy.known_warnings():
        toy.trainer(tmp_path).fit(Stops(), toy.loader())
    assert signal.getsignal(signal.SIGINT) is before


def test_other_exits_and_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught, interruptible():
        raise SystemExit(3)
    assert caught.value.code == 3
    with pytest.raises(ZeroDivisionError), interruptible():
        _ = 1 / 0


def test_training_in_a_thread_of_its_own() -> None:
    """As in a notebook's or a server's worker: only the main thread may touch signals."""
    faults: list[BaseException] = []

    def work() -> None:
        try:
            with interruptible():
                pass
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert faults == []

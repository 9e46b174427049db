"""Early stopping counts only validations of the final structure."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.toy as toy
from modelpress.callbacks.patience import Patience
from modelpress.objectives.task import Task
from modelpress.transforms.base import Transform


class Late(Transform):
    """Reshapes until half of the training is done."""

    final_from = 0.5


@pytest.mark.parametrize("interval", [1.0, 0.5])
@pytest.mark.parametrize(("transform", "epochs"), [(Transform, 2), (Late, 7)])
def test_patience_starts_with_the_final_structure(
    transform: type[Transform], epochs: int, interval: float, tmp_path: Path
) -> None:
    """A metric that never improves, patience of one: without reshaping the second validation stops it."""
    module = toy.technique(Task(), transform=transform(), steps=10 * toy.BATCHES)
    stop = Patience("toy/validation/accuracy", mode="max", patience=1, min_delta=2.0)
    trainer = toy.trainer(tmp_path, stop, max_epochs=10, val_check_interval=interval)
    with toy.known_warnings():
        trainer.fit(module, toy.loader(), toy.loader(2, seed=9))
    per_epoch = round(1 / interval)
    assert trainer.current_epoch == (epochs if interval == 1.0 else epochs - 1)
    assert trainer.global_step >= (5 * toy.BATCHES if transform is Late else 2 * toy.BATCHES // per_epoch)

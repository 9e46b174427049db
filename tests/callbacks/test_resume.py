"""When a stage is remembered: between batches only, whole or not at all, and nothing is lost by continuing there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

import tests.toy as toy
from modelpress.callbacks.resume import FILE, Resume
from modelpress.objectives.task import Task


class Watch(Callback):
    """After which batches of an epoch a new checkpoint lay there; must come after Resume in the list."""

    def __init__(self, path: Path) -> None:
        self.path, self.seen, self.saved = path, 0, []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        changed = self.path.stat().st_mtime_ns if self.path.is_file() else 0
        if changed != self.seen:
            self.seen = changed
            self.saved.append((trainer.current_epoch, batch_idx))


class Die(Exception):
    """Stands for a kill."""


class Kill(Callback):
    """Ends training after a number of batches of the first epoch."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.after and trainer.current_epoch == 0:
            raise Die


def fit(trainer: Trainer, ckpt_path: Path | None = None, seed: int = 1) -> Any:
    module = toy.technique(Task(), toy.Toy(seed=3), seed=seed, steps=3 * toy.BATCHES)
    with toy.known_warnings():
        trainer.fit(module, toy.loader(), toy.loader(2, seed=9), ckpt_path=ckpt_path, weights_only=True)
    return module


def test_never_after_the_last_batch_of_an_epoch(tmp_path: Path) -> None:
    watch = Watch(tmp_path / FILE)
    fit(toy.trainer(tmp_path, Resume(tmp_path, seconds=0.0), watch, max_epochs=2))
    last = toy.BATCHES - 1
    assert watch.saved == [(epoch, batch) for epoch in range(2) for batch in range(last)]


def test_never_before_a_validation_within_an_epoch(tmp_path: Path) -> None:
    """Lightning would continue behind that validation, and its weights could not be the best ones."""
    watch = Watch(tmp_path / FILE)
    fit(toy.trainer(tmp_path, Resume(tmp_path, seconds=0.0), watch, val_check_interval=0.5))
    half = toy.BATCHES // 2 - 1
    assert watch.saved == [(0, batch) for batch in range(toy.BATCHES - 1) if batch != half]


def test_only_when_it_is_due(tmp_path: Path) -> None:
    fit(toy.trainer(tmp_path, Resume(tmp_path, seconds=1e6), max_epochs=2))
    assert list(tmp_path.glob("*.ckpt")) == []


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill or a full disk while the new one is written."""
    (tmp_path / FILE).write_text("the old one")

    def half(self: Trainer, path: Path, *rest: Any) -> None:
        Path(path).write_text("half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Trainer, "save_checkpoint", half)
    with pytest.raises(OSError, match="No space left"):
        fit(toy.trainer(tmp_path, Resume(tmp_path, seconds=0.0)))
    assert (tmp_path / FILE).read_text() == "the old one"


def test_what_is_saved_opens_without_unpickling(tmp_path: Path) -> None:
    fit(toy.trainer(tmp_path, Resume(tmp_path, seconds=0.0)))
    saved = torch.load(tmp_path / FILE, weights_only=True)
    assert saved["global_step"] == toy.BATCHES - 1
    assert {"state_dict", "optimizer_states", "lr_schedulers", "loops"} <= set(saved)
    assert [path.name for path in tmp_path.glob("resume*")] == [FILE]


class Validations(Callback):
    """The loss of every validation, remembered in checkpoints as the best weights are."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.losses.append(float(trainer.callback_metrics["toy/validation/loss"]))

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self.losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses = list(state["losses"])


@pytest.mark.parametrize("after", range(1, toy.BATCHES))
def test_no_validation_is_missed_whenever_the_kill_comes(tmp_path: Path, after: int) -> None:
    """Two validations an epoch, for two epochs; the resumed training knows all of them and ends with equal weights."""

    def trainer(seen: Validations, *more: Callback) -> Trainer:
        return toy.trainer(tmp_path, seen, *more, Resume(tmp_path, 0.0), val_check_interval=0.5, max_epochs=2)

    whole, resumed = Validations(), Validations()
    expected = fit(trainer(whole))
    (tmp_path / FILE).unlink()
    with pytest.raises(Die):
        fit(trainer(Validations(), Kill(after)))
    found = fit(trainer(resumed), ckpt_path=tmp_path / FILE)
    assert len(whole.losses) == len(set(whole.losses)) == 4
    assert resumed.losses == whole.losses
    assert torch.equal(expected.model.head.weight, found.model.head.weight)

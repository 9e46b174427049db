from __future__ import annotations

import pickle
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from modelpress.data.batching import Batches, epoch_batches
from modelpress.data.loader import BatchLoader, Items
from modelpress.data.tokens import Tokens
from modelpress.errors import ModelPressError

COUNT, SIZE = 50, 4
EPOCH = 13  # batches


def make_items() -> Items:
    lengths = np.random.default_rng(0).integers(2, 9, COUNT)
    flat = np.arange(lengths.sum(), dtype=np.int32) + 5
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Items(Tokens(flat, np.zeros(len(flat), dtype=np.int8), offsets, np.arange(COUNT) % 2), 0, 8, 64)


def make_loader(seed: int = 1, **options: Any) -> BatchLoader:
    items = make_items()

    def plan(epoch: int) -> Batches:
        return epoch_batches(items.tokens.lengths, SIZE, seed=seed, epoch=epoch)

    return BatchLoader(items, plan, **options)


def indices(loader: BatchLoader) -> list[list[int]]:
    return [batch["index"].tolist() for batch in loader]


def test_batches_carry_the_rows_they_name() -> None:
    items, seen = make_items(), 0
    for batch in make_loader():
        assert {name: tensor.dtype for name, tensor in batch.items()} == dict.fromkeys(batch, torch.int64)
        for row, index in enumerate(batch["index"].tolist()):
            part = slice(items.tokens.offsets[index], items.tokens.offsets[index + 1])
            real = batch["attention_mask"][row].bool()
            assert batch["input_ids"][row][real].tolist() == items.tokens.input_ids[part].tolist()
            assert batch["labels"][row] == items.tokens.labels[index]
            seen += 1
    assert seen == COUNT


def test_epochs_differ_and_repeat() -> None:
    loader = make_loader()
    first = indices(loader)
    loader.sampler.set_epoch(1)
    second = indices(loader)
    loader.sampler.set_epoch(0)
    assert indices(loader) == first != second
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(COUNT))


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    indices(make_loader())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_continues_after_the_last_batch_handed_out(workers: int) -> None:
    loader = make_loader(num_workers=workers)
    loader.sampler.set_epoch(3)
    whole = indices(make_loader_at(3))
    iterator = iter(loader)
    begun = [next(iterator)["index"].tolist() for _ in range(5)]
    state = loader.state_dict()
    del iterator
    resumed = make_loader(num_workers=workers)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    resumed.sampler.set_epoch(3)
    assert begun + indices(resumed) == whole
    assert len(resumed) == EPOCH
    resumed.sampler.set_epoch(4)
    assert indices(resumed) == indices(make_loader_at(4))


def make_loader_at(epoch: int) -> BatchLoader:
    loader = make_loader()
    loader.sampler.set_epoch(epoch)
    return loader


def test_workers_give_the_same_batches() -> None:
    assert indices(make_loader(num_workers=2)) == indices(make_loader())


def test_items_travel_to_spawned_workers() -> None:
    copy = pickle.loads(pickle.dumps(make_items()))
    rows = np.array([3, 1])
    assert torch.equal(copy[rows]["input_ids"], make_items()[rows]["input_ids"])
    assert len(copy) == COUNT


def test_a_state_of_other_batches_is_refused() -> None:
    with pytest.raises(ModelPressError, match="comes from epochs of 12 batches, here an epoch has 13"):
        make_loader().load_state_dict({"epoch": 0, "batches_done": 3, "batches": 12})


class Recorder(LightningModule):
    """One weight; keeps the rows of every batch, which also decide the weight's path."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.seen.append((self.current_epoch, batch["index"].tolist()))
        return (self.weight - batch["input_ids"].float().mean()) ** 2

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("rows", float(len(batch["index"])))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class StopAfter(Callback):
    """A kill as the next step begins; at a step's end it would come before Lightning's checkpoint callbacks."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step >= self.steps:
            raise KilledError


class KilledError(Exception):
    pass


def train(folder: Path, *, steps: int | None = None, resume: Path | None = None, **options: Any) -> Recorder:
    module = Recorder()
    keep = 0 if resume else -1  # Lightning warns of a folder that is not empty
    checkpoint = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=keep)
    trainer = Trainer(
        **{"max_epochs": 3, "accelerator": "cpu", "logger": False, "enable_progress_bar": False, **options},
        callbacks=[checkpoint, *([StopAfter(steps)] if steps else [])],
        enable_model_summary=False,
    )
    loaders = {"train_dataloaders": make_loader(), "val_dataloaders": make_loader(seed=9)}
    try:
        trainer.fit(module, **loaders, ckpt_path=resume, weights_only=True)
    except KilledError:
        assert steps is not None
    return module


@pytest.mark.parametrize("steps", [1, 5, EPOCH - 1, EPOCH, EPOCH + 1, EPOCH + 7, 2 * EPOCH, 2 * EPOCH + 3])
def test_a_killed_and_resumed_run_sees_what_an_uninterrupted_one_sees(tmp_path: Path, steps: int) -> None:
    whole = train(tmp_path / "whole")
    killed = train(tmp_path / "killed", steps=steps)
    resumed = train(tmp_path / "killed", resume=tmp_path / "killed" / f"step={steps}.ckpt")
    assert len(whole.seen) == 3 * EPOCH
    assert len(killed.seen) == steps
    assert killed.seen + resumed.seen == whole.seen
    assert torch.equal(resumed.weight, whole.weight)


@pytest.mark.parametrize(
    "options",
    [
        {"limit_train_batches": 6},
        {"max_epochs": -1, "max_steps": 31},
        {"accumulate_grad_batches": 2},
        {"val_check_interval": 4},
        {"reload_dataloaders_every_n_epochs": 1},
    ],
)
@pytest.mark.parametrize("steps", [3, 6, 13])
def test_resume_under_other_trainer_settings(tmp_path: Path, options: dict[str, Any], steps: int) -> None:
    whole = train(tmp_path / "whole", **options)
    killed = train(tmp_path / "killed", steps=steps, **options)
    resumed = train(tmp_path / "killed", resume=tmp_path / "killed" / f"step={steps}.ckpt", **options)
    assert killed.seen + resumed.seen == whole.seen
    assert torch.equal(resumed.weight, whole.weight)


def test_resume_from_a_checkpoint_of_the_end_of_validation(tmp_path: Path) -> None:
    class AfterValidation(Callback):
        def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
            if not trainer.sanity_checking:
                trainer.save_checkpoint(tmp_path / f"epoch{trainer.current_epoch}.ckpt")

    whole = Recorder()
    quiet: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    quiet |= {"max_epochs": 3, "enable_model_summary": False, "enable_checkpointing": False}
    Trainer(**quiet, callbacks=[AfterValidation()]).fit(whole, make_loader(), make_loader())
    for epoch in range(2):
        resumed = Recorder()
        path = tmp_path / f"epoch{epoch}.ckpt"
        Trainer(**quiet).fit(resumed, make_loader(), make_loader(), ckpt_path=path, weights_only=True)
        assert resumed.seen == whole.seen[(epoch + 1) * EPOCH :]
        assert torch.equal(resumed.weight, whole.weight)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from modelpress.data.base import SPLITS
from modelpress.data.module import TextData
from modelpress.data.tables import Table
from modelpress.errors import ModelPressError


def make(csv: str, tokenizer: Path, cache: Path, *, seed: int = 1, **options: Any) -> TextData:
    return Table(csv, batch_size=8, eval_batch_size=5, **options).datamodule(tokenizer, seed=seed, cache=cache)


@pytest.fixture
def data(reviews_csv: str, tokenizer_folder: Path, tmp_path: Path) -> TextData:
    return make(reviews_csv, tokenizer_folder, tmp_path / "cache")


def test_every_loader_gives_its_split_once(data: TextData) -> None:
    loaders = {
        "train": data.train_dataloader(),
        "calibration": data.calibration_dataloader(),
        "validation": data.val_dataloader(),
        "test": data.test_dataloader(),
    }
    for split, loader in loaders.items():
        rows, seen = data.dataset.split(split), {}
        for batch in loader:
            for index, label, ids, mask in zip(
                *(batch[k] for k in ("index", "labels", "input_ids", "attention_mask")), strict=True
            ):
                assert label == rows["label"][int(index)]
                seen[int(index)] = ids[mask.bool()].tolist()
        encoded = data.tokenizer.encode(rows["text"].tolist())
        assert seen == {i: encoded.item(i)[0] for i in range(len(rows))}
        assert len(loader) == len(list(loader))


def test_facts_for_stages_and_estimates(data: TextData) -> None:
    assert (data.labels, data.task, data.metric) == (["neg", "pos"], "text-classification", "accuracy")
    assert {split: sum(counts.values()) for split, counts in data.label_counts.items()} == {
        "train": 96, "calibration": 6, "validation": 6, "test": 12
    }  # fmt: skip
    encoded = data.tokenizer.encode(data.dataset.split("train")["text"].tolist())
    assert data.tokens_per_item == pytest.approx(encoded.lengths.mean())


def test_the_seed_orders_training_and_nothing_else(reviews_csv: str, tokenizer_folder: Path, tmp_path: Path) -> None:
    one, again, two = (make(reviews_csv, tokenizer_folder, tmp_path, seed=seed) for seed in (1, 1, 2))

    def order(loader: Any) -> list[int]:
        return [int(i) for batch in loader for i in batch["index"]]

    assert order(one.train_dataloader()) == order(again.train_dataloader()) != order(two.train_dataloader())
    for split in SPLITS:
        assert order(one.eval_dataloader(split)) == order(two.eval_dataloader(split))
    assert order(one.calibration_dataloader()) == order(two.calibration_dataloader())


def test_calibration_takes_whole_texts_without_padding(
    reviews_csv: str, tokenizer_folder: Path, tmp_path: Path
) -> None:
    data = make(reviews_csv, tokenizer_folder, tmp_path, pad_to_multiple=8)
    split = data.dataset.split("calibration")
    encoded = data.tokenizer.encode(split["text"].tolist())
    batches = data.calibration(6)
    seen: dict[int, list[int]] = {}
    for batch in batches:
        assert batch["attention_mask"].all()
        assert {"input_ids", "attention_mask", "token_type_ids", "labels", "index"} == set(batch)
        for index, label, ids in zip(batch["index"], batch["labels"], batch["input_ids"], strict=True):
            seen[int(index)] = ids.tolist()
            assert label == split["label"][int(index)]
    assert seen == {i: encoded.item(i)[0] for i in range(6)}


def test_another_draw_takes_other_texts(reviews_csv: str, tokenizer_folder: Path, tmp_path: Path) -> None:
    data = make(reviews_csv, tokenizer_folder, tmp_path)

    def rows(samples: int, draw: int) -> list[int]:
        return [int(i) for batch in data.calibration(samples, draw) for i in batch["index"]]

    assert rows(3, 1) == rows(3, 1)
    assert len({tuple(sorted(rows(3, draw))) for draw in range(8)}) > 3
    for draw in range(4):
        assert len(set(rows(4, draw))) == 4
        assert set(rows(2, draw)) <= set(rows(4, draw))  # a larger sample holds the smaller one
    assert len({tuple(rows(6, draw)) for draw in range(8)}) > 3  # lengths come in random order too


@pytest.mark.parametrize("samples", [0, 7])
def test_too_few_items_to_calibrate_with(samples: int, data: TextData) -> None:
    message = rf"{samples} calibration samples were asked for; dataset csv has 6 .*Set transform.samples to 1 … 6"
    with pytest.raises(ModelPressError, match=message):
        data.calibration(samples)


def test_ranks_share_the_batches_of_training_and_validation(data: TextData) -> None:
    seen: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for rank in range(2):
        data.share = rank, 2
        loaders = {"train": data.train_dataloader(), "validation": data.val_dataloader()}
        for name, loader in {**loaders, "test": data.test_dataloader()}.items():
            seen[name] += [int(i) for batch in loader for i in batch["index"]]
    assert sorted(seen["train"]) == list(range(96))
    assert sorted(seen["validation"]) == list(range(len(data.tokens("validation"))))
    assert sorted(seen["test"]) == sorted([*range(12)] * 2)  # what is not trained with is seen whole by every rank


def test_padding_suits_kernels_and_respects_max_length(
    reviews_csv: str, tokenizer_folder: Path, tmp_path: Path
) -> None:
    data = make(reviews_csv, tokenizer_folder, tmp_path, max_length=12, pad_to_multiple=8)
    widths = {batch["input_ids"].shape[1] for batch in data.train_dataloader()}
    assert widths == {8, 12}


def test_workloads_and_evaluation_are_those_requests(data: TextData) -> None:
    found = data.workloads(["1x24", "data"], 10)
    assert {tower: list(shapes) for tower, shapes in found.items()} == {"main": ["1x24", "data"]}
    assert found["main"]["1x24"]["input_ids"].shape == (10, 24)
    assert len(found["main"]["data"]["labels"]) == 10
    assert len(data.evaluation()["main"]["labels"]) == len(data.dataset.split("test"))
    assert data.lengths() == {"main": data.tokens("train").lengths.tolist()}
    assert len(data.lengths()["main"]) == data.items


def test_requests_of_the_data_and_of_fixed_length(data: TextData) -> None:
    own = data.requests("test")
    assert own["lengths"].tolist() == data.tokens("test").lengths.tolist()
    assert own["labels"].tolist() == data.dataset.split("test")["label"].tolist()
    fixed = data.requests("test", length=24, limit=10, seed=1)
    assert fixed["input_ids"].shape == (10, 24)
    assert set(fixed) == {"input_ids", "attention_mask", "token_type_ids"}
    assert data.tokenizer.pad_id not in fixed["input_ids"]
    again = data.requests("test", length=24, limit=10, seed=1)
    assert np.array_equal(fixed["input_ids"], again["input_ids"])


def test_an_unknown_split_is_named(data: TextData) -> None:
    with pytest.raises(ModelPressError, match=r"split is 'tset'; allowed: .* Did you mean 'test'"):
        data.tokens("tset")


class Average(LightningModule):
    """Collects what each split's hook sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.rows: dict[str, int] = {"train": 0, "validation": 0, "test": 0, "predict": 0}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.rows["train"] += len(batch["index"])
        return (self.weight - batch["labels"].float().mean()) ** 2

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.rows["validation"] += len(batch["index"])

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.rows["test"] += len(batch["index"])

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.rows["predict"] += len(batch["index"])
        return batch["index"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_trainer_fits_tests_and_predicts_without_a_warning(data: TextData) -> None:
    model = Average()
    quiet: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "max_epochs": 2}
    trainer = Trainer(**quiet, enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    predicted: Any = trainer.predict(model, datamodule=data)
    assert model.rows == {"train": 192, "validation": 12, "test": 12, "predict": 12}
    assert sorted(int(i) for batch in predicted for i in batch) == list(range(12))
    assert trainer.estimated_stepping_batches == 24

"""A stage in training: what it starts from, which weights it keeps, and what decides them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.curves import FILE, read
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.models.base import Model, load
from modelpress.stage import WEIGHTS, Stage, request
from modelpress.store import Entry, file_digest, manifest
from modelpress.training import Arm, train
from modelpress.transforms.base import Transform


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher has dropout, so that training mode shows."""
    root = tiny.make(tmp_path_factory.mktemp("world"))
    config = root / "checkpoint" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "hidden_dropout_prob": 0.3}))
    return root


class Spoil(Transform):
    """Turns the answers around shortly before the end."""

    done = False

    def step(self, model: nn.Module, progress: float) -> None:
        if progress > 0.95 and not self.done:
            self.done = True
            head = model.network.classifier  # type: ignore[union-attr]
            with torch.no_grad():
                head.weight.neg_()  # type: ignore[union-attr, operator]
                head.bias.neg_()  # type: ignore[union-attr, operator]


class Modes(Transform):
    """Writes down, at every step, whether everything trains and whether two passes differ, as dropout makes them."""

    seen: list[tuple[bool, bool]] = []  # noqa: RUF012  (the test reads it from outside)

    def step(self, model: nn.Module, progress: float) -> None:
        assert isinstance(model, Model)
        with torch.no_grad():
            first, second = (model(model.example()).logits for _ in range(2))
        assert isinstance(first, Tensor)
        assert isinstance(second, Tensor)
        self.seen.append((all(part.training for part in model.modules()), not torch.equal(first, second)))


def arm(world: Path, folder: Path, transform: type[Transform] | None = None, *extra: str) -> Arm:
    """The fine-tuning of the tiny teacher."""
    job = Job.of(compose(tiny.fast(world, *extra)), folder)
    stage = graph(job).baseline
    assert stage.spec is not None
    if transform is not None:
        stage.spec["transform"] = {"_target_": f"{__name__}.{transform.__name__}"}
    folder.mkdir(parents=True, exist_ok=True)
    return Arm(job, stage, folder, {})


def test_the_best_weights_are_kept_not_the_last(world: Path, tmp_path: Path) -> None:
    train(arm(world, tmp_path, Spoil, "finetune.trainer.max_epochs=3", "finetune.optimizer.schedule=constant"))
    name = "finetune/validation/accuracy"
    scores = [row["metrics"][name] for row in read(tmp_path / FILE) if name in row["metrics"]]
    assert len(scores) == 3
    assert scores[-1] < max(scores) - 0.2
    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert kept["validation"]["accuracy"] == pytest.approx(max(scores))
    assert accuracy(world, tmp_path) == pytest.approx(max(scores), abs=0.05)


def accuracy(world: Path, folder: Path) -> float:
    """Of the saved network on the validation split."""
    data: Any = arm(world, folder).datamodule()
    model, right, count = load(folder / "model"), 0, 0
    for batch in data.val_dataloader():
        logits = model(batch).logits
        assert logits is not None
        right += int((logits.argmax(1) == batch["labels"]).sum())
        count += len(batch["labels"])
    return right / count


def test_the_whole_network_trains_with_dropout(world: Path, tmp_path: Path) -> None:
    Modes.seen.clear()
    train(arm(world, tmp_path, Modes, "trainer.limit_train_batches=3"))
    assert Modes.seen == [(True, True)] * 3


def test_what_a_stage_leaves(world: Path, tmp_path: Path) -> None:
    train(arm(world, tmp_path, None, "trainer.limit_train_batches=3", "trainer.checkpoint_seconds=0.0"))
    assert {path.name for path in tmp_path.iterdir()} == {"model", "metrics.json", "curves.jsonl", "diagnostics.json"}
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["epochs"], metrics["steps"]) == (1, 3)
    assert load(tmp_path / "model").labels == ["neg", "pos"]


def test_seed_and_nothing_else_decides(world: Path, tmp_path: Path) -> None:
    def weights(name: str, *extra: str) -> str:
        torch.rand(len(name))
        train(arm(world, tmp_path / name, None, "trainer.limit_train_batches=3", *extra))
        return file_digest(tmp_path / name / WEIGHTS)

    first = weights("first")
    assert weights("again, elsewhere", "trainer.checkpoint_seconds=0.0", "trainer.log_every_n_steps=1") == first
    assert weights("other", "seed=2") != first


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_training_may_end_before_its_first_validation(world: Path, tmp_path: Path) -> None:
    train(arm(world, tmp_path, None, "trainer.max_steps=2"))
    assert json.loads((tmp_path / "metrics.json").read_text())["steps"] == 2
    found = json.loads((tmp_path / "metrics.json").read_text())["validation"]["accuracy"]
    assert found == accuracy(world, tmp_path)  # measured once at the end
    assert (tmp_path / WEIGHTS).is_file()


def test_a_checkpoint_that_is_trained_already_is_adopted(world: Path, tmp_path: Path) -> None:
    train(arm(world, tmp_path / "trained", None, "trainer.limit_train_batches=1"))
    extra = f"teacher.path={tmp_path / 'trained' / 'model'}"
    job = Job.of(compose(tiny.fast(world, extra)), tmp_path / "adopted")
    stage = graph(job).baseline
    assert (stage.name, stage.spec) == ("adopt", None)
    train(Arm(job, stage, tmp_path / "adopted", {}))
    assert file_digest(tmp_path / "adopted" / WEIGHTS) == file_digest(tmp_path / "trained" / WEIGHTS)
    assert [path.name for path in (tmp_path / "adopted").iterdir()] == ["model"]


def test_a_student_is_taught_and_the_teacher_left_as_it_was(world: Path, tmp_path: Path) -> None:
    first = arm(world, tmp_path / "teacher", None, "trainer.limit_train_batches=3")
    train(first)
    job = first.job
    network = graph(job)
    entry = entry_of(job, network.baseline, tmp_path / "teacher")
    before = file_digest(tmp_path / "teacher" / WEIGHTS)
    (tmp_path / "student").mkdir()
    train(Arm(job, network.last, tmp_path / "student", {network.baseline: entry}))
    names = {name for row in read(tmp_path / "student" / FILE) for name in row["metrics"]}
    parts = {name.rpartition("/")[2] for name in names if "/train/" in name}
    assert parts <= {"hard", "soft", "hidden", "loss"}
    assert load(tmp_path / "student" / "model").num_layers == 2
    assert file_digest(tmp_path / "teacher" / WEIGHTS) == before
    assert isinstance(json.loads((tmp_path / "student" / "diagnostics.json").read_text()), list)


def entry_of(job: Job, stage: Stage, folder: Path) -> Entry:
    wanted = request(job, stage, {})
    return Entry(wanted.key, "stage", stage.title, folder, wanted.inputs, manifest(folder), 1.0, "today")

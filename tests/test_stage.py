"""The store key of a stage: what decides the weights is in it, what does not is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.stage import WEIGHTS, Stage, control_of, preprocessor_digest, request
from modelpress.store import Entry


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


def key(world: Path, *extra: str, teacher: str = "a" * 64) -> str:
    """The key of the distillation, given its teacher's weights."""
    job = Job.of(compose(tiny.overrides(world, *extra)), world / "run")
    network = graph(job)
    return request(job, network.last, {network.baseline: entry(teacher)}).key


def entry(weights: str) -> Entry:
    files: dict[str, Any] = {WEIGHTS: {"sha256": weights, "bytes": 1}}
    return Entry("key", "stage", "teacher", Path("nowhere"), {}, files, 1.0, "today")


@pytest.mark.parametrize(
    "change",
    [
        "seed=2",
        "technique.distill.objective.temperature=4",
        "technique.distill.optimizer.lr=1e-3",
        "technique.distill.trainer.max_epochs=3",
        "trainer.gradient_clip_val=0.5",
        "dataset.batch_size=16",
        "dataset.max_length=24",
        "hardware.precision=32-true",
        "model.architecture.hidden_size=8",
    ],
)
def test_what_decides_the_weights_changes_the_key(world: Path, change: str) -> None:
    assert key(world, change) != key(world)


def test_teacher_weights_change_the_key(world: Path) -> None:
    assert key(world, teacher="b" * 64) != key(world)


@pytest.mark.parametrize(
    "change",
    [
        "name=other",
        "benchmark=default",
        "budget.max_metric_drop=0.05",
        "trainer.log_every_n_steps=3",
        "trainer.checkpoint_seconds=7",
        "control=false",
        "logger=none",
    ],
)
def test_what_does_not_decide_them_keeps_it(world: Path, change: str) -> None:
    assert key(world, change) == key(world)


def test_data_content_changes_the_key(world: Path, tmp_path: Path) -> None:
    lines = (world / "reviews.csv").read_text().splitlines()
    (tmp_path / "reviews.csv").write_text("\n".join([*lines[:-1], "quite another film,neg"]) + "\n")
    assert key(world, f"dataset.path={tmp_path / 'reviews.csv'}") != key(world)


def test_control_keeps_start_and_steps_and_drops_the_technique(world: Path) -> None:
    network = graph(Job.of(compose(tiny.overrides(world)), world / "run"))
    control = control_of(network.last)
    assert control is not None
    assert control.spec is not None
    assert network.last.spec is not None
    assert control.spec["trainer"] == network.last.spec["trainer"]
    assert control.spec["optimizer"] == network.last.spec["optimizer"]
    assert control.spec["objective"]["_target_"].endswith("Task")
    assert control_of(control) is None


def test_the_student_takes_its_teachers_tokenizer(world: Path) -> None:
    network = graph(Job.of(compose(tiny.overrides(world)), world / "run"))
    assert network.last.preprocessor() == network.baseline.preprocessor() == world / "checkpoint"


def test_preprocessor_digest_sees_the_vocabulary(world: Path, tmp_path: Path) -> None:
    tokenizer = json.loads((world / "checkpoint" / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    before = preprocessor_digest(tmp_path)
    tokenizer["model"]["vocab"]["film"] = 99
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert preprocessor_digest(tmp_path) != before
    assert preprocessor_digest(None) is None


def test_stages_are_compared_by_identity() -> None:
    assert Stage.__hash__ is object.__hash__

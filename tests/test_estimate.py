"""How long a stage will take: counted by hand, or remembered from one like it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.estimate import FLOPS, history, minutes
from modelpress.graph import Graph, graph
from modelpress.job import Job
from modelpress.stage import Stage, request
from modelpress.store import Entry


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


def job_of(world: Path, *extra: str) -> tuple[Job, Graph]:
    job = Job.of(compose(tiny.overrides(world, "hardware.precision=32-true", *extra)), world / "run")
    return job, graph(job)


def by_hand(stage: Stage, items: float, epochs: float, length: int = 32) -> float:
    """6 operations per parameter and token in training, 2 for the teacher's forward."""
    work = 6 * (stage.recipe.parameters() or 0)
    if stage.name == "distill":
        assert stage.teacher is not None
        work += 2 * (stage.teacher.recipe.parameters() or 0)
    return work * items * epochs * length / FLOPS["32-true"] / 60


@pytest.mark.parametrize(
    ("change", "items"),
    [
        ([], 480),
        (["trainer.limit_train_batches=0.5"], 240),
        (["trainer.limit_train_batches=3"], 96),
        (["trainer.limit_train_batches=9999"], 480),
    ],
)
def test_arithmetic_counts_tokens_and_parameters(world: Path, change: list[str], items: int) -> None:
    job, network = job_of(world, *change)
    assert job.dataset.describe()["splits"]["train"] == 480
    cost, basis = minutes(job, network.last)
    assert basis == "arithmetic"
    assert cost == pytest.approx(by_hand(network.last, items, epochs=2))
    assert minutes(job, network.baseline)[0] == pytest.approx(by_hand(network.baseline, items, epochs=4))


def test_short_texts_cost_less(world: Path) -> None:
    job, network = job_of(world, "dataset.max_length=16")
    assert minutes(job, network.last)[0] == pytest.approx(by_hand(network.last, 480, epochs=2, length=16))


def test_the_control_has_no_teacher_to_run(world: Path) -> None:
    job, network = job_of(world)
    assert network.control is not None
    assert minutes(job, network.control)[0] == pytest.approx(by_hand(network.control, 480, epochs=2))
    assert by_hand(network.control, 480, epochs=2) < by_hand(network.last, 480, epochs=2)


@pytest.mark.parametrize("epochs", ["null", "-1"])
def test_steps_may_stand_for_epochs(world: Path, epochs: str) -> None:
    job, network = job_of(world, f"technique.distill.trainer.max_epochs={epochs}", "trainer.max_steps=30")
    cost, _ = minutes(job, network.last)
    assert cost == pytest.approx(by_hand(network.last, 30 * 32, epochs=1))


def test_a_limit_on_steps_shortens_the_epochs(world: Path) -> None:
    job, network = job_of(world, "trainer.max_steps=5")
    assert minutes(job, network.last)[0] == pytest.approx(by_hand(network.last, 5 * 32, epochs=1))


def test_a_stage_without_epochs_trains_nothing(world: Path) -> None:
    job, network = job_of(world, "technique.distill.trainer.max_epochs=0")
    assert minutes(job, network.last) == (0.0, "arithmetic")


def test_what_needs_no_training_only_loads(world: Path) -> None:
    job, network = job_of(world)
    adopted = dataclasses.replace(network.baseline, spec=None)
    assert minutes(job, adopted) == (0.2, "loading only")


@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_a_network_that_nobody_counted_has_no_estimate(
    whose: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, network = job_of(world)
    assert network.last.teacher is not None
    uncounted = network.last.recipe if whose == "student" else network.last.teacher.recipe
    monkeypatch.setattr(uncounted, "parameters", lambda: None, raising=False)
    assert minutes(job, network.last) == (None, "not known before its first run here")


def remember(job: Job, stage: Stage, seconds: float, created: str, **changed: Any) -> Entry:
    """Put a finished stage into the store, without its files."""
    inputs = {**request(job, stage, {}).inputs, **changed}
    folder = job.store.folder(f"{stage.name}{created}")
    folder.mkdir(parents=True)
    record = {"key": folder.name, "kind": "stage", "name": stage.title, "inputs": inputs, "files": {}}
    (folder / "entry.json").write_text(json.dumps({**record, "seconds": seconds, "created": created}))
    return next(entry for entry in history(job.store) if entry.key == folder.name)


def test_the_latest_like_it_is_the_best_guess(world: Path, tmp_path: Path) -> None:
    job, network = job_of(world, f"store={tmp_path}")
    assert history(job.store) == []
    remember(job, network.baseline, 120.0, "2026-01-01T10:00:00")
    remember(job, network.baseline, 90.0, "2026-01-02T10:00:00")
    assert minutes(job, network.baseline) == (1.5, "as hf · finetune took on 2026-01-02")


@pytest.mark.parametrize(
    "changed", [{"precision": "bf16-mixed"}, {"model": "other"}, {"dataset": {"fingerprint": "x"}}]
)
def test_another_network_dataset_or_precision_is_no_guess(world: Path, tmp_path: Path, changed: Any) -> None:
    job, network = job_of(world, f"store={tmp_path}")
    remember(job, network.baseline, 120.0, "2026-01-01T10:00:00", **changed)
    assert minutes(job, network.baseline)[1] == "arithmetic"


def test_other_steps_are_no_guess_but_another_seed_is(world: Path, tmp_path: Path) -> None:
    job, network = job_of(world, f"store={tmp_path}")
    remember(job, network.baseline, 120.0, "2026-01-01T10:00:00")
    longer, other = (job_of(world, f"store={tmp_path}", x) for x in ("finetune.trainer.max_epochs=9", "seed=5"))
    assert minutes(longer[0], longer[1].baseline)[1] == "arithmetic"
    assert minutes(other[0], other[1].baseline)[0] == 2.0

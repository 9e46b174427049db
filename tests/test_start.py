"""What a stage starts from: a student cut out of its teacher once, the same for all who ask."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.models.base import Model, load
from modelpress.start import start
from modelpress.training import Arm


def students(world: Path, folder: Path, *extra: str) -> tuple[Model, Model, Arm]:
    """What the last stage starts from, and the same made by hand."""
    job = Job.of(compose(tiny.fast(world, *extra)), folder)
    network = graph(job)
    done = {network.baseline: job.store.find(_request(job, network.baseline))}
    arm = Arm(job, network.last, folder, done)  # type: ignore[arg-type]
    teacher = load(done[network.baseline].folder / "model")  # type: ignore[union-attr]
    labels, tokenizer = job.dataset.labels, network.last.tokenizer()
    by_hand = network.last.recipe.build(labels=labels, preprocessor=tokenizer, teacher=teacher, seed=job.seed)
    return start(arm, teacher), by_hand, arm


def _request(job: Job, stage: object):  # type: ignore[no-untyped-def]
    from modelpress.stage import request

    return request(job, stage, {})  # type: ignore[arg-type]


def entries(root: Path) -> int:
    return len(
        [path for path in (root / "entries").iterdir() if '"kind": "start"' in (path / "entry.json").read_text()]
    )


def test_the_kept_student_is_the_one_that_is_made(tmp_path: Path) -> None:
    kept, by_hand, _ = students(tiny.finished(), tmp_path)
    assert kept.state_dict().keys() == by_hand.state_dict().keys()
    for name, tensor in by_hand.state_dict().items():
        assert torch.equal(kept.state_dict()[name], tensor), name


def test_other_values_of_the_technique_share_it_and_another_seed_does_not(tmp_path: Path) -> None:
    shutil.copytree(tiny.finished() / "store", tmp_path / "store")
    store = f"store={tmp_path / 'store'}"
    before = entries(tmp_path / "store")
    assert before >= 1
    students(tiny.finished(), tmp_path / "a", store, "technique.distill.objective.temperature=7")
    assert entries(tmp_path / "store") == before
    students(tiny.finished(), tmp_path / "b", store, "model.architecture.intermediate_size=16")
    assert entries(tmp_path / "store") == before + 1

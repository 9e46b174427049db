"""The network that a stage starts from. One cut out of a teacher is kept: all jobs of a sweep start from the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelpress.job import sources, targets, versions
from modelpress.models.base import Model, load, save
from modelpress.stage import preprocessor_digest, weights_digest
from modelpress.store import Request

if TYPE_CHECKING:
    from modelpress.training import Arm

CODE = tuple(
    f"modelpress.models.{name}"
    for name in (
        *("architecture", "attention", "base", "building", "classifier", "cut", "init", "labels", "layout", "probe"),
        "source",
    )
)


def start(arm: Arm, teacher: Model | None) -> Model:
    """Its parent's network, or a new one: from a checkpoint, from noise, or cut out of ``teacher``."""
    if arm.stage.parent is not None:
        parent = arm.model_of(arm.stage.parent)
        assert parent is not None
        return parent
    if not arm.stage.starts_from_teacher:
        return _built(arm, None)
    entry = arm.job.store.obtain(_request(arm), lambda folder: save(_built(arm, teacher), folder / "model"))
    return load(entry.folder / "model")


def _built(arm: Arm, teacher: Model | None) -> Model:
    stage, labels = arm.stage, arm.job.dataset.labels
    return stage.recipe.build(labels=labels, preprocessor=stage.tokenizer(), teacher=teacher, seed=arm.job.seed)


def _request(arm: Arm) -> Request:
    """The store's key for a student that has not been trained yet."""
    stage = arm.stage
    assert stage.teacher is not None
    inputs = {
        "model": stage.recipe.fingerprint(),
        "teacher": weights_digest(arm.done[stage.teacher]),
        "labels": arm.job.dataset.labels,
        "preprocessor": preprocessor_digest(Path(stage.tokenizer())),
        "seed": arm.job.seed,
        "versions": versions("torch", "transformers", "tokenizers", "modelpress"),
        "sources": sources(*CODE, *targets(stage.model)),
    }
    return Request("start", f"{stage.recipe.name}, cut out of {stage.teacher.recipe.name}", inputs)

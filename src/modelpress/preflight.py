"""What can be known to fail is said before the first hour of training, not after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from modelpress.config import build
from modelpress.errors import ModelPressError
from modelpress.job import Job
from modelpress.models.base import Model
from modelpress.models.clip import ClipModel
from modelpress.models.text import TextModel
from modelpress.objectives.base import Objective
from modelpress.stage import Stage
from modelpress.transforms.base import Identity, Transform

PARTS = {"transform", "objective"}


def preflight(job: Job, stages: Iterable[Stage]) -> None:
    """Build the parts of every stage once and show its transform an untrained network.

    Raises:
        ModelPressError: a bad value, too few calibration items, or a network that a transform cannot reshape.
    """
    for stage in stages:
        made = parts(stage)
        transform = made.get("transform", Identity())
        _learnable(stage, made.get("objective", Objective()))
        _enough_samples(job, stage, getattr(transform, "samples", 0))
        network = untrained(job, stage) if _looks(transform) else None
        if network is not None:
            _check(stage, transform, network)


def parts(stage: Stage) -> dict[str, Any]:
    """The stage's transform and objective as objects."""
    spec = stage.spec or {}
    return {part: build(spec[part], f"technique.{stage.name}.{part}") for part in spec.keys() & PARTS}


def _learnable(stage: Stage, objective: Objective) -> None:
    try:
        objective.check(dual=isinstance(stage.recipe, ClipModel))
    except ModelPressError as error:
        raise ModelPressError(f"technique.{stage.name}: {error}") from error


def _check(stage: Stage, transform: Transform, network: Model) -> None:
    try:
        transform.check(network)
    except ModelPressError as error:
        address = f"technique.{stage.name}"
        raise ModelPressError(
            f"{address}.{error}" if str(error).startswith("transform.") else f"{address}: {error}"
        ) from error


def _enough_samples(job: Job, stage: Stage, wanted: int) -> None:
    there = job.dataset.describe()["splits"]["calibration"] if wanted else 0
    if wanted > there:
        raise ModelPressError(
            f"technique.{stage.name}.transform.samples is {wanted}, but the calibration split of dataset "
            f"{job.dataset.name} has {there} items. Set it to 1 … {there}."
        )


def _looks(transform: Transform) -> bool:
    return type(transform).check is not Transform.check


def untrained(job: Job, stage: Stage) -> Model | None:
    """A network like the one the stage will start from; ``None`` if only training can tell what that looks like."""
    above = stage.parent
    while above is not None:
        if type(parts(above).get("transform", Identity())) is not Identity:
            return None
        above = above.parent
    return start(job, stage)


def start(job: Job, stage: Stage) -> Model | None:
    """The stage's own network without any training; ``None`` if only a trained teacher can tell what it looks like."""
    recipe = stage.recipe
    if recipe.init == "teacher":
        if not isinstance(recipe, TextModel):
            return None
        recipe = replace(recipe, init="random")
    return recipe.build(labels=job.dataset.labels, preprocessor=stage.tokenizer(), teacher=None, seed=job.seed)

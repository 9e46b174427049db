"""From a config to the graph of stages that a run consists of. Torch-free, so that plans are instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelpress.errors import ModelPressError
from modelpress.job import Job
from modelpress.models.recipe import Recipe
from modelpress.stage import IDENTITY, TASK, Stage, control_of, equal_of

PLAIN_CONTROL = "same_steps"  # a value of `control`: no arm of equal latency


@dataclass(frozen=True)
class Graph:
    """``order`` lists every stage, sources first. ``pressed`` are those that become engines, baseline first.

    ``equal``: the dense arm of equal latency that stands beside a structured result.
    """

    order: list[Stage]
    pressed: list[Stage]
    baseline: Stage
    control: Stage | None
    control_expected: bool
    equal: Stage | None = None
    equal_expected: bool = False

    @property
    def last(self) -> Stage:
        return self.pressed[-1]


def graph(job: Job) -> Graph:
    """The stages of ``technique``, with the fine-tuning they need and the control arm they are compared with."""
    teacher = _teacher(job) if job.config["teacher"] else None
    stages = _techniques(job, teacher)
    baseline, beside = teacher or stages[0], job.config["side_by_side"]
    wanted = stages if beside or job.config["press"] == "all" else stages[-1:]
    results = wanted if beside else stages[-1:]
    arms = job.config["control"] and not beside  # techniques side by side are one another's comparison
    control = control_of(stages[-1]) if arms else None
    equal = equal_of(stages[-1]) if arms and job.config["control"] != PLAIN_CONTROL else None
    pressed = _unique([baseline, *(arm for arm in (control, equal) if arm), *wanted])
    order = _unique([source for stage in [*stages[:-1], *pressed] for source in (*_ancestors(stage), stage)])
    expected = [any(arm(stage) is not None for stage in results) for arm in (control_of, equal_of)]
    return Graph(order, pressed, baseline, control, expected[0], equal, expected[1])


def _techniques(job: Job, teacher: Stage | None) -> list[Stage]:
    recipe, model = job.recipe("model").resolve(teacher.recipe if teacher else None), job.config["model"]
    specs = {name: merged(job, spec) for name, spec in job.config["technique"].items()}
    starts = list(specs) if job.config["side_by_side"] else list(specs)[:1]  # the stages that begin with the model
    alone = [name for name in starts if _trains_itself(specs[name], teacher)]
    role = "candidate" if teacher else "baseline"
    root = _trained(job, "model", recipe, role, teacher) if alone != starts else None
    recipe.is_trained(job.dataset.labels)  # a conflict of labels shows before anything trains
    stages = [root] if root else []
    for name, spec in specs.items():
        parent = stages[-1] if name not in starts else None if name in alone else root
        taught_by = _teacher_of(spec, teacher, parent)
        if parent is None and recipe.init == "teacher":
            taught_by = teacher
        role = "baseline" if not stages and teacher is None else "candidate"
        stages.append(Stage(name, role, recipe, model, spec, parent, taught_by))
    return stages


def _teacher_of(spec: dict[str, Any], teacher: Stage | None, parent: Stage | None) -> Stage | None:
    who = spec["objective"].get("teacher", "none")
    return {"external": teacher, "parent": parent}.get(str(who))


def _trains_itself(spec: dict[str, Any], teacher: Stage | None) -> bool:
    """Plain fine-tuning, or learning from a teacher, starts untrained; all else wants a trained model first."""
    objective = spec["objective"]
    if spec["transform"]["_target_"] != IDENTITY or objective.get("teacher", "none") == "parent":
        return False
    return teacher is not None or bool(objective["_target_"] == TASK)


def _teacher(job: Job) -> Stage:
    recipe = job.recipe("teacher")
    if recipe.name == job.config["model"]["name"]:
        recipe.name += "_teacher"  # the same yaml twice must not give two rows of one name
    try:
        return _trained(job, "teacher", recipe, "baseline")
    except ModelPressError as error:
        raise ModelPressError(str(error).replace("model.", "teacher.")) from error


def _trained(job: Job, key: str, recipe: Recipe, role: str, teacher: Stage | None = None) -> Stage:
    """The model at ``key``, fine-tuned for the dataset unless its checkpoint already is."""
    model = job.config[key]
    spec = None if recipe.is_trained(job.dataset.labels) else merged(job, job.finetune(key))
    start = teacher if recipe.init == "teacher" else None
    return Stage("finetune" if spec else "adopt", role, recipe, model, spec, None, start)


def merged(job: Job, spec: dict[str, Any]) -> dict[str, Any]:
    """A technique's own ``trainer`` values win over the shared ones."""
    return {**spec, "trainer": {**job.config["trainer"], **(spec["trainer"] or {})}}


def _ancestors(stage: Stage) -> list[Stage]:
    return [found for source in stage.sources_of() for found in (*_ancestors(source), source)]


def _unique(stages: list[Stage]) -> list[Stage]:
    return list(dict.fromkeys(stages))

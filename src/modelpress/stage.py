"""One stage: prepare → fit → best → finalize → save. What it is, is torch-free; how it trains, is in ``training``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelpress.errors import ModelPressError
from modelpress.job import TRAINING_LIBRARIES, Job, sources, targets, versions
from modelpress.models.recipe import Recipe
from modelpress.models.text import TextModel
from modelpress.store import Entry, Request, digest, file_digest

WEIGHTS = "model/model.safetensors"
NUMERICS = ("model/numerics.json", "model/numerics.safetensors")  # of a quantized or 16-bit stage
PRUNING = "model/pruning.json"  # of a pruned stage: which zeros are there to stay
# the code that decides what a trained stage contains, beside the `_target_`s of its config
CODE = tuple(
    f"modelpress.{name}"
    for name in (
        *("technique", "trainer", "training", "ranks", "evaluation", "optimizer", "compiling"),
        *("teacher", "teacher_cache", "teacher_outputs"),
        *("objectives.functional", "objectives.layer_map", "objectives.contrastive", "objectives.dual"),
        *("objectives.parts", "data.batching", "data.loader", "data.module", "data.tokenizer", "data.tokens"),
        *("models.classifier", "models.init", "models.building", "models.layout", "models.cut", "models.probe"),
        *("models.attention", "models.architecture", "models.labels", "callbacks.best", "callbacks.patience"),
        *("callbacks.batch_norm",),
        *("models.dual", "models.clip_network", "models.clip_building", "models.clip_tower", "models.separate"),
        *("models.image_classifier", "models.fit"),
        *("pruning.masks", "pruning.shapes"),
    )
)
# and the code behind a transform's `_target_`
TRANSFORM_CODE = {
    "modelpress.transforms.quantize": tuple(
        f"modelpress.quantization.{name}"
        for name in (
            *("attach", "balance", "batch_norm", "bias", "calibrate", "calibrators", "fake", "files", "layers"),
            *("observers", "quantizers", "search", "sensitivity"),
        )
    ),
    "modelpress.transforms.prune": tuple(
        f"modelpress.pruning.{name}" for name in ("rewind", "schedules", "scores", "targets")
    ),
    "modelpress.transforms.prune_structured": tuple(
        f"modelpress.pruning.{name}"
        for name in (
            "block_scores",
            "blocks",
            "channels",
            "importance",
            "latency",
            "options",
            "removal",
            "select",
            "sizing",
            "structure",
            "table",
        )
    ),
    "modelpress.transforms.precision": (
        *("modelpress.quantization.half", "modelpress.quantization.overflow"),
        *("modelpress.export.typed_nodes", "modelpress.models.numerics"),
    ),
}
TRANSFORM_CODE["modelpress.transforms.equal_latency"] = (  # it is one of those, sized another way
    "modelpress.transforms.prune_structured",
    *TRANSFORM_CODE["modelpress.transforms.prune_structured"],
)
IDENTITY = "modelpress.transforms.base.Identity"
TASK = "modelpress.objectives.task.Task"
QUANTIZE = "modelpress.transforms.quantize.Quantize"
PRUNE_STRUCTURED = "modelpress.transforms.prune_structured.PruneStructured"
EQUAL_LATENCY = "modelpress.transforms.equal_latency.EqualLatency"
EQUAL = "control_layers"  # name of the arm of equal latency
BLOCKS, CHANNELS = ("layers",), ("channels",)  # values of transform.remove


@dataclass(frozen=True, eq=False)
class Stage:
    """One node of a run's graph. ``spec=None`` adopts weights that are already trained for the task."""

    name: str  # finetune | distill | prune | … | control
    role: str  # baseline | control | candidate
    recipe: Recipe
    model: dict[str, Any]  # the model yaml, resolved
    spec: dict[str, Any] | None
    parent: Stage | None = None  # whose weights it starts from
    teacher: Stage | None = None  # who initialises and/or teaches it
    rival: Stage | None = None  # whose latency it has to equal

    @property
    def title(self) -> str:
        return f"{self.recipe.name} · {self.name}"

    @property
    def slug(self) -> str:
        """``minilm/finetune``: how row ids begin."""
        return f"{self.recipe.name}/{self.name}"

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's outputs are used in training, not only its weights at the start."""
        return self.spec is not None and self.spec["objective"].get("teacher", "none") != "none"

    @property
    def starts_from_teacher(self) -> bool:
        """Whether the network is cut out of its teacher (and not loaded from a checkpoint or a parent)."""
        return self.parent is None and self.recipe.init == "teacher"

    @property
    def is_random(self) -> bool:
        """Whether no checkpoint, no teacher and no training decided its weights: its answers mean nothing."""
        if self.spec is not None and self.spec["trainer"]["max_epochs"] != 0:
            return False
        return self.parent.is_random if self.parent is not None else self.recipe.init == "random"

    def sources_of(self) -> tuple[Stage, ...]:
        """The stages that must be finished first."""
        return tuple(stage for stage in (self.teacher, self.parent, self.rival) if stage is not None)

    def tokenizer(self) -> Path:
        """:meth:`preprocessor`, or a clear error."""
        found = self.preprocessor()
        if found is None:
            raise ModelPressError(
                f"{self.title}: no model of this run brings a tokenizer. Give it a teacher (model@teacher=minilm) or "
                "set model.tokenizer=<folder, hub id or package:…>."
            )
        return found

    def preprocessor(self) -> Path | None:
        """Tokenizer folder: the model's own, else its parent's, else its teacher's."""
        own = self.recipe.preprocessor()
        if own is not None:
            return own
        return next((found for stage in self.sources_of() if (found := stage.preprocessor())), None)


def request(job: Job, stage: Stage, done: dict[Stage, Entry]) -> Request:
    """The store's key for a stage: everything that decides its weights. Needs the entries of its sources."""

    def weights(of: Stage | None) -> str | None:
        return weights_digest(done[of]) if of is not None else None

    inputs = {
        "model": stage.recipe.fingerprint(),
        "parent": weights(stage.parent),
        "teacher": weights(stage.teacher),
        "stage": deciding(stage.spec),
        "dataset": {"fingerprint": job.dataset.fingerprint(), "options": job.config["dataset"]},
        "preprocessor": preprocessor_digest(stage.tokenizer()),
        "precision": job.precision if stage.spec else None,
        "accelerator": job.hardware.accelerator,
        "devices": job.hardware.devices,
        "seed": job.seed,
        "versions": versions(*TRAINING_LIBRARIES, "modelpress"),
        "sources": sources(*CODE, *_transform_code(stage), *targets([stage.model, stage.spec, job.config["dataset"]])),
    }
    if by_latency(stage):
        inputs["latency"] = _latency(job, done[stage.rival] if stage.rival else None)
    return Request("stage", stage.title, inputs)


def _latency(job: Job, rival: Entry | None) -> dict[str, Any]:
    from modelpress.pruning import on_engine

    facts = {"rival": network_digest(rival) if rival else None, "sources": sources(on_engine.__name__)}
    return {**on_engine.deciding(job), **facts}


def by_latency(stage: Stage) -> bool:
    """Whether measured latencies decide the shape of the network."""
    return stage.rival is not None or (stage.spec or {"transform": {}})["transform"].get("target") == "latency_ms"


def network_digest(entry: Entry) -> str:
    """A network without its weights: what its latency depends on."""
    return digest([entry.digest_of(name) for name in ("model/config.json", "model/modelpress.json")])


def weights_digest(entry: Entry) -> str:
    """What a stage's network is: its weights and, where they are pruned or not float32, what is to be kept of that."""
    parts = [entry.digest_of(name) for name in (WEIGHTS, *NUMERICS, PRUNING) if name in entry.files]
    return parts[0] if len(parts) == 1 else digest(parts)


def _transform_code(stage: Stage) -> tuple[str, ...]:
    target = str((stage.spec or {"transform": {"_target_": IDENTITY}})["transform"]["_target_"])
    return TRANSFORM_CODE.get(target.rpartition(".")[0], ())


def deciding(spec: dict[str, Any] | None) -> dict[str, Any] | None:
    """A stage's config without what only says how often to log and to save."""
    if spec is None:
        return None
    idle = ("log_every_n_steps", "checkpoint_seconds", "limit_test_batches")
    transform = spec["transform"]
    if transform.get("target") != "latency_ms":  # then the budget is for the verdict alone
        transform = {key: value for key, value in transform.items() if key != "budget_ms"}
    trainer = {key: value for key, value in spec["trainer"].items() if key not in idle}
    return {**spec, "transform": transform, "trainer": trainer}


def preprocessor_digest(folder: Path | None) -> str | None:
    """sha256 over the files of tokenizer and image preprocessing."""
    if folder is None:
        return None
    names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "preprocess.json")
    return digest({name: file_digest(folder / name) for name in names if (folder / name).is_file()})


def control_of(stage: Stage) -> Stage | None:
    """The same start and the same steps without the technique; ``None`` where there is nothing to leave out.

    What is left out of quantization-aware training is the training: its control is PTQ of the same parent.
    """
    spec = stage.spec
    if spec is None or (spec["transform"]["_target_"], spec["objective"]["_target_"]) == (IDENTITY, TASK):
        return None
    if spec["trainer"]["max_epochs"] == 0:
        return None
    plain = {**spec, "transform": {"_target_": IDENTITY}, "objective": {"_target_": TASK}}
    if spec["transform"]["_target_"] == QUANTIZE:
        plain |= {"transform": spec["transform"], "trainer": {**spec["trainer"], "max_epochs": 0}}
    start = stage.teacher if stage.starts_from_teacher else None
    return Stage("control", "control", stage.recipe, stage.model, plain, stage.parent, start)


def equal_of(stage: Stage) -> Stage | None:
    """The dense arm of a structured stage: its parent without whole layers, as slow as the result, trained alike.

    Where the stage itself removes nothing but layers, its arm is made narrower instead. ``None`` for other stages, and
    for networks without such layers.
    """
    spec = stage.spec
    if spec is None or spec["transform"]["_target_"] != PRUNE_STRUCTURED:
        return None
    given = tuple(spec["transform"]["remove"])
    if given == CHANNELS or not isinstance(stage.recipe, TextModel):
        return None
    remove = BLOCKS if given != BLOCKS else ("heads", "neurons", "width")
    transform = {**spec["transform"], "_target_": EQUAL_LATENCY, "remove": list(remove)}
    arm = {**spec, "transform": transform}
    return Stage(EQUAL, "control", stage.recipe, stage.model, arm, stage.parent, stage.teacher, rival=stage)

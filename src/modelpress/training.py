"""How a stage trains: the models it needs, the Lightning Trainer, resume, and what it leaves in its folder.

A stage folder holds ``model/`` (see ``Model.save``), ``metrics.json``, ``curves.jsonl`` and ``diagnostics.json``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from modelpress.benchmark.lock import shared
from modelpress.callbacks import resume
from modelpress.callbacks.progress import tracked
from modelpress.config import build
from modelpress.diagnostics import diagnose
from modelpress.evaluation import accuracy, predictions, questions
from modelpress.job import Job
from modelpress.models.base import Model, load, save
from modelpress.objectives.base import Objective
from modelpress.optimizer import OptimizerConfig
from modelpress.pruning.on_engine import EngineLatency
from modelpress.ranks import together
from modelpress.stage import TASK, WEIGHTS, Stage, preprocessor_digest
from modelpress.start import start
from modelpress.store import Entry, canonical, clear, write_atomic
from modelpress.teacher import Teacher
from modelpress.technique import Technique
from modelpress.trainer import interruptible, known_warnings, make_trainer, optimizer_steps
from modelpress.transforms.base import Context, Transform

if TYPE_CHECKING:
    from modelpress.pressing import Pressing

log = logging.getLogger(__name__)
for _chatty in ("lightning.pytorch", "lightning.fabric"):  # one line per Trainer about every default it was given
    logging.getLogger(_chatty).setLevel(logging.WARNING)
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # warns of torchao's code wherever it is installed


@dataclass
class Arm:
    """Everything live that one stage trains with."""

    job: Job
    stage: Stage
    folder: Path
    done: Mapping[Stage, Entry]
    loggers: list[Any] = field(default_factory=list)
    rank: int = 0  # of this process among those that train the stage (modelpress.ranks)

    @property
    def world_size(self) -> int:
        """Processes that train the stage."""
        return self.job.hardware.devices

    def model_of(self, stage: Stage | None) -> Model | None:
        return load(self.done[stage].folder / "model") if stage is not None else None

    @property
    def taught_by(self) -> Stage | None:
        """Whose outputs are learned from, if anyone's."""
        return (self.stage.teacher or self.stage.parent) if self.stage.needs_teacher else None

    def datamodule(self) -> LightningDataModule:
        """The data as the stage's network wants them and, where its teacher wants them otherwise, for that one too."""
        teacher = self.taught_by.tokenizer() if self.taught_by is not None else None
        return self._data(self.stage.tokenizer(), teacher)

    def teacher_data(self) -> LightningDataModule:
        """The same items in the same order, for the teacher alone."""
        assert self.taught_by is not None
        return self._data(self.taught_by.tokenizer(), None)

    def _data(self, preprocessor: Path, teacher: Path | None) -> LightningDataModule:
        cache = self.job.store.root / "data"
        return self.job.dataset.datamodule(preprocessor, seed=self.job.seed, cache=cache, teacher=teacher)


def train(arm: Arm) -> None:
    """Fill ``arm.folder`` with the finished stage, continuing an interrupted attempt that lies there."""
    seed_everything(arm.job.seed, verbose=False)
    teacher = arm.model_of(arm.stage.teacher)
    model = start(arm, teacher)
    if arm.stage.spec is None:
        save(model, arm.folder / "model")
        return
    data: Any = arm.datamodule()
    data.share = arm.rank, arm.world_size
    technique = _technique(arm, model, teacher if arm.stage.needs_teacher else None, data)
    trainer = make_trainer(arm, batches=len(data.train_dataloader()))
    lock = nullcontext() if arm.rank else shared(f"training {arm.stage.title}")
    with lock, interruptible(), known_warnings():
        try:
            if technique.steps:
                resumed = _resume_from(arm.folder)
                with together(arm):
                    trainer.fit(technique, datamodule=data, ckpt_path=resumed, weights_only=True)
        finally:
            if technique.teacher is not None:
                technique.teacher.close()
    if arm.rank == 0:
        _finish(arm, technique, trainer, data)


def _technique(arm: Arm, model: Model, teacher: Model | None, data: Any) -> Technique:
    spec = arm.stage.spec
    assert spec is not None
    transform: Transform = build(spec["transform"], f"technique.{arm.stage.name}.transform")
    objective: Objective = build(spec["objective"], f"technique.{arm.stage.name}.objective")
    reshaped = transform.prepare(model.eval(), _context(arm, model, data))
    assert isinstance(reshaped, Model)
    reshaped.to(memory_format=torch.channels_last)  # convolutions train faster; _finish undoes it
    objective.bind(reshaped.train(), teacher)  # from_pretrained leaves evaluation mode, and Lightning respects it
    frozen = _teacher(arm, teacher, objective, data) if teacher is not None else None
    optimizer = OptimizerConfig(**spec["optimizer"])
    return Technique(
        reshaped,
        objective,
        transform,
        optimizer,
        stage=arm.stage.name,
        seed=arm.job.seed,
        rank=arm.rank,
        steps=optimizer_steps(spec["trainer"], len(data.train_dataloader())),
        teacher=frozen,
        metric=arm.job.dataset.metric,
        compile_forward=spec["trainer"]["compile"],
    )


def _context(arm: Arm, model: Model, data: Any) -> Context:
    rival = arm.stage.rival
    return Context(
        model.example(),
        data.calibration,
        lambda: questions(model, data, "validation"),
        tracked,
        latency=EngineLatency(arm.job, data, arm.folder),
        rival=(lambda: load(arm.done[rival].folder / "model")) if rival is not None else None,
    )


def _teacher(arm: Arm, model: Model, objective: Objective, data: Any) -> Teacher:
    """The frozen teacher; its outputs are cached under a key that names everything they depend on."""
    job, taught_by = arm.job, arm.taught_by
    assert taught_by is not None and arm.stage.spec is not None
    parts = {
        "weights": arm.done[taught_by].digest_of(WEIGHTS),
        "dataset": job.dataset.fingerprint(),
        "preprocessor": preprocessor_digest(taught_by.preprocessor()),
        "precision": job.precision,
    } | ({"rank": arm.rank} if arm.rank else {})  # a cache has one writer
    parts |= {"compiled": True} if arm.stage.spec["trainer"]["compile"] else {}
    frozen = Teacher(model, cache=job.store.root / "teacher", key=canonical(parts), items=data.items)
    frozen.layers = objective.teacher_layers()
    return frozen


def _resume_from(folder: Path) -> Path | None:
    path = folder / "checkpoints" / resume.FILE
    if path.is_file():
        log.info("Continuing an interrupted attempt.")
        return path
    return None


def _finish(arm: Arm, technique: Technique, trainer: Trainer, data: LightningDataModule) -> None:
    best = trainer.checkpoint_callback
    assert isinstance(best, ModelCheckpoint)
    if best.best_model_path:
        state = torch.load(best.best_model_path, weights_only=True, map_location="cpu")["state_dict"]
        technique.load_state_dict(state)
    model = technique.transform.finalize(technique.model.cpu().eval())
    assert isinstance(model, Model)
    model.to(memory_format=torch.contiguous_format)
    save(model, arm.folder / "model")
    score = float(best.best_model_score) if best.best_model_score is not None else accuracy(model, data)
    metrics = {"validation": {arm.job.dataset.metric: score}, "epochs": trainer.current_epoch, "steps": technique.steps}
    write_atomic(arm.folder / "metrics.json", json.dumps(metrics))
    write_atomic(arm.folder / "diagnostics.json", json.dumps(_diagnostics(arm, model, technique.teacher, data)))
    clear(arm.folder / "checkpoints")


def _diagnostics(arm: Arm, model: Model, teacher: Teacher | None, data: Any) -> list[Any]:
    """Known failures of distillation, looked for on validation and on as many training items."""
    if teacher is None:
        return []
    members = [(model, data), (teacher.model, arm.teacher_data())]
    some = len(data.eval_dataloader("validation"))
    return list(diagnose(predictions(members, "train", every=some), predictions(members, "validation")))


def test(arm: Arm, pressing: Pressing) -> None:
    """Lightning's test of a finished stage. The callbacks press at its end, so tensors stay usable for training."""
    spec = arm.stage.spec
    model = load(arm.done[arm.stage].folder / "model")
    objective: Objective = build({"_target_": TASK}, "objective")
    known: dict[str, Any] = {"stage": arm.stage.name, "seed": arm.job.seed, "metric": arm.job.dataset.metric}
    technique = Technique(model, objective, Transform(), OptimizerConfig(), **known)
    technique.pressing = pressing
    nodes = arm.job.config["callbacks"] or {}
    trainer = Trainer(
        accelerator=arm.job.hardware.accelerator,
        devices=1,
        precision=arm.job.precision,  # type: ignore[arg-type]
        default_root_dir=arm.folder,
        logger=arm.loggers or False,
        callbacks=[build(node, f"callbacks.{name}") for name, node in nodes.items()],
        enable_model_summary=False,
        enable_checkpointing=False,
        inference_mode=False,
        limit_test_batches=(spec or {"trainer": arm.job.config["trainer"]})["trainer"]["limit_test_batches"],
    )
    with known_warnings():
        trainer.test(technique, datamodule=arm.datamodule(), verbose=False)

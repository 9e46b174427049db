"""The real dual encoder on real image-text data under Lightning: it learns, and it learns from a teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf
from PIL import Image

from modelpress import evaluation
from modelpress.check_objects import object_faults
from modelpress.config import compose
from modelpress.curves import FILE, read
from modelpress.data.image_text import ImageText
from modelpress.errors import ModelPressError
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.loggers import Tracking
from modelpress.models.base import Model, load, save
from modelpress.objectives.base import Objective
from modelpress.objectives.distill import Distillation
from modelpress.objectives.task import Task
from modelpress.optimizer import OptimizerConfig
from modelpress.pipeline import train_all
from modelpress.preflight import preflight
from modelpress.teacher import Teacher
from modelpress.technique import Technique
from tests import tinyclip, toy

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 255, 255)]
EPOCHS = 12
STUDENT, TEACHER = tinyclip.config(), tinyclip.config({"image_size": 48}, embed_dim=24)
WEIGHTS = {"hard": 0.5, "soft": 0.5, "hidden": 1.0, "interactive": 0.5}


def write_pairs(folder: Path) -> Path:
    """Flags of two colours named by their words; training sees every colour on either side, but not every flag."""
    rows, draw = ["path,caption,split"], np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for left, first in enumerate(COLOURS):
        for right, second in enumerate(COLOURS):
            split = {0: "validation", 3: "test"}.get(
                (right - left) % 6, "train" if (right + left) % 7 else "calibration"
            )
            for copy in range(3):
                pixels = np.zeros((20, 20, 3)) + draw.normal(scale=20, size=(20, 20, 3))
                pixels[:, :10], pixels[:, 10:] = pixels[:, :10] + first, pixels[:, 10:] + second
                path = f"images/{left}_{right}_{copy}.png"
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / path)
                rows.append(f"{path},w{left} w{10 + right},{split}")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def dataset(world: Path) -> ImageText:
    return ImageText(str(world / "pairs.csv"), batch_size=12, crop=0.8, views=2)


def data(world: Path, preprocessor: Path, teacher: Path | None = None) -> Any:
    return dataset(world).datamodule(preprocessor, seed=1, cache=world / "cache", teacher=teacher)


class Losses(Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        self.seen.append(float(trainer.callback_metrics["clip/train/loss"]))


def fit(model: Model, objective: Objective, module: Any, folder: Path, teacher: Teacher | None = None) -> list[float]:
    """Losses of every step; the recall of the last validation is logged as Lightning logs it."""
    losses, steps = Losses(), EPOCHS * len(module.train_dataloader())
    objective.bind(model.train(), teacher.model if teacher else None)
    options = {"stage": "clip", "seed": 1, "steps": steps, "teacher": teacher, "metric": module.metric}
    technique = Technique(model, objective, toy.Transform(), OptimizerConfig(lr=3e-3), **options)  # type: ignore[arg-type]
    trainer = toy.trainer(folder, losses, max_epochs=EPOCHS, check_val_every_n_epoch=EPOCHS, precision="bf16-mixed")
    with toy.known_warnings():
        trainer.fit(technique, datamodule=module)
    logged = float(trainer.callback_metrics["clip/validation/recall_at_1"])
    assert logged == pytest.approx(evaluation.accuracy(model.eval(), module), abs=0.17)  # bf16 against float32
    return losses.seen


@pytest.fixture(scope="module")
def trained(world: Path) -> tuple[Model, list[float], Any]:
    model: Model = tinyclip.dual(world / "teacher", TEACHER)
    module = data(world, world / "teacher")
    return model, fit(model, Task(), module, world), module


def test_a_dual_encoder_learns(trained: tuple[Model, list[float], Any]) -> None:
    model, losses, module = trained
    assert len(losses) == EPOCHS * len(module.train_dataloader())
    assert np.mean(losses[-6:]) < 0.6 * np.mean(losses[:6])
    chance = 1 / len(dataset_labels(module, "validation"))
    assert evaluation.accuracy(model, module) > 2 * chance


def dataset_labels(module: Any, split: str) -> list[str]:
    names: list[str] = module.dataset.candidate_names(split)
    return names


def test_a_student_of_smaller_images_learns_from_it(
    world: Path, trained: tuple[Model, list[float], Any], tmp_path: Path
) -> None:
    student: Model = tinyclip.dual(world / "student", STUDENT, seed=1)
    module = data(world, world / "student", world / "teacher")
    teacher = Teacher(trained[0], cache=tmp_path / "cache", key="clip", items=module.items)
    shown: list[Any] = []
    trained[0].register_forward_pre_hook(lambda _, given: shown.append(given[0]["pixel_values"].shape[-1]))
    losses = fit(student, Distillation(WEIGHTS), module, tmp_path, teacher)
    assert np.mean(losses[-6:]) < 0.7 * np.mean(losses[:6])
    assert set(shown) == {48}
    assert teacher.computed == 2 * len(module.train_dataloader())  # each view once, then from the disk
    chance = 1 / len(dataset_labels(module, "validation"))
    assert evaluation.accuracy(student, module) > 2 * chance
    compared = evaluation.predictions([(student, module), (trained[0], trained[2])], "validation")
    assert compared.student.shape == compared.teacher.shape
    save(student, tmp_path / "model")
    assert evaluation.accuracy(load(tmp_path / "model"), module) == evaluation.accuracy(student, module)


def test_similarities_keep_their_digits_under_bf16(world: Path, trained: tuple[Model, list[float], Any]) -> None:
    model, _, module = trained
    batch = next(iter(module.train_dataloader()))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(batch)
    assert output.logits.dtype == torch.float32


def overrides(world: Path) -> list[str]:
    """A teacher of larger images and its student, both small, for two epochs each."""
    text = "text_cfg:{context_length:12,vocab_size:99,width:32,heads:4,layers:2}"
    vision = "vision_cfg:{image_size:48,layers:2,width:32,head_width:8,patch_size:16}"
    tower = {"width": 32, "heads": 4, "layers": 2, "context_length": 12}
    return [
        *("technique=distill", "model=clip_tiny", "model@teacher=clip"),
        f"teacher.architecture={{embed_dim:24,{vision},{text}}}",
        f"teacher.tokenizer={tinyclip.write_tokenizer(world / 'tokenizer')}",
        *("model.architecture.embed_dim=16", "model.architecture.vision_cfg.image_size=32"),
        *("model.architecture.vision_cfg.layers=2", "model.architecture.vision_cfg.width=32"),
        *(f"model.architecture.text_cfg.{key}={value}" for key, value in tower.items()),
        *("dataset=image_text", f"dataset.path={world / 'pairs.csv'}", "dataset.batch_size=12", "dataset.views=2"),
        *(f"store={world / 'store'}", "control=false", "technique.distill.objective.weights.interactive=0.5"),
        *("finetune.trainer.max_epochs=2", "technique.distill.trainer.max_epochs=2"),
    ]


def test_a_run_trains_teacher_and_student(world: Path) -> None:
    """From the config: data for both, the cache in the store, metrics by the dataset's name, diagnostics."""
    (world / "run").mkdir()
    job = Job.of(compose(overrides(world)), world / "run", "test")
    network = graph(job)
    with Tracking(job) as tracking:
        done = train_all(job, network, tracking)
    entry = done[network.last]
    assert network.last.name == "distill"
    for stage in (network.baseline, network.last):
        metrics = json.loads((done[stage].folder / "metrics.json").read_text())
        assert metrics["validation"].keys() == {"recall_at_1"}
        assert 0 <= metrics["validation"]["recall_at_1"] <= 1
    names = {name for row in read(entry.folder / FILE) for name in row["metrics"]}
    parts = {name.rpartition("/")[2] for name in names if "/train/" in name}
    assert parts == {"hard", "soft", "hidden", "interactive", "loss"}
    assert "distill/validation/recall_at_1" in names
    diagnostics = json.loads((entry.folder / "diagnostics.json").read_text())
    assert {line["name"] for line in diagnostics} == {"teacher_worse", "underfitting", "copied_mistakes", "conflict"}
    (cache,) = (world / "store" / "teacher").glob("*_embeddings.data")
    items = job.dataset.describe()["splits"]["train"] * 2
    assert cache.stat().st_size == items * 4 * (24 + 24 + 1)


def test_parts_of_text_classifiers_are_refused_before_the_teacher_trains(world: Path) -> None:
    job = Job.of(
        compose(["technique=distill_attention", *overrides(world)[1:-3], "finetune.trainer.max_epochs=2"]),
        world,
        "test",
    )
    with pytest.raises(
        ModelPressError, match=r"technique\.distill_attention: The student is a dual encoder, and .*atte"
    ):
        preflight(job, graph(job).order)


def test_another_tokenizer_than_the_teachers_is_allowed(world: Path) -> None:
    folder = tinyclip.write_tokenizer(world / "other")
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace('"w1"', '"v1"'))
    config: Any = OmegaConf.to_container(compose([*overrides(world), f"model.tokenizer={folder}"]), resolve=True)
    assert not object_faults(config, [])

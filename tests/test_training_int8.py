"""A quantized stage in training: PTQ trains nothing, QAT trains, validates, is killed and resumed in INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.curves import FILE, read
from modelpress.errors import ModelPressError
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.models.base import load
from modelpress.quantization.attach import plain, quantizers_of
from modelpress.stage import WEIGHTS, Stage, request
from modelpress.store import Entry, file_digest, manifest
from modelpress.training import Arm, train
from modelpress.transforms.base import Context, Transform
from modelpress.transforms.quantize import Quantize
from tests.trained import accuracy, metrics

NUMERICS = ("model/numerics.json", "model/numerics.safetensors")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a fine-tuned network in ``parent``."""
    root = tiny.make(tmp_path_factory.mktemp("world"))
    job = job_of(root, "ptq")
    (root / "parent").mkdir()
    train(Arm(job, graph(job).baseline, root / "parent", {}))
    return root


def job_of(world: Path, technique: str, *extra: str) -> Job:
    """``technique`` on the tiny network, after its fine-tuning."""
    kept = [line for line in tiny.fast(world) if not line.startswith(("technique", "model", "teacher"))]
    chosen = [f"technique={technique}", "model=hf", f"model.path={world / 'checkpoint'}", "hardware.precision=32-true"]
    options = [f"technique.{technique}.transform.samples=24", "finetune.trainer.max_epochs=4"]
    return Job.of(compose([*kept, *chosen, *options, *extra]), world / "run")


def arm(
    world: Path, folder: Path, technique: str, *extra: str, transform: type[Transform] | None = None
) -> tuple[Arm, Stage]:
    job = job_of(world, technique, *extra)
    network = graph(job)
    parent, stage = network.baseline, network.last
    assert stage.spec is not None
    if transform is not None:
        stage.spec["transform"]["_target_"] = f"{__name__}.{transform.__name__}"
    wanted = request(job, parent, {})
    entry = Entry(
        wanted.key, "stage", parent.title, world / "parent", wanted.inputs, manifest(world / "parent"), 1.0, "today"
    )
    folder.mkdir(parents=True, exist_ok=True)
    return Arm(job, stage, folder, {parent: entry}), stage


@pytest.mark.parametrize("technique", ["ptq", "ptq_dynamic"])
def test_ptq_trains_nothing_and_is_measured(technique: str, world: Path, tmp_path: Path) -> None:
    given, _ = arm(world, tmp_path, technique)
    train(given)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "metrics.json", "diagnostics.json"}
    model = load(tmp_path / "model")
    assert metrics(tmp_path) == {"validation": {"accuracy": accuracy(given, model)}, "epochs": 0, "steps": 0}
    assert metrics(tmp_path)["validation"]["accuracy"] > 0.7
    assert file_digest(tmp_path / WEIGHTS) == file_digest(world / "parent" / WEIGHTS)
    assert all((tmp_path / name).is_file() for name in NUMERICS)
    assert {quantizer.mode for quantizer in quantizers_of(model).values()} == {"int8"}


class Look(Transform):
    """Writes down what a transform is given."""

    seen: list[Any] = []  # noqa: RUF012  (the test reads it from outside)

    def __init__(self, **_: Any) -> None:
        pass

    def prepare(self, model: nn.Module, context: Context) -> nn.Module:
        self.seen.append((model.training, context))
        return model


def test_a_transform_is_given_the_context_of_its_stage(world: Path, tmp_path: Path) -> None:
    Look.seen.clear()
    given, _ = arm(world, tmp_path, "ptq", transform=Look)
    train(given)
    ((training, context),) = Look.seen
    data: Any = given.datamodule()
    assert not training
    assert {"input_ids", "attention_mask"} <= set(context.example)
    batches = context.calibration(10, 3)
    assert sum(len(batch["labels"]) for batch in batches) == 10
    assert all(batch["attention_mask"].all() for batch in batches)
    rows = [int(i) for batch in context.validation() for i in batch["index"]]
    assert sorted(rows) == list(range(len(data.tokens("validation"))))
    assert list(context.track([1, 2], "title")) == [1, 2]
    assert not hasattr(context, "test")


def test_too_few_calibration_samples_are_said_before_anything_else(world: Path, tmp_path: Path) -> None:
    given, stage = arm(world, tmp_path, "qat")
    assert stage.spec is not None
    stage.spec["transform"]["samples"] = 5000
    message = r"5000 calibration samples were asked for; dataset csv has 30 in its calibration split. Set transform"
    with pytest.raises(ModelPressError, match=message):
        train(given)
    assert list(tmp_path.iterdir()) == []


class Coarse(Quantize):
    """Ranges a thousand times too wide: in INT8 the network says the same of every text."""

    def prepare(self, model: nn.Module, context: Context) -> nn.Module:
        super().prepare(model, context)
        for quantizer in quantizers_of(model).values():
            quantizer.scale.mul_(1e3)
        return model


def test_qat_validates_the_quantized_network(world: Path, tmp_path: Path) -> None:
    extra = ("technique.qat.optimizer.lr=1e-9", "technique.qat.transform.ranges=fixed", "trainer.limit_train_batches=2")
    given, _ = arm(world, tmp_path, "qat", *extra, transform=Coarse)
    train(given)
    (validated,) = [v for row in read(tmp_path / FILE) for k, v in row["metrics"].items() if k.endswith("on/accuracy")]
    model = load(tmp_path / "model")
    assert validated == metrics(tmp_path)["validation"]["accuracy"] == accuracy(given, model)
    assert validated < 0.6
    with plain(model):
        assert accuracy(given, model) > 0.7


class Dying(Quantize):
    """Dies once, late in the stage."""

    dead = False
    progress: list[float] = []  # noqa: RUF012  (the test reads it from outside)

    def step(self, model: nn.Module, progress: float) -> None:
        super().step(model, progress)
        if progress > 0.65 and not Dying.dead:
            Dying.dead = True
            raise KeyboardInterrupt
        self.progress.append(progress)


@pytest.mark.parametrize("ranges", ["learned", "running"])
def test_killed_and_resumed_qat_equals_uninterrupted(ranges: str, world: Path, tmp_path: Path) -> None:
    """Before the ranges are frozen, and after a validation within the epoch, which changes no scale for good."""
    extra = (
        f"technique.qat.transform.ranges={ranges}",
        "technique.qat.optimizer.lr=1e-3",
        "technique.qat.trainer.max_epochs=2",
        "trainer.limit_train_batches=5",
        "trainer.checkpoint_seconds=0.0",
    )
    train(arm(world, tmp_path / "whole", "qat", *extra)[0])
    Dying.dead = False
    with pytest.raises(KeyboardInterrupt):
        train(arm(world, tmp_path / "killed", "qat", *extra, transform=Dying)[0])
    assert (tmp_path / "killed" / "checkpoints" / "resume.ckpt").is_file()
    Dying.progress.clear()
    given, _ = arm(world, tmp_path / "killed", "qat", *extra, transform=Dying)
    train(given)
    assert Dying.progress == pytest.approx([0.7, 0.8, 0.9])
    for name in (WEIGHTS, *NUMERICS):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    assert file_digest(tmp_path / "whole" / WEIGHTS) != file_digest(world / "parent" / WEIGHTS)
    model = load(tmp_path / "whole" / "model")
    assert metrics(tmp_path / "whole")["validation"]["accuracy"] == pytest.approx(accuracy(given, model))


def test_qat_changes_the_ranges_it_was_calibrated_with(world: Path, tmp_path: Path) -> None:
    train(arm(world, tmp_path / "ptq", "ptq")[0])
    extra = ("technique.qat.optimizer.lr=1e-3", "trainer.limit_train_batches=4")
    train(arm(world, tmp_path / "qat", "qat", *extra)[0])
    before, after = (
        {name: float(q.scale) for name, q in quantizers_of(load(tmp_path / kind / "model")).items()}
        for kind in ("ptq", "qat")
    )
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)

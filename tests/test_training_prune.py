"""A pruned stage in training: validated as it will be, killed and resumed, kept sparse by whatever trains it later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.curves import FILE, read
from modelpress.export.stage import export_stage
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.models.base import Model, load
from modelpress.stage import PRUNING, WEIGHTS, Stage, request
from modelpress.store import Entry, file_digest, manifest
from modelpress.training import Arm, train
from modelpress.transforms.prune import Prune
from tests.trained import accuracy, metrics

QUICK = ("trainer.limit_train_batches=5", "technique.prune.trainer.max_epochs=2", "technique.prune.optimizer.lr=1e-3")
FULL = ("technique.prune.transform.sparsity=0.7", "technique.prune.transform.end=0.5", *QUICK)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a fine-tuned network in ``parent`` and a pruned one, 70 % zero, in ``pruned``."""
    root = tiny.make(tmp_path_factory.mktemp("world"))
    job = job_of(root, "prune")
    (root / "parent").mkdir()
    train(Arm(job, graph(job).baseline, root / "parent", {}))
    train(arm(root, root / "pruned", "prune", *FULL))
    return root


def job_of(world: Path, technique: str, *extra: str) -> Job:
    kept = [line for line in tiny.fast(world) if not line.startswith(("technique", "model", "teacher"))]
    chosen = [
        f"technique=[{technique}]",
        "model=hf",
        f"model.path={world / 'checkpoint'}",
        "hardware.precision=32-true",
    ]
    return Job.of(compose([*kept, *chosen, "finetune.trainer.max_epochs=4", *extra]), world / "run")


def arm(world: Path, folder: Path, technique: str, *extra: str, transform: type[Prune] | None = None) -> Arm:
    """The last stage of ``technique``, on the finished folders of the world."""
    job = job_of(world, technique, *extra)
    network = graph(job)
    stage = network.last
    assert stage.spec is not None
    if transform is not None:
        stage.spec["transform"]["_target_"] = f"{__name__}.{transform.__name__}"
    done: dict[Stage, Entry] = {}
    for source, name in zip(network.order, ("parent", "pruned"), strict=False):
        if (world / name / "model").is_dir() and source is not stage:
            wanted = request(job, source, done)
            done[source] = Entry(
                wanted.key, "stage", source.title, world / name, wanted.inputs, manifest(world / name), 1.0, "today"
            )
    folder.mkdir(parents=True, exist_ok=True)
    return Arm(job, stage, folder, done)


def names(folder: Path) -> list[str]:
    found: list[str] = json.loads((folder / PRUNING).read_text())["weights"]
    return found


def zeros(model: Model, names: list[str]) -> float:
    weights = [model.get_parameter(name) for name in names]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def test_the_pruned_network_is_what_was_validated(world: Path) -> None:
    model = load(world / "pruned" / "model")
    assert zeros(model, names(world / "pruned")) == pytest.approx(0.7, abs=1e-3)
    assert metrics(world / "pruned")["validation"]["accuracy"] == accuracy(arm(world, world / "look", "prune"), model)
    layers = {name.rpartition(".")[0].rpartition(".")[2] for name in names(world / "pruned")}
    assert layers == {"query", "key", "value", "dense"}


def test_what_its_file_holds_is_counted(world: Path, tmp_path: Path) -> None:
    facts = export_stage(world / "pruned" / "model", tmp_path / "pruned")["main"]
    dense = export_stage(world / "parent" / "model", tmp_path / "dense")["main"]
    model = load(world / "pruned" / "model")
    matrices = sum(model.get_parameter(name).numel() for name in names(world / "pruned"))
    head = model.get_submodule("network.classifier").weight.numel()  # type: ignore[union-attr, operator]
    assert facts["sparsity"] == pytest.approx(0.7 * matrices / (matrices + head), abs=1e-3)  # type: ignore[operator]
    assert facts["sparsity_file"] < facts["sparsity"]
    assert dense["sparsity"] == 0
    assert facts["size_mb"] == pytest.approx(dense["size_mb"], rel=0.01)
    assert facts["compressed_mb"] < 0.8 * dense["compressed_mb"]


class Late(Prune):
    """Reaches its sparsity in the second epoch only, and notes the zeros at every step."""

    seen: list[tuple[float, float]] = []  # noqa: RUF012  (the test reads it from outside)

    def step(self, model: nn.Module, progress: float) -> None:
        super().step(model, progress)
        assert isinstance(model, Model)
        self.seen.append((progress, zeros(model, self.names)))


def test_weights_of_a_half_pruned_network_are_never_the_best(world: Path, tmp_path: Path) -> None:
    """A sparsity that ruins it in the second epoch: the first one's accuracy is higher, and does not count."""
    Late.seen.clear()
    extra = ("technique.prune.transform.sparsity=0.98", "technique.prune.transform.begin=0.5", *QUICK)
    extra += ("trainer.log_every_n_steps=1",)
    given = arm(world, tmp_path, "prune", *extra, "technique.prune.transform.end=0.7", transform=Late)
    train(given)
    scores = [
        v for row in read(tmp_path / FILE) for k, v in row["metrics"].items() if k.endswith("validation/accuracy")
    ]
    assert len(scores) == 2
    assert scores[0] > scores[1] + 0.1
    name = "prune/transform/sparsity"
    logged = [row["metrics"][name] for row in read(tmp_path / FILE) if name in row["metrics"]]
    assert logged == sorted(logged)
    assert (logged[0], logged[-1]) == (0.0, pytest.approx(0.98))
    assert metrics(tmp_path)["validation"]["accuracy"] == scores[1]
    assert zeros(load(tmp_path / "model"), names(tmp_path)) == pytest.approx(0.98, abs=1e-3)
    assert [found for progress, found in Late.seen if progress < 0.5] == [0.0] * 5
    assert [found for progress, found in Late.seen if progress >= 0.7] == pytest.approx([0.98] * 3, abs=1e-3)


def test_training_that_never_sees_the_final_structure_keeps_its_last_weights(world: Path, tmp_path: Path) -> None:
    extra = ("technique.prune.transform.end=0.95", "technique.prune.transform.sparsity=0.7", *QUICK)
    given = arm(world, tmp_path, "prune", *extra)
    train(given)
    model = load(tmp_path / "model")
    assert zeros(model, names(tmp_path)) == pytest.approx(0.7, abs=1e-3)
    assert metrics(tmp_path)["validation"]["accuracy"] == accuracy(given, model)


class Dying(Prune):
    """Dies once, between two renewals of the masks or after the last."""

    dead = True
    at = 0.0

    def step(self, model: nn.Module, progress: float) -> None:
        super().step(model, progress)
        if progress >= Dying.at and not Dying.dead:
            Dying.dead = True
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({}, 0.3),
        ({"importance": "movement", "begin": 0.2}, 0.3),
        ({"rewind": 0.1, "importance": "taylor", "samples": 8}, 0.3),
        ({"rewind": 0.1}, 0.7),
    ],
    ids=["magnitude", "movement", "taylor, rewind", "rewound"],
)
def test_killed_and_resumed_equals_uninterrupted(
    options: dict[str, Any], at: float, world: Path, tmp_path: Path
) -> None:
    extra = (*FULL, "trainer.checkpoint_seconds=0.0", "technique.prune.transform.updates=4")
    extra += tuple(f"technique.prune.transform.{key}={value}" for key, value in options.items())
    Dying.dead = True
    train(arm(world, tmp_path / "whole", "prune", *extra, transform=Dying))
    Dying.dead, Dying.at = False, at
    with pytest.raises(KeyboardInterrupt):
        train(arm(world, tmp_path / "killed", "prune", *extra, transform=Dying))
    assert (tmp_path / "killed" / "checkpoints" / "resume.ckpt").is_file()
    train(arm(world, tmp_path / "killed", "prune", *extra, transform=Dying))
    for name in (WEIGHTS, PRUNING):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    assert zeros(load(tmp_path / "whole" / "model"), names(tmp_path / "whole")) == pytest.approx(0.7, abs=1e-3)


@pytest.mark.parametrize("technique", ["ptq", "qat", "finetune"])
def test_no_later_stage_revives_a_pruned_weight(technique: str, world: Path, tmp_path: Path) -> None:
    """Training moves the other weights; INT8 rounds a zero to zero, in the file too."""
    extra = [f"technique.{technique}.optimizer.lr=1e-3", "trainer.limit_train_batches=4"]
    extra += [] if technique == "finetune" else [f"technique.{technique}.transform.samples=24"]
    given = arm(world, tmp_path / "later", f"prune,{technique}", *extra)
    assert given.stage.parent is not None
    assert given.stage.parent in given.done
    train(given)
    before, after = load(world / "pruned" / "model"), load(tmp_path / "later" / "model")
    assert names(tmp_path / "later") == names(world / "pruned")
    for name in names(world / "pruned"):
        gone = before.get_parameter(name) == 0
        assert not after.get_parameter(name)[gone].any()
    moved = file_digest(tmp_path / "later" / WEIGHTS) != file_digest(world / "pruned" / WEIGHTS)
    assert moved is (technique != "ptq")
    facts = export_stage(tmp_path / "later" / "model", tmp_path / "exported")["main"]
    dense = export_stage(world / "pruned" / "model", tmp_path / "float")["main"]
    assert dense["sparsity"] <= facts["sparsity"] < dense["sparsity"] + 0.1  # rounding adds a few


def test_a_dense_control_of_a_pruned_stage_has_the_same_steps(world: Path) -> None:
    control = graph(job_of(world, "prune", "control=true")).control
    assert control is not None
    assert control.spec is not None
    assert control.spec["transform"] == {"_target_": "modelpress.transforms.base.Identity"}
    assert control.spec["trainer"]["max_epochs"] == 4

"""Two processes that train one stage together: real ones, on the CPU, compared with one process and the whole batch.

In two processes float32 sums come in another order, and each pads its share of a batch to its own longest text: weights
agree to about 1e-6 after one step. AdamW divides a gradient by its own size, so where that is nearly zero the order of
a sum decides about a whole step: a few weights may differ by up to ``lr`` times the steps, and their mean is compared.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tests.tiny as tiny
from modelpress import ranks
from modelpress.config import compose
from modelpress.curves import FILE, read
from modelpress.engines.driver import probe
from modelpress.errors import ModelPressError
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.launch import main
from modelpress.models.base import load
from modelpress.objectives.distill import Distillation
from modelpress.objectives.task import Task
from modelpress.stage import PRUNING, WEIGHTS, Stage
from modelpress.store import Entry, manifest
from modelpress.training import Arm, train

ONE = ("dataset.batch_size=32",)
TWO = ("dataset.batch_size=16", "hardware.devices=2", "hardware.strategy=ddp")
EQUAL = ("hardware.precision=32-true", "trainer.log_every_n_steps=1")
FEW = "trainer.limit_train_batches=6"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


def trained(world: Path, folder: Path, technique: str, *extra: str) -> Path:
    """The folder of the last stage of ``technique``, after a fine-tuning that trains nothing."""
    kept = [line for line in tiny.fast(world) if not line.startswith(("technique", "model", "teacher", "dataset.b"))]
    chosen = [f"technique={technique}", "model=hf", f"model.path={world / 'checkpoint'}"]
    job = Job.of(compose([*kept, *chosen, "finetune.trainer.max_epochs=0", FEW, *EQUAL, *extra]), world / "run")
    network, done = graph(job), dict[Stage, Entry]()
    for stage in (network.baseline, network.last):
        place = folder / stage.name
        place.mkdir(parents=True)
        train(Arm(job, stage, place, done))
        done[stage] = Entry("", "stage", stage.title, place, {}, manifest(place), 1.0, "today")
    return folder / network.last.name


def assert_alike(one: Path, two: Path, lr: float) -> None:
    """Weights, metrics and curves of two folders of a stage."""
    left, right = load_file(one / WEIGHTS), load_file(two / WEIGHTS)
    assert left.keys() == right.keys()
    away = torch.cat([(left[name].float() - right[name].float()).flatten().abs() for name in left])
    assert float(away.max()) <= 2 * lr
    assert float(away.mean()) <= 1e-5
    assert json.loads((one / "metrics.json").read_text()) == json.loads((two / "metrics.json").read_text())
    curves = [[(row["step"], row["metrics"]) for row in read(folder / FILE)] for folder in (one, two)]
    for (step, expected), (other, found) in zip(*curves, strict=True):
        assert step == other
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.slow
def test_pruning_takes_the_same_weights(world: Path, tmp_path: Path) -> None:
    given = ("technique.prune.trainer.max_epochs=1", "technique.prune.optimizer.lr=1e-3")
    one, two = (trained(world, tmp_path / str(len(kind)), "prune", *given, *kind) for kind in (ONE, TWO))
    assert_alike(one, two, lr=1e-3)
    masks = [load(folder / "model").masks for folder in (one, two)]
    assert masks[0] is not None
    assert masks[1] is not None
    apart = sum(int((masks[0].gone[name] ^ masks[1].gone[name]).sum()) for name in masks[0].gone)
    assert apart <= 2  # of equal scores but for the last bit another one may be taken
    assert json.loads((two / PRUNING).read_text())["sparsity"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.gpu
def test_two_gpus_train_as_one_does(world: Path, tmp_path: Path) -> None:
    devices = probe().devices
    if len(devices) < 2:
        pytest.skip(f"needs two GPUs; this machine has one, {devices[0].name}")
    given = ("technique.prune.trainer.max_epochs=1", "technique.prune.optimizer.lr=1e-3", "hardware=cuda")
    one, two = (trained(world, tmp_path / str(len(kind)), "prune", *given, *kind) for kind in (ONE, TWO))
    assert_alike(one, two, lr=1e-3)
    assert not (two / ranks.FOLDER).exists()


@pytest.mark.slow
def test_running_ranges_see_the_whole_batch(world: Path, tmp_path: Path) -> None:
    given = [
        f"technique.qat.{key}" for key in ("transform.ranges=running", "transform.samples=24", "optimizer.lr=1e-4")
    ]
    padded = "+dataset.pad_to_multiple=32"  # ranges see padding: as much of it in every share
    one, two = (trained(world, tmp_path / str(len(kind)), "qat", padded, *given, *kind) for kind in (ONE, TWO))
    assert_alike(one, two, lr=1e-3)
    scales = [load_file(folder / "model/numerics.safetensors") for folder in (one, two)]
    assert scales[0].keys() == scales[1].keys()
    for name, scale in scales[0].items():
        assert torch.allclose(scale.float(), scales[1][name].float(), rtol=1e-3), name


@pytest.mark.slow
def test_a_sweep_with_two_devices_is_one_sweep(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Distillation from answers, hidden states and attention, with the teacher's cache, through the command line."""
    monkeypatch.chdir(tmp_path)
    parts = "{hard: 0.5, soft: 0.5, hidden: 1.0, attention: 0.1, embedding: 0.0, cosine: 0.0}"
    given = [*tiny.fast(world, *EQUAL, FEW), f"technique.distill.objective.weights={parts}"]
    stages = {}
    for name, kind in (("one", ONE), ("two", TWO)):
        assert (
            main(["-m", *given, *kind, f"store={tmp_path / name}", f"hydra.sweep.dir=multirun/{name}", "seed=1"]) == 0
        )
        found = [json.loads(path.read_text()) for path in (tmp_path / name / "entries").glob("*/entry.json")]
        stages[name] = {
            entry["name"]: tmp_path / name / "entries" / entry["key"] for entry in found if entry["kind"] == "stage"
        }
    assert stages["one"].keys() == stages["two"].keys()
    for title in stages["one"]:
        assert_alike(stages["one"][title], stages["two"][title], lr=3e-3)
        assert not (stages["two"][title] / ranks.FOLDER).exists()
    folder = tmp_path / "multirun/two"
    assert [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")] == ["0"]
    assert (folder / "0/report.json").is_file()
    assert not (tmp_path / "outputs").exists() or [p.name for p in (tmp_path / "outputs").iterdir()] == ["latest"]
    caches = list((tmp_path / "two/teacher").glob("*.data"))
    assert len(caches) == 2  # answers, of each rank; attention scores are never kept
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
def test_a_rank_that_dies_is_named(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_brief", lambda arm: {})
    with pytest.raises(
        ModelPressError, match=r"the process of device 1 ended early \(exit status 1; last output: KeyError"
    ):
        trained(world, tmp_path, "prune", *TWO, "technique.prune.trainer.max_epochs=1")


def test_a_part_counts_what_it_is_the_mean_of() -> None:
    parts = {"hard": 1.0, "hidden": 1.0, "attention": 1.0}
    objective = Distillation(parts)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    batch = {"labels": torch.tensor([0, 1]), "attention_mask": mask}
    assert {part: int(objective.terms(part, batch)) for part in parts} == {"hard": 2, "hidden": 5, "attention": 9 + 4}
    assert int(Task().terms("task", batch)) == 2


def faults(*overrides: str) -> str:
    from modelpress.check import inspect

    return "\n".join(inspect(compose(list(overrides)))[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["hardware.devices=0"], "hardware.devices is 0; allowed: 1, 2, …"),
        (["hardware.strategy=fsdp"], "hardware.strategy is 'fsdp'; allowed: 'auto', 'ddp'"),
        (
            ["technique=qat", *TWO],
            "technique.qat.transform.ranges is learned: .* Choose running, fixed, or hardware.dev",
        ),
        (["technique=qat", "technique.qat.transform.activations=dynamic", *TWO], "activations is dynamic: "),
        (
            ["technique=prune_structured", "technique.prune_structured.transform.begin=0.1", *TWO],
            "iterations and begin",
        ),
    ],
)
def test_what_several_devices_cannot_train_is_said_first(given: list[str], message: str) -> None:
    import re

    assert re.search(message, faults(*given))


def test_what_they_can_train_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults("technique=ptq", *TWO) == faults("technique=prune_structured", *TWO) == faults(*TWO) == ""
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert "this is one of 4 processes (WORLD_SIZE)" in faults(*TWO)

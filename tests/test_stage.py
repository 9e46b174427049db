"""The store key of a stage: what decides the weights is in it, what does not is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.stage import NUMERICS, PRUNING, WEIGHTS, Stage, control_of, preprocessor_digest, request, weights_digest
from modelpress.store import Entry


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


def key(world: Path, *extra: str, teacher: str = "a" * 64) -> str:
    """The key of the distillation, given its teacher's weights."""
    job = Job.of(compose(tiny.overrides(world, *extra)), world / "run")
    network = graph(job)
    return request(job, network.last, {network.baseline: entry(teacher)}).key


def entry(weights: str) -> Entry:
    files: dict[str, Any] = {WEIGHTS: {"sha256": weights, "bytes": 1}}
    return Entry("key", "stage", "teacher", Path("nowhere"), {}, files, 1.0, "today")


@pytest.mark.parametrize(
    "change",
    [
        "seed=2",
        "technique.distill.objective.temperature=4",
        "technique.distill.optimizer.lr=1e-3",
        "technique.distill.trainer.max_epochs=3",
        "trainer.gradient_clip_val=0.5",
        "trainer.compile=true",
        "dataset.batch_size=16",
        "dataset.max_length=24",
        "hardware.precision=32-true",
        "model.architecture.hidden_size=8",
    ],
)
def test_what_decides_the_weights_changes_the_key(world: Path, change: str) -> None:
    assert key(world, change) != key(world)


def test_teacher_weights_change_the_key(world: Path) -> None:
    assert key(world, teacher="b" * 64) != key(world)


@pytest.mark.parametrize(
    "change",
    [
        "name=other",
        "benchmark=default",
        "budget.max_metric_drop=0.05",
        "trainer.log_every_n_steps=3",
        "trainer.checkpoint_seconds=7",
        "control=false",
        "logger=none",
    ],
)
def test_what_does_not_decide_them_keeps_it(world: Path, change: str) -> None:
    assert key(world, change) == key(world)


def test_data_content_changes_the_key(world: Path, tmp_path: Path) -> None:
    lines = (world / "reviews.csv").read_text().splitlines()
    (tmp_path / "reviews.csv").write_text("\n".join([*lines[:-1], "quite another film,neg"]) + "\n")
    assert key(world, f"dataset.path={tmp_path / 'reviews.csv'}") != key(world)


def test_control_keeps_start_and_steps_and_drops_the_technique(world: Path) -> None:
    network = graph(Job.of(compose(tiny.overrides(world)), world / "run"))
    control = control_of(network.last)
    assert control is not None
    assert control.spec is not None
    assert network.last.spec is not None
    assert control.spec["trainer"] == network.last.spec["trainer"]
    assert control.spec["optimizer"] == network.last.spec["optimizer"]
    assert control.spec["objective"]["_target_"].endswith("Task")
    assert control_of(control) is None


def quantized(world: Path, technique: str, *extra: str) -> Stage:
    """The last stage of ``technique`` after the distillation."""
    network = graph(Job.of(compose(tiny.overrides(world, f"technique=[distill,{technique}]", *extra)), world / "run"))
    return network.last


@pytest.mark.parametrize("technique", ["qat", "qat_distill"])
def test_the_control_of_qat_is_ptq_of_the_same_parent(world: Path, technique: str) -> None:
    stage = quantized(world, technique, f"technique.{technique}.transform.calibrator=mse")
    control = control_of(stage)
    assert control is not None
    assert control.spec is not None
    assert stage.spec is not None
    assert control.parent is stage.parent
    assert control.teacher is None
    assert control.spec["transform"] == stage.spec["transform"]
    assert control.spec["trainer"] == {**stage.spec["trainer"], "max_epochs": 0}
    assert control.spec["objective"]["_target_"].endswith("Task")
    assert control_of(control) is None


@pytest.mark.parametrize("technique", ["ptq", "ptq_dynamic", "bf16"])
def test_what_trains_nothing_has_no_control(world: Path, technique: str) -> None:
    assert control_of(quantized(world, technique)) is None


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("technique.ptq.transform.samples=30", False),
        ("technique.ptq.transform.draw=1", False),
        ("technique.ptq.transform.balance=null", False),
        ("trainer.log_every_n_steps=3", True),
    ],
)
def test_calibration_is_in_the_key(world: Path, change: str, same: bool) -> None:
    def key_of(*extra: str) -> str:
        job = Job.of(compose(tiny.overrides(world, "technique=[distill,ptq]", *extra)), world / "run")
        stage = graph(job).last
        assert stage.parent is not None
        return request(job, stage, {stage.parent: entry("a" * 64)}).key

    assert (key_of(change) == key_of()) is same


def test_the_code_of_quantization_is_in_the_key(world: Path) -> None:
    job = Job.of(compose(tiny.overrides(world, "technique=[distill,ptq]")), world / "run")
    last = graph(job).last
    assert last.parent is not None
    assert last.parent.teacher is not None
    done = {last.parent: entry("a" * 64), last.parent.teacher: entry("b" * 64)}
    sources = {stage: set(request(job, stage, done).inputs["sources"]) for stage in (last, last.parent)}
    room = Path(__file__).parents[1] / "src/modelpress/quantization"
    others = {"half", "overflow", "__init__", "ops", "parts"}  # of 16 bits; of the export; of the page on sensitivity
    expected = {f"modelpress.quantization.{path.stem}" for path in room.glob("*.py")} - {
        f"modelpress.quantization.{name}" for name in others
    }
    assert expected <= sources[last]
    assert not any("quantization" in name for name in sources[last.parent])


def test_a_network_is_its_weights_and_its_numerics() -> None:
    def of(**digests: str) -> Entry:
        files: dict[str, Any] = {name: {"sha256": digest, "bytes": 1} for name, digest in digests.items()}
        return Entry("key", "stage", "s", Path("nowhere"), {}, files, 1.0, "today")

    plain = of(**{WEIGHTS: "a" * 64, "model/config.json": "c" * 64})
    assert weights_digest(plain) == "a" * 64  # as before there were numerics: results in a store stay valid
    kinds = [
        plain,
        of(**{WEIGHTS: "b" * 64}),
        of(**{WEIGHTS: "a" * 64, PRUNING: "9" * 64}),
        of(**{WEIGHTS: "a" * 64, NUMERICS[0]: "d" * 64}),
        of(**{WEIGHTS: "a" * 64, NUMERICS[0]: "d" * 64, NUMERICS[1]: "e" * 64}),
        of(**{WEIGHTS: "a" * 64, NUMERICS[0]: "d" * 64, NUMERICS[1]: "f" * 64}),
    ]
    assert len({weights_digest(kind) for kind in kinds}) == len(kinds)


def test_the_student_takes_its_teachers_tokenizer(world: Path) -> None:
    network = graph(Job.of(compose(tiny.overrides(world)), world / "run"))
    assert network.last.preprocessor() == network.baseline.preprocessor() == world / "checkpoint"


def test_preprocessor_digest_sees_the_vocabulary(world: Path, tmp_path: Path) -> None:
    tokenizer = json.loads((world / "checkpoint" / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    before = preprocessor_digest(tmp_path)
    tokenizer["model"]["vocab"]["film"] = 99
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert preprocessor_digest(tmp_path) != before
    assert preprocessor_digest(None) is None


def test_stages_are_compared_by_identity() -> None:
    assert Stage.__hash__ is object.__hash__


def structured(world: Path, *extra: str) -> tuple[Job, Any]:
    job = Job.of(compose(tiny.overrides(world, "technique=[distill,prune_structured]", *extra)), world / "run")
    return job, graph(job)


def network_entry(weights: str, config: str) -> Entry:
    files: dict[str, Any] = {
        name: {"sha256": digest, "bytes": 1}
        for name, digest in {WEIGHTS: weights, "model/config.json": config, "model/modelpress.json": "e" * 64}.items()
    }
    return Entry("key", "stage", "s", Path("nowhere"), {}, files, 1.0, "today")


def test_the_arm_of_equal_latency_depends_on_its_rivals_shape_alone(world: Path) -> None:
    job, network = structured(world)
    parent = {network.last.parent: entry("a" * 64)}

    def key_of(weights: str, config: str) -> str:
        return request(job, network.equal, {**parent, network.last: network_entry(weights, config)}).key

    assert key_of("b" * 64, "c" * 64) == key_of("d" * 64, "c" * 64)
    assert key_of("b" * 64, "c" * 64) != key_of("b" * 64, "d" * 64)


@pytest.mark.parametrize(
    ("change", "parameters", "latency_ms"),
    [
        ("budget.latency_ms=5", True, False),
        ("hardware.threads=1", True, False),
        ("engine=[openvino]", True, False),
        ("benchmark.rounds=4", True, False),
        ("benchmark.repeat=1", True, True),
    ],
)
def test_what_a_latency_depends_on_counts_where_it_decides(
    world: Path, change: str, parameters: bool, latency_ms: bool
) -> None:
    """Whether the key stays the same, for a share of the parameters and for a latency."""

    def key_of(target: str, *extra: str) -> str:
        given = ("budget.latency_ms=4", f"technique.prune_structured.transform.target={target}", *extra)
        job, network = structured(world, *given)
        return request(job, network.last, {network.last.parent: entry("a" * 64)}).key

    assert (key_of("parameters", change) == key_of("parameters")) is parameters
    assert (key_of("latency_ms", change) == key_of("latency_ms")) is latency_ms


@pytest.mark.parametrize(("epochs", "random"), [(0, True), (1, False)])
def test_weights_are_random_until_something_is_learned(tmp_path: Path, epochs: int, random: bool) -> None:
    change = f"technique.prune_structured.trainer.max_epochs={epochs}"
    cfg = compose(["experiment=clip_vit_b32_latency", f"store={tmp_path}", change])
    adopted, *others, pruned = graph(Job.of(cfg, tmp_path)).pressed
    assert all(stage.is_random for stage in (adopted, *others))
    assert pruned.is_random is random


def test_a_checkpoint_and_what_comes_of_it_is_not_random(world: Path, tmp_path: Path) -> None:
    assert not quantized(world, "ptq").is_random  # of a fine-tuned network
    given = ["experiment=clip_vit_b32_latency", "model.pretrained=openai", f"store={tmp_path}"]
    assert not any(stage.is_random for stage in graph(Job.of(compose(given), tmp_path)).pressed)

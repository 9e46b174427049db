"""The latency of a network in the making: measured as reports do, once per shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import tests.tiny as tiny
from modelpress.benchmark.session import Measurement, Workload
from modelpress.config import compose
from modelpress.engines.base import Plan
from modelpress.errors import ModelPressError
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.pruning import on_engine
from modelpress.pruning.on_engine import FILE, EngineLatency, deciding, engine_names, interval, shortened, structure
from modelpress.training import Arm
from tests import tinyclip
from tests.benchmark.fakes import settings
from tests.test_training_clip import write_pairs


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


def job_of(world: Path, *extra: str) -> Job:
    """``engine=…`` in ``extra`` takes the place of the engines there are."""
    chosen = any(line.startswith("engine=") for line in extra)
    given = [line for line in tiny.overrides(world) if not (chosen and line.startswith("engine"))]
    return Job.of(compose([*given, *extra]), world / "run")


class Rows:
    """Stands for :func:`modelpress.benchmark.measure.measure`."""

    def __init__(self, ms: dict[str, float], status: str = "ok") -> None:
        self.ms, self.status, self.asked = ms, status, []  # type: ignore[var-annotated]

    def __call__(self, subjects: Any, workloads: Any, *_: Any) -> Any:
        self.asked.append([subject.id for subject in subjects])
        rows = [row(subject.id, self.ms[subject.plan.precision], self.status) for subject in subjects]
        return type("Session", (), {"measurements": rows})


def row(name: str, ms: float, status: str = "ok") -> Measurement:
    rounds = [[ms * factor] * 5 for factor in (0.99, 1.0, 1.01, 1.0)] if status in ("ok", "unstable") else []
    return Measurement(name, "1x16", status, "reason" if status != "ok" else None, name, rounds=rounds)


def test_a_real_network_in_a_real_engine(world: Path, tmp_path: Path) -> None:
    job = job_of(world, "engine=[torch,onnxruntime]")
    stage = graph(job).baseline
    arm = Arm(job, stage, tmp_path, {})
    model = stage.recipe.build(labels=["a", "b"], preprocessor=stage.tokenizer(), teacher=None, seed=1).train()
    latency = EngineLatency(job, arm.datamodule(), tmp_path)
    found = latency(model)
    assert 0.001 < found.ci_low <= found.value <= found.ci_high < 1000
    assert model.training  # as it was
    assert str(latency) == "onnxruntime fp32 at 1x16"
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    again = EngineLatency(job, None, tmp_path)  # a second attempt of the stage: nothing is measured, no data needed
    assert again(model) == found


def test_both_towers_of_a_dual_encoder_are_timed_as_one(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs")
    model = tinyclip.dual(tmp_path / "tokenizer")
    given = ["model=clip_tiny", "technique=ptq", "dataset=image_text", f"dataset.path={tmp_path / 'pairs/pairs.csv'}"]
    short = [line for line in tiny.overrides(tmp_path) if line.startswith(("benchmark", "store"))]
    job = Job.of(compose([*given, *short, "engine=[onnxruntime]"]), tmp_path / "run")
    data = job.dataset.datamodule(tmp_path / "tokenizer", seed=1, cache=tmp_path / "cache")
    latency = EngineLatency(job, data, tmp_path)
    found = latency(model)
    assert 0.001 < found.ci_low <= found.value <= found.ci_high < 1000
    assert str(latency) == "onnxruntime fp32 at data"
    workload = latency._workload(tmp_path, 5)
    assert workload.inputs == "pair"
    with np.load(workload.requests) as arrays:
        assert set(arrays) == {"pixel_values", "input_ids", "lengths"}
        assert len(arrays["pixel_values"]) == 5


@pytest.fixture
def stubbed(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A latency whose export, engine and session are fakes; ``make(rows)``."""

    def make(rows: Rows, *extra: str) -> EngineLatency:
        latency = EngineLatency(job_of(world, *extra), None, tmp_path)
        built = [Plan(latency.engines[0], "", precision, "x", {}) for precision in rows.ms]
        engine = type("Engine", (), {"build": lambda *_: built})()
        monkeypatch.setattr("modelpress.benchmark.measure.measure", rows)
        monkeypatch.setattr("modelpress.export.onnx.export", lambda *_: {"main": Path("x.onnx")})
        monkeypatch.setattr(EngineLatency, "_workload", lambda *_: Workload("1x16", Path("x.npz")))
        latency.job.__dict__["engines"] = dict.fromkeys(latency.job.config["engine"], engine)
        return latency

    return make


def test_the_fastest_precision_is_found_once_and_kept(stubbed: Any) -> None:
    rows = Rows({"fp32": 5.0, "bf16": 3.0})
    latency = stubbed(rows, "engine=[openvino]")
    first, second = nn.Linear(3, 2), nn.Linear(4, 2)
    assert latency(first).value == pytest.approx(3.0)
    latency(second)
    latency(nn.Linear(3, 2))  # other weights, same shape
    assert rows.asked == [["openvino fp32", "openvino bf16"], ["openvino bf16"]]
    record = json.loads((latency.folder / FILE).read_text())
    assert (record["engine"], record["precision"], record["shape"]) == ("openvino", "bf16", "1x16")
    assert len(record["measured"]) == 2


def test_what_cannot_be_measured_is_a_clear_error(stubbed: Any) -> None:
    latency = stubbed(Rows({"fp32": 5.0}, "failed"), "engine=[onnxruntime]")
    with pytest.raises(ModelPressError, match=r"cannot be measured: onnxruntime fp32: reason"):
        latency(nn.Linear(3, 2))


def test_foreign_load_is_said(stubbed: Any, caplog: pytest.LogCaptureFixture) -> None:
    latency = stubbed(Rows({"fp32": 5.0}, "unstable"), "engine=[onnxruntime]")
    latency(nn.Linear(3, 2))
    assert latency.disturbed == "reason"
    assert "measured under foreign load (reason)" in caplog.text


def test_the_interval_is_that_of_the_median() -> None:
    found = interval(row("fp32", 2.0))
    assert found.value == 2.0
    assert 1.9 < found.ci_low < 2.0 < found.ci_high < 2.1
    values = np.median([0.99 * 2, 2, 2, 1.01 * 2])
    assert found.value == values


def test_short_sessions_stay_within_the_preset() -> None:
    long = shortened(settings(rounds=36, block_ms=900, cold_starts=5, throughput_s=5))
    assert (long.rounds, long.block_ms, long.cold_starts, long.throughput_s) == (12, 200.0, 1, 0.01)
    assert shortened(settings()).rounds == settings().rounds
    assert shortened(settings()).block_ms == settings().block_ms


def test_structure_sees_shapes_and_heads_but_no_weights() -> None:
    class Heads(nn.Module):
        def __init__(self, heads: int) -> None:
            super().__init__()
            self.heads, self.proj = heads, nn.Linear(4, 4)

    assert structure(Heads(2)) == structure(Heads(2).eval())
    assert structure(Heads(2)) != structure(Heads(4))
    assert structure(nn.Linear(3, 2)) != structure(nn.Linear(2, 3))


def test_what_a_latency_depends_on_is_in_the_key(world: Path) -> None:
    base = deciding(job_of(world))
    both = job_of(world, "engine=[torch,openvino,onnxruntime]")
    assert engine_names(both) == ["openvino", "onnxruntime"]
    assert deciding(both) != deciding(both, engine_names(both))
    assert deciding(job_of(world, "benchmark.repeat=1")) == base
    for change in ("engine=[openvino]", "hardware.threads=1", "benchmark.shapes=[data]"):
        assert deciding(job_of(world, change)) != base
    assert on_engine.SHAPE == "1x128"

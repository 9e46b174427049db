"""Quantized runs from end to end in miniature: rows, the control that QAT is measured against, what is deployed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.errors import ModelPressError
from modelpress.job import Job
from modelpress.pipeline import execute, plan
from modelpress.report.record import Report


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


def overrides(world: Path, technique: str, *extra: str) -> list[str]:
    """Without a teacher the tiny checkpoint itself is the subject."""
    kept = [line for line in tiny.fast(world) if not line.startswith(("technique", "control"))]
    if "distill," not in technique:
        kept = [line for line in kept if not line.startswith(("model", "teacher"))]
        kept += ["model=hf", f"model.path={world / 'checkpoint'}"]
    return [*kept, f"technique={technique}", "finetune.trainer.max_epochs=4", *extra]


def run(world: Path, name: str, *given: str) -> Report:
    (world / name).mkdir()
    report = execute(Job.of(compose(overrides(world, *given)), world / name, f"test {name}"))
    assert report is not None
    return report


def stages(report: Report) -> list[str]:
    return [entry["name"] for entry in report.lineage if entry["kind"] == "stage"]


def test_ptq_needs_no_control_and_no_time(world: Path) -> None:
    steps = plan(compose(overrides(world, "ptq")))
    assert [step.name for step in steps if step.kind == "stage"] == ["hf · finetune", "hf · ptq"]
    assert 0 == steps[1].minutes < steps[0].minutes  # nothing is trained


def test_more_samples_than_there_are_stop_a_run_before_it_trains(world: Path) -> None:
    config = compose(overrides(world, "ptq", "technique.ptq.transform.samples=100000", f"store={world / 'fresh'}"))
    with pytest.raises(ModelPressError, match="samples is 100000, but the calibration split of dataset .* has [0-9]+"):
        execute(Job.of(config, world / "never", "test"))
    assert not list((world / "fresh").glob("entries/*"))


def test_distill_then_qat_is_compared_with_ptq_of_the_student(world: Path) -> None:
    names = ("distill", "qat")
    short = [f"technique.{name}.trainer.max_epochs=1" for name in names]
    report = run(world, "both", "[distill,qat]", "technique.qat.transform.samples=24", *short)
    assert stages(report) == ["hf · finetune", "tinybert · distill", "tinybert · control", "tinybert · qat"]
    rows = {row.role: row for row in report.rows}
    assert set(rows) == {"baseline", "control", "candidate"}
    assert report.complete
    assert rows["control"].params_m == rows["candidate"].params_m
    assert all(row.metric is not None for row in report.rows)


def test_qat_learns_from_its_own_float_self(world: Path) -> None:
    options = ("qat", "technique.qat.transform.samples=24", "technique.qat.optimizer.lr=1e-3")
    report = run(world, "self", *options)
    assert stages(report) == ["hf · finetune", "hf · control", "hf · qat"]
    rows = {row.role: row for row in report.rows}
    assert set(rows) == {"baseline", "control", "candidate"}
    assert report.complete
    metrics = [rows[role].metric for role in ("baseline", "control", "candidate")]
    assert all(metric is not None and metric > 0.6 for metric in metrics)
    sizes = [rows[role].size_mb or 0 for role in ("baseline", "control", "candidate")]
    assert sizes[1] == pytest.approx(sizes[2], rel=0.05)
    assert sizes[1] < sizes[0]
    numerics = json.loads((world / "self" / "deploy" / "checkpoint" / "numerics.json").read_text())
    assert (numerics["kind"], numerics["samples"], numerics["float_layers"]) == ("int8", 24, ["network.classifier"])

"""A whole run to a latency budget: measured on the engine, recovered, and beside a dense network as slow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.errors import ModelPressError
from modelpress.job import Job
from modelpress.pipeline import execute, plan

STAGE = "technique.prune_structured"


def overrides(world: Path, *extra: str) -> list[str]:
    return tiny.fast(
        world,
        "technique=[distill,prune_structured]",
        f"{STAGE}.transform.round_to=4",
        f"{STAGE}.trainer.max_epochs=1",
        f"{STAGE}.transform.target=latency_ms",
        f"{STAGE}.transform.remove=[neurons]",
        f"{STAGE}.transform.samples=16",
        "trainer.limit_train_batches=3",
        "control=true",
        *extra,
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


def test_a_run_to_a_latency(world: Path) -> None:
    (world / "run").mkdir()
    report = execute(Job.of(compose(overrides(world, "budget.latency_ms=50")), world / "run", "test"))
    assert report is not None
    assert report.complete
    rows = {row.stage: row for row in report.rows}
    assert set(rows) == {"finetune", "control", "control_layers", "prune_structured"}
    assert rows["control_layers"].details["description"].startswith("the same parent without layers")
    assert rows["prune_structured"].details["network"] == "2 x 16, 4 heads of 4, 32 neurons"  # 50 ms are plenty
    assert report.verdict["equal_latency"]["against"] == rows["control_layers"].id
    assert report.verdict["control"]["against"] == rows["control"].id
    assert all(step.hit for step in plan(compose(overrides(world, "budget.latency_ms=50"))))
    records = (world / "store" / "entries").glob("*/latency.json")
    measured = [json.loads(path.read_text()) for path in records]
    assert {one["shape"] for one in measured} == {"data"}
    assert all(one["engine"] == "onnxruntime" for one in measured)


def test_a_budget_that_nothing_meets_stops_before_training(world: Path) -> None:
    (world / "other").mkdir()
    with pytest.raises(ModelPressError, match=r"budget\.latency_ms is 0\.0001, but removing neurons reaches"):
        execute(Job.of(compose(overrides(world, "budget.latency_ms=0.0001")), world / "other", "test"))

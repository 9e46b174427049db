"""From measurements to rows: sizes, widths, where numbers come from, and which stage is shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tests.tiny as tiny
from modelpress import assemble
from modelpress.engines.base import Plan
from modelpress.pressing import Pressing
from modelpress.report.record import load
from modelpress.store import file_digest


@pytest.fixture(scope="module")
def pressing() -> Pressing:
    """A second run of the finished command: everything comes from the store."""
    made = tiny.pressing(tiny.finished(), "second")
    assert made.is_measured()
    assert made.finish() is made.report
    return made


def plan(file: Path) -> Plan:
    return Plan("openvino", "nowhere.Engine", "fp32", str(file))


def test_size_of_openvino_is_graph_and_weights(tmp_path: Path) -> None:
    (tmp_path / "main.xml").write_bytes(b"x" * 1_000)
    (tmp_path / "main.bin").write_bytes(b"x" * 20_000)
    (tmp_path / "other.bin").write_bytes(b"x" * 300_000)
    assert assemble.plan_size_mb(plan(tmp_path / "main.xml")) == pytest.approx(0.021)


def test_size_of_a_folder_is_that_of_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "model" / "deep").mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_bytes(b"x" * 1_000)
    (tmp_path / "model" / "deep" / "weights").write_bytes(b"x" * 2_000)
    assert assemble.plan_size_mb(plan(tmp_path / "model")) == pytest.approx(0.003)


def test_size_of_a_lone_file(tmp_path: Path) -> None:
    (tmp_path / "main.onnx").write_bytes(b"x" * 5_000)
    assert assemble.plan_size_mb(plan(tmp_path / "main.onnx")) == pytest.approx(0.005)


def test_rows_say_where_reused_numbers_come_from(pressing: Pressing) -> None:
    first = load(tiny.finished() / "first" / "report.json")
    assert all("latency_from" not in row.details for row in first.rows)
    assert {row.details["latency_from"] for row in pressing.report.rows} == {f"{first.name}/first"}
    assert [row.latency_ms for row in pressing.report.rows] == [row.latency_ms for row in first.rows]


def test_a_row_carries_the_facts_of_its_stage(pressing: Pressing) -> None:
    by_role = {row.role: row for row in pressing.report.rows}
    facts = {item.stage.role: item.facts["main"] for item in pressing.pressed}
    for role in ("baseline", "candidate"):
        row = by_role[role]
        assert row.params_m == facts[role]["params_m"]
        assert row.parity_max_abs == facts[role]["parity_max_abs"]  # ONNX Runtime in fp32 is what was checked
        assert row.details["operators"] == sum(facts[role]["ops"].values())
        assert row.macs_g is None  # counted for 1x128 only
        assert row.details["precision_asked"] == "fp32"
    assert by_role["candidate"].details["widths"] == [16, 4, 32]
    assert by_role["candidate"].id == "tinybert/distill/onnxruntime/fp32/data"


def test_accuracy_in_the_rows_is_that_of_the_saved_logits(pressing: Pressing) -> None:
    labels = np.load(pressing.measurement.folder / "requests" / "main" / "test.npz")["labels"]
    for row in pressing.report.rows:
        logits = np.load(pressing.session.logits[row.id.rpartition("/")[0]])
        assert row.metric == pytest.approx(float((logits.argmax(1) == labels).mean()))
        assert row.metric_n == len(labels) == 60


def test_every_row_has_the_time_of_preprocessing(pressing: Pressing) -> None:
    times = {row.preprocess_ms for row in pressing.report.rows}
    assert len(times) == 1
    assert 0 < times.pop() < 1000  # type: ignore[operator]


def test_the_verdicts_row_is_shipped_else_the_last_stages_first_engine(pressing: Pressing) -> None:
    for item in pressing.pressed:
        for key, wanted in item.plans.items():
            assert assemble.shipped(pressing, f"{key}/data") == (item, wanted)
    last = pressing.pressed[-1]
    assert assemble.shipped(pressing, None) == (last, next(iter(last.plans.values())))


def test_what_is_deployed_is_what_was_measured(pressing: Pressing) -> None:
    item, chosen = assemble.shipped(pressing, pressing.report.verdict["row"])
    deploy = pressing.job.folder / "deploy"
    digests = {file_digest(path) for path in deploy.rglob("*") if path.is_file()}
    assert file_digest(Path(chosen.file)) in digests
    assert item.entry.digest_of("model/model.safetensors") in digests


def test_lineage_and_seconds_name_every_part(pressing: Pressing) -> None:
    report = pressing.report
    names = [entry["name"] for entry in report.lineage]
    assert names == [
        *("hf · finetune", "tinybert · distill"),
        *("hf · finetune → ONNX", "tinybert · distill → ONNX"),
        f"benchmark of {report.name}",
    ]
    assert set(report.seconds) == {"total", *names}
    assert report.seconds["total"] >= 0
    assert {"before", "after", "report", "code"} == set(report.environment)


def test_curves_are_those_of_all_stages(pressing: Pressing) -> None:
    found: Any = {curve.stage: curve.steps for curve in assemble.curves(pressing)}
    assert set(found) == {"hf · finetune", "tinybert · distill"}
    assert "train/soft" in found["tinybert · distill"]
    assert "train/soft" not in found["hf · finetune"]
    steps, values = found["tinybert · distill"]["validation/accuracy"]
    assert len(steps) == len(values) == 1


def test_how_a_network_was_pruned_stands_in_its_rows(tmp_path: Path) -> None:
    facts = {"sparsity_file": 0.3}
    assert assemble.pruning(tmp_path, facts) == {}
    (tmp_path / "pruning.json").write_text(json.dumps({"importance": "taylor", "sparsity": 0.7, "weights": ["a", "b"]}))
    found = {"importance": "taylor", "sparsity": 0.7, "sparsity_file": 0.3}
    assert assemble.pruning(tmp_path, facts) == {"pruning": found}

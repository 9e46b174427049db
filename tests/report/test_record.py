from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from modelpress.errors import ModelPressError
from modelpress.report.record import Interval, Latency, Ratio, Report, load, validate
from tests.report.example import STUDENT, row_of


def test_round_trip_keeps_every_value(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report.save(path)
    again = load(path)
    assert asdict(again) == json.loads(json.dumps(asdict(report)))
    best = next(row for row in again.rows if row.id == again.verdict["row"])
    assert isinstance(best.latency_ms, Latency)
    assert isinstance(best.speedup, Ratio)
    assert isinstance(best.metric_drop, Interval)
    assert list(tmp_path.iterdir()) == [path]  # no temporary file stays


def test_json_has_the_keys_of_the_interface(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert set(content) == {
        *("schema_version", "name", "command", "dataset", "task_metric", "seed", "rows", "verdict", "complete"),
        *("environment", "lineage", "seconds", "reproduction"),
    }
    assert set(content["rows"][0]) == {
        *("id", "stage", "model", "role", "tower", "engine", "precision", "device", "shape", "status", "metric"),
        *("metrics", "metric_n", "metric_drop", "agreement", "parity_max_abs", "params_m", "macs_g", "sparsity"),
        *(
            "size_mb",
            "peak_memory_mb",
            "peak_device_memory_mb",
            "cold_start_ms",
            "latency_ms",
            "preprocess_ms",
            "device_latency_ms",
        ),
        *("throughput_per_s", "energy_j_per_sample", "speedup", "speedup_best", "verdict", "why", "details"),
    }


@pytest.mark.parametrize(
    ("field", "word"),
    [
        ("role", "teacher"),
        ("status", "fine"),
        ("engine", "onnx"),
        ("precision", "fp8"),
        ("verdict", "pay"),
        ("shape", "1x"),
    ],
)
def test_a_word_outside_its_closed_list_is_refused(field: str, word: str) -> None:
    row = row_of(STUDENT, "openvino", "bf16", "1x128")
    setattr(row, field, word)
    with pytest.raises(ModelPressError, match=rf"{row.id}.*{field}.*{word!r}"):
        validate(row)


def test_a_row_is_checked_when_it_is_made() -> None:
    with pytest.raises(ModelPressError, match="Did you mean 'bf16'"):
        replace(row_of(STUDENT, "openvino", "bf16", "data"), precision="bf1")


def test_nan_is_refused_with_its_address(report: Report, tmp_path: Path) -> None:
    bad = replace(report, rows=[replace(report.rows[0], size_mb=float("nan"))])
    with pytest.raises(ModelPressError, match=r"rows\[0\]\.size_mb = nan"):
        bad.save(tmp_path / "report.json")
    assert not list(tmp_path.iterdir())


def test_a_newer_schema_is_refused(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(asdict(report) | {"schema_version": 2}))
    with pytest.raises(ModelPressError, match="schema_version 2.*up to 1"):
        load(path)


def test_a_field_from_a_later_release_is_left_out(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    content = json.loads(json.dumps(asdict(report)))
    content["rows"][0]["carbon_g"] = 1.0
    path.write_text(json.dumps(content | {"mood": "good"}))
    assert load(path).rows[0].id == report.rows[0].id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema_version": 1, "rows": [{"id"', "cut off or damaged"),
        ("[]", "holds a list"),
        ("{}", "schema_version None"),
        ('{"schema_version": 1, "rows": [{"id": "a"}]}', "not a report"),
        ('{"schema_version": 1, "rows": 3}', "not a report"),
    ],
)
def test_a_damaged_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ModelPressError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match=r"There is no .*nowhere\.json"):
        load(tmp_path / "nowhere.json")
    with pytest.raises(ModelPressError, match="cannot be read"):
        load(tmp_path)

"""The table of one CLIP's variants, from a report made by hand."""

from __future__ import annotations

from typing import Any

from bench.clip_table import table
from modelpress.report.record import Interval, Latency, Ratio, Report, Row


def row(tower: str, ms: float | None, **more: Any) -> Row:
    latency = None if ms is None else Latency(ms, ms, ms, ms, ms, 0.0, 100)
    given = {"stage": "adopt", "role": "baseline", "engine": "onnxruntime", "precision": "fp32", "shape": "1x3x8x8"}
    given |= {"id": f"{tower}{ms}{more}", "model": "clip_small", "device": "cpu", "status": "ok"} | more
    return Row(tower=tower, latency_ms=latency, **given)


def report(rows: list[Row]) -> Report:
    return Report("r", "c", {}, "recall_at_1", 1, rows, {}, True, {}, [], {})


INT8 = {"stage": "ptq", "role": "candidate", "engine": "openvino", "precision": "int8"}


def test_a_line_holds_a_pair_and_the_latencies_of_its_towers() -> None:
    whole = [row("image", 3.0), row("text", 1.0), row("pair", 4.0, metric=0.25, size_mb=100.0, throughput_per_s=200.0)]
    drop, ratio = Interval(0.01, -0.01, 0.03), Ratio("x", 2.0, 1.9, 2.1)
    small = [
        row("image", 1.5, **INT8),
        row("text", 0.5, **INT8),
        row("pair", 2.0, metric=0.24, metric_drop=drop, speedup=ratio, size_mb=26.0, throughput_per_s=400.0, **INT8),
    ]
    lines = table(report(whole + small)).splitlines()
    assert lines[2] == "| clip_small | – | ONNX Runtime FP32 | 25.0 | – | 3.00 | 1.00 | 4.00 | 200 | – | 100.0 |"
    shown = "| clip_small | INT8 | OpenVINO INT8 | 24.0 | 1.00 [-1.00, 3.00] | 1.50 | 0.50 | 2.00 | 400 | "
    assert lines[3] == shown + "2.00 [1.90, 2.10] | 26.0 |"
    assert len(lines) == 4


def test_of_several_shapes_the_first_counts_and_what_was_not_measured_is_a_dash() -> None:
    rows = [row("pair", 4.0), row("pair", 9.0, shape="32x3x8x8"), row("pair", None, status="unsupported", **INT8)]
    lines = table(report(rows)).splitlines()
    assert lines[2].count("4.00") == 1
    assert lines[3] == "| clip_small | INT8 | OpenVINO INT8 | – | – | – | – | – | – | – | – |"
    assert len(lines) == 4

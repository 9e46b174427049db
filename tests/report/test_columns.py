"""Columns that only some reports have."""

from __future__ import annotations

import copy
from dataclasses import replace

from modelpress.report.columns import columns
from modelpress.report.missing import null_reason
from modelpress.report.record import Report


def test_compressed_size_is_shown_where_a_row_is_sparse(report: Report) -> None:
    assert "compressed_mb" not in {column.key for column in columns(report)}
    sparse = copy.deepcopy(report)
    sparse.rows[-1].sparsity = 0.7
    sparse.rows[-1].details["compressed_mb"] = 31.26
    (shown,) = (column for column in columns(sparse) if column.key == "compressed_mb")
    assert shown.text(sparse.rows[-1]) == "31.3"
    assert shown.text(sparse.rows[0]) is None


def test_device_time_stands_beside_end_to_end_time_where_a_row_has_it(report: Report) -> None:
    assert "device_p50" not in {column.key for column in columns(report)}
    on_gpu = copy.deepcopy(report)
    row = on_gpu.rows[0]
    row.device = "cuda"
    row.device_latency_ms = replace(row.latency_ms, p50=0.4567) if row.latency_ms is not None else None
    by_key = {column.key: column for column in columns(on_gpu)}
    assert by_key["device_p50"].text(row) == "0.457"
    assert by_key["device_p50"].title != by_key["p50"].title
    assert null_reason(on_gpu.rows[1], "device_p50") == "This row ran on the CPU."


def test_a_cold_start_says_whether_kernels_were_compiled_in_it(report: Report) -> None:
    shown = next(column for column in columns(report) if column.key == "cold_start_ms")
    row = replace(report.rows[0], cold_start_ms=812.34)
    found = [
        shown.text(replace(row, details={"cold_start": start}))
        for start in ({"kernels_kept": k} for k in (True, False))
    ]
    assert found == ["812 (kernels kept)", "812 (kernels compiled)"]
    assert shown.text(replace(row, details={"cold_start": {}})) == shown.text(replace(row, details={})) == "812"
    assert shown.text(replace(row, cold_start_ms=None)) is None

"""Why a row has no value in a column. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

from modelpress.report.record import Row

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}


def null_reason(row: Row, key: str) -> str:
    """Why this row has no value there: what was recorded, else what the column needs."""
    recorded: Mapping[str, str] = row.details.get("reasons", {})
    if key in recorded:
        return recorded[key]
    if row.status in ("failed", "unsupported"):
        return f"{row.status}: {row.why or 'no reason was recorded'}"
    if key in PERCENTILES and row.latency_ms is not None:
        return _too_few(key, row.latency_ms.n)
    return _default_reason(row, key)


def _too_few(key: str, n: int) -> str:
    from modelpress.benchmark.statistics import minimum_count

    needed = minimum_count(PERCENTILES[key])
    return f"{key} needs {needed} queries to be bounded with 99 % confidence; there are {n}."


def _default_reason(row: Row, key: str) -> str:
    if key == "parity_max_abs" and row.precision not in ("fp32", "fp16"):
        return "A gate for FP32 and FP16 only; other precisions are judged by agreement and metric."
    if key == "peak_device_memory_mb" and row.device == "cpu":
        return "This row ran on the CPU: there is no device memory."
    if key == "verdict" and row.role != "candidate":
        return "Only candidate rows are judged."
    known = {
        "energy_j_per_sample": "Needs an energy counter (RAPL, or NVML of a GPU) that this process may read.",
        "device_p50": "This row ran on the CPU."
        if row.device == "cpu"
        else "This runtime tells end-to-end times only.",
    }
    return known.get(key, "Not measured in this run.")

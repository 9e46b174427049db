"""Every column of a report: how a row's value is written, what it means, and why it is missing. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelpress.report.diagnosis import is_sparse
from modelpress.report.missing import PERCENTILES
from modelpress.report.names import ENGINE_TITLES, VERDICT_SHORT, thousands
from modelpress.report.numbers import latency_text, points_text, ratio_text, share_text, significant
from modelpress.report.record import Report, Row

Text = Callable[[Row], str | None]


@dataclass(frozen=True)
class Column:
    """``text`` returns ``None`` where the row has no value; :func:`null_reason` then says why."""

    key: str
    title: str
    meaning: str
    text: Text
    numeric: bool = True


def columns(report: Report) -> list[Column]:
    """All columns, in reading order."""
    return [column for _, group in groups(report) for column in group]


def groups(report: Report) -> list[tuple[str, list[Column]]]:
    """Columns under their headings; the metrics are those that any row of this report has."""
    metric = report.task_metric
    others = sorted({name for row in report.rows for name in row.metrics} - {metric})
    quality = [
        Column("metric", f"{metric} %", "On the engine, on the full test split.", _metric),
        *[Column(f"metrics.{name}", f"{name} %", "On the same answers.", _other_metric(name)) for name in others],
        Column("metric_n", "test items", "How many items the metric is measured on.", _count("metric_n")),
        Column("metric_drop", "drop, points", "Against the baseline in ONNX Runtime FP32; paired, 95 %.", _drop),
        Column("agreement", "agreement %", "Same answers as this model in ONNX Runtime FP32.", _share("agreement")),
        Column("parity_max_abs", "parity", "Largest difference of a logit from PyTorch FP32.", _parity),
    ]
    return [
        ("quality", quality),
        ("against the baseline", RATIOS),
        (
            "latency and throughput",
            [*LATENCIES, *(DEVICE if any(row.device_latency_ms for row in report.rows) else [])],
        ),
        ("cost", [*COSTS, *([COMPRESSED] if any(is_sparse(row) for row in report.rows) else [])]),
        ("row", IDENTITY),
        ("verdict", WORDS),
    ]


def _plain(key: str) -> Text:
    return lambda row: str(getattr(row, key))


def _number(key: str, digits: int = 3) -> Text:
    def text(row: Row) -> str | None:
        value: float | None = getattr(row, key)
        return None if value is None else significant(value, digits)

    return text


def _count(key: str) -> Text:
    def text(row: Row) -> str | None:
        value: int | None = getattr(row, key)
        return None if value is None else thousands(value)

    return text


def _share(key: str) -> Text:
    def text(row: Row) -> str | None:
        value: float | None = getattr(row, key)
        return None if value is None else share_text(value, row.metric_n)

    return text


def _metric(row: Row) -> str | None:
    return None if row.metric is None else share_text(row.metric, row.metric_n)


def _other_metric(name: str) -> Text:
    return lambda row: share_text(row.metrics[name], row.metric_n) if name in row.metrics else None


def _drop(row: Row) -> str | None:
    return None if row.metric_drop is None else points_text(row.metric_drop)


def _parity(row: Row) -> str | None:
    return None if row.parity_max_abs is None else f"{row.parity_max_abs:.1e}"


def _latency(field: str) -> Text:
    def text(row: Row) -> str | None:
        if row.latency_ms is None or getattr(row.latency_ms, field) is None:
            return None
        return latency_text(row, field)

    return text


def _device_p50(row: Row) -> str | None:
    latency = row.device_latency_ms
    return None if latency is None or latency.p50 is None else significant(latency.p50)


def _cov(row: Row) -> str | None:
    return None if row.latency_ms is None else significant(100 * row.latency_ms.cov, 2)


def _queries(row: Row) -> str | None:
    return None if row.latency_ms is None else thousands(row.latency_ms.n)


def _sparsity(row: Row) -> str | None:
    return None if row.sparsity is None else f"{100 * row.sparsity:.0f}"


def _cold_start(row: Row) -> str | None:
    kept = row.details.get("cold_start", {}).get("kernels_kept")
    words = {True: " (kernels kept)", False: " (kernels compiled)"}.get(kept, "")
    return None if row.cold_start_ms is None else f"{significant(row.cold_start_ms)}{words}"


def _network(row: Row) -> str | None:
    return row.details.get("network")


def _compressed(row: Row) -> str | None:
    size: float | None = row.details.get("compressed_mb")
    return None if size is None else significant(size)


def _ratio(key: str) -> Text:
    def text(row: Row) -> str | None:
        ratio = getattr(row, key)
        return None if ratio is None else ratio_text(ratio)

    return text


def details_text(row: Row) -> str | None:
    """The free part of a row as JSON, without what stands elsewhere: reasons where the values would, numerics once."""
    rest: dict[str, Any] = {key: value for key, value in row.details.items() if key not in ("reasons", "numerics")}
    return json.dumps(rest, indent=1, default=str, sort_keys=True) if rest else None


IDENTITY = [
    Column("stage", "stage", "The stage that made the model.", _plain("stage"), False),
    Column("model", "model", "The network.", _plain("model"), False),
    Column("role", "role", "baseline, control, candidate or reference.", _plain("role"), False),
    Column("tower", "tower", "Part of the model; a classifier has one.", _plain("tower"), False),
    Column("engine", "engine", "The runtime.", lambda row: ENGINE_TITLES[row.engine], False),
    Column("precision", "precision", "What ran, read back from the runtime.", lambda row: row.precision.upper(), False),
    Column("device", "device", "Where it ran.", _plain("device"), False),
    Column("shape", "shape", "Batch x length; data: the dataset's own lengths.", _plain("shape"), False),
    Column(
        "status",
        "status",
        "unstable: foreign load, drift, or rounds that spread too much; its speed decides nothing.",
        _plain("status"),
        False,
    ),
]
COSTS = [
    Column("network", "layers x width", "Layers, width, heads and neurons of the encoder.", _network, False),
    Column("params_m", "params, M", "Millions of parameters.", _number("params_m")),
    Column("macs_g", "GMACs", "10^9 multiply-adds of one inference at this shape.", _number("macs_g")),
    Column("sparsity", "zeros %", "Of the weights in matrix products, counted in the exported file.", _sparsity),
    Column("size_mb", "size, MB", "Engine on disk.", _number("size_mb")),
    Column("peak_memory_mb", "memory, MB", "Peak of the process that ran only this engine.", _number("peak_memory_mb")),
    Column("peak_device_memory_mb", "device MB", "Peak on the accelerator.", _number("peak_device_memory_mb")),
    Column(
        "cold_start_ms",
        "cold start, ms",
        "From starting a process to its first answer: imports and loading included. Kernels: whether those that the "
        "runtime compiles when it opens an engine were kept from an earlier time.",
        _cold_start,
    ),
]
DEVICE = [
    Column(
        "device_p50",
        "device p50, ms",
        "Kernels alone, inputs and outputs on the accelerator; p50 is end to end. The copies are in the details.",
        _device_p50,
    )
]
COMPRESSED = Column(
    "compressed_mb", "zipped, MB", "The exported ONNX file after zlib: what zeros save on disk.", _compressed
)
LATENCIES = [
    *[Column(name, f"{name}, ms", "A percentile, where the sample bounds it.", _latency(name)) for name in PERCENTILES],
    Column("min", "min, ms", "Fastest query.", _latency("min")),
    Column("cov", "spread %", "Standard deviation over mean of all queries.", _cov),
    Column("n", "queries", "Timed queries; none is dropped.", _queries),
    Column("preprocess_ms", "pre/post, ms", "Tokenizing and reading the answer, per item.", _number("preprocess_ms")),
    Column(
        "throughput_per_s",
        "items/s",
        "Measured on batches of real requests, one after another (details: batch).",
        _number("throughput_per_s"),
    ),
    Column(
        "energy_j_per_sample",
        "J/item",
        "Energy per item; of a GPU above its idle power.",
        _number("energy_j_per_sample"),
    ),
]
RATIOS = [
    Column("speedup", "x ORT FP32", "Over the baseline in ONNX Runtime FP32; paired, 95 %.", _ratio("speedup")),
    Column(
        "speedup_best",
        "x best",
        "Over the baseline's own fastest engine that loses nothing; paired, 95 %.",
        _ratio("speedup_best"),
    ),
]
WORDS = [
    Column("verdict", "verdict", "By the rule below.", lambda row: VERDICT_SHORT.get(row.verdict or ""), False),
    Column("why", "why", "Which bound decided, and why not.", lambda row: row.why, False),
]

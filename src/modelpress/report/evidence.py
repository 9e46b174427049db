"""What the verdict is based on, and which rows are compared with which. Torch-free."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from modelpress.report.record import Row

DECIDING = ("main", "pair")  # towers whose rows answer the task's question; one tower of two does not
IMAGE_AXES = 4  # images, channels, height, width
REFERENCE_ENGINES = ("onnxruntime", "onnxruntime_cuda")  # a row is compared with that of its own device
LOSES_NOTHING = 0.002
"""A baseline row whose paired metric drop is at most this, or not distinguishable from 0, loses nothing."""


@dataclass
class Budget:
    """The user's ``budget`` node. ``max_metric_drop`` is absolute: 0.01 is one point."""

    latency_ms: float | None = None
    size_mb: float | None = None
    memory_mb: float | None = None
    max_metric_drop: float = 0.01


@dataclass
class Evidence:
    """One row with its raw material.

    ``rounds``: milliseconds of every query, one list per balanced round; round i of all rows ran side by side.
    ``logits``: (N, C), one line per test item in the order that all rows share.
    """

    row: Row
    rounds: list[list[float]] | None
    logits: NDArray[Any] | None


def measured(evidence: Sequence[Evidence], role: str | None = None) -> list[Evidence]:
    """Entries that ran (``ok`` or ``unstable``), of one role if given."""
    return [e for e in evidence if e.row.status in ("ok", "unstable") and role in (None, e.row.role)]


def p50_ms(entry: Evidence) -> float | None:
    """The row's p50, or the plain median of its rounds where too few queries bound a percentile."""
    if entry.row.latency_ms is not None and entry.row.latency_ms.p50 is not None:
        return entry.row.latency_ms.p50
    pooled = [value for batch in entry.rounds or [] for value in batch]
    return statistics.median(pooled) if pooled else None


def peers(evidence: Sequence[Evidence], row: Row) -> list[Evidence]:
    """Measured baseline entries with the row's tower, device and kind of request: what its speed is compared with."""
    place = (row.tower, row.device, request(row.shape))
    return [e for e in measured(evidence, "baseline") if (e.row.tower, e.row.device, request(e.row.shape)) == place]


def request(shape: str) -> str:
    """What is asked at a shape: of images, how many; their size is the network's own choice and part of its cost.

    >>> request("1x3x224x224"), request("1x128"), request("data")
    ('1 image', '1x128', 'data')
    """
    sizes = shape.split("x")
    return f"{sizes[0]} image" if len(sizes) == IMAGE_AXES else shape


def anchor(evidence: Sequence[Evidence], row: Row) -> Evidence | None:
    """The baseline in ONNX Runtime FP32 at the row's shape."""
    return next((e for e in peers(evidence, row) if is_reference_engine(e.row)), None)


def is_reference_engine(row: Row) -> bool:
    """ONNX Runtime FP32: the engine that ``speedup``, ``metric_drop`` and ``agreement`` start from."""
    return row.engine in REFERENCE_ENGINES and row.precision == "fp32"


def metric_anchor(evidence: Sequence[Evidence], row: Row) -> Evidence | None:
    """Whose answers the row's metric is paired with.

    The baseline in ONNX Runtime FP32, at the row's shape if possible; where that engine did not run, the baseline
    in another FP32 engine (the row's ``details["metric_drop_vs"]`` says which).
    """
    same_tower = [e for e in measured(evidence, "baseline") if e.row.tower == row.tower and e.logits is not None]
    fp32 = [e for e in same_tower if e.row.precision == "fp32"]
    return min(fp32, key=lambda e: (not is_reference_engine(e.row), e.row.shape != row.shape), default=None)


def agreement_anchor(evidence: Sequence[Evidence], row: Row) -> Evidence | None:
    """The same model in ONNX Runtime FP32: of the same stage, else of the same role, else whatever arm of it there is.

    The last is for a stage whose numbers are not float32 any more.
    """
    rows = [e for e in measured(evidence) if e.logits is not None and is_reference_engine(e.row)]
    same = [e for e in rows if (e.row.model, e.row.tower) == (row.model, row.tower)]
    near = [e for e in same if e.row.stage == row.stage] or [e for e in same if e.row.role == row.role]
    near = near or (same if "numerics" in row.details else [])
    return min(near, key=lambda e: e.row.shape != row.shape, default=None)


def loses_nothing(row: Row) -> bool:
    """Whether a baseline row may stand for the baseline: see :data:`LOSES_NOTHING`.

    Without labels nothing is known about its loss, and only FP32 qualifies.
    """
    if row.metric_drop is None:
        return row.precision == "fp32"
    return row.metric_drop.value <= LOSES_NOTHING or row.metric_drop.ci_low <= 0


def best_baseline(evidence: Sequence[Evidence], row: Row) -> Evidence | None:
    """The baseline's own fastest engine that loses nothing, at the row's shape: the honest opponent."""
    timed = [(p50, e) for e in peers(evidence, row) if loses_nothing(e.row) and (p50 := p50_ms(e)) is not None]
    return min(timed, key=lambda pair: pair[0])[1] if timed else None

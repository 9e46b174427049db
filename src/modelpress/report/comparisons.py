"""Fill the columns of every row that come from comparing it with another. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelpress.errors import ModelPressError
from modelpress.report import quality
from modelpress.report.evidence import (
    Evidence,
    agreement_anchor,
    anchor,
    best_baseline,
    is_reference_engine,
    measured,
    metric_anchor,
)
from modelpress.report.record import Interval, Ratio, Row


def fill_quality(evidence: Sequence[Evidence], labels: NDArray[Any] | None) -> None:
    """Metrics, their paired drop against the baseline and the agreement with the model's own FP32 row."""
    for entry in measured(evidence):
        _check(entry, labels)
    for entry in measured(evidence):
        if entry.logits is not None:
            _agreement(entry.row, entry.logits, agreement_anchor(evidence, entry.row))
            if labels is not None:
                _metrics(entry.row, entry.logits, labels)
                _drop(entry.row, entry.logits, metric_anchor(evidence, entry.row), labels)


def fill_speed(evidence: Sequence[Evidence]) -> None:
    """Both ratios and the interval of the median. Call after :func:`fill_quality`: it needs the baseline's drops."""
    for entry in measured(evidence):
        entry.row.speedup = _ratio(entry, anchor(evidence, entry.row), "speedup")
        entry.row.speedup_best = _ratio(entry, best_baseline(evidence, entry.row), "speedup_best")
        if entry.rounds is not None and pairable(entry):
            entry.row.details["p50_interval_ms"] = median_interval(entry.rounds)


def pairable(entry: Evidence) -> bool:
    """Whether there are rounds to resample: two at least, none empty."""
    return entry.rounds is not None and len(entry.rounds) > 1 and all(len(batch) > 0 for batch in entry.rounds)


def reason(row: Row, column: str, words: str) -> None:
    """Say why a column of this row stays empty; what was said before stands."""
    row.details.setdefault("reasons", {}).setdefault(column, words)


def median_interval(rounds: Sequence[Sequence[float]]) -> list[float]:
    """95 % interval of the pooled median in ms, [low, high]: how many times faster than a constant 1 ms, inverted."""
    from modelpress.benchmark.statistics import ratio_interval

    inverse = ratio_interval([[1.0]] * len(rounds), rounds, resamples=500)
    return [1 / inverse.ci_high, 1 / inverse.ci_low]


def accuracy_gain(worse: NDArray[Any], better: NDArray[Any], labels: NDArray[Any]) -> Interval:
    """Accuracy of the logits ``better`` minus that of ``worse``, both (N, C), paired on the same items."""
    from modelpress.benchmark.statistics import drop_interval

    return drop_interval(quality.correct(better, labels), quality.correct(worse, labels))


def _check(entry: Evidence, labels: NDArray[Any] | None) -> None:
    """Logits must fit the labels; a row that answers NaN has failed."""
    if entry.logits is None:
        return
    if labels is not None and len(entry.logits) != len(labels):
        raise ModelPressError(
            f"Row {entry.row.id!r} answered {len(entry.logits)} items, but there are {len(labels)} labels; "
            "every row must answer the same test items in the same order."
        )
    if not np.isfinite(entry.logits).all():
        bad = int((~np.isfinite(entry.logits).all(axis=-1)).sum())
        entry.row.status = "failed"
        entry.row.why = f"Its answers to {bad} of {len(entry.logits)} test items are not finite."


def _metrics(row: Row, logits: NDArray[Any], labels: NDArray[Any]) -> None:
    predicted = quality.predictions(logits)
    row.metric = quality.accuracy(predicted, labels)
    if row.tower == "main":
        row.metrics |= {"accuracy": row.metric, "macro_f1": quality.macro_f1(predicted, labels)}
    else:
        row.metrics |= quality.recalls(logits, labels)
    row.metric_n = len(labels)


def _drop(row: Row, logits: NDArray[Any], base: Evidence | None, labels: NDArray[Any]) -> None:
    if base is None or base.logits is None:
        reason(row, "metric_drop", "The baseline was not measured in any FP32 engine.")
        return
    if not is_reference_engine(base.row):
        row.details["metric_drop_vs"] = base.row.id
    itself = base.row is row
    row.metric_drop = Interval(0.0, 0.0, 0.0) if itself else accuracy_gain(logits, base.logits, labels)


def _agreement(row: Row, logits: NDArray[Any], base: Evidence | None) -> None:
    if base is None or base.logits is None:
        reason(row, "agreement", "This model was not measured in ONNX Runtime FP32.")
    else:
        row.agreement = quality.accuracy(quality.predictions(logits), quality.predictions(base.logits))


def _ratio(entry: Evidence, base: Evidence | None, column: str) -> Ratio | None:
    """How many times faster than ``base``; ``None`` with its reason where rounds cannot be paired."""
    from modelpress.benchmark.statistics import ratio_interval

    words = _not_paired(entry, base)
    if words or base is None or base.rounds is None or entry.rounds is None:
        reason(entry.row, column, words)
        return None
    if base is entry:
        return Ratio(base.row.id, 1.0, 1.0, 1.0)
    interval = ratio_interval(base.rounds, entry.rounds)
    return Ratio(base.row.id, interval.value, interval.ci_low, interval.ci_high)


def _not_paired(entry: Evidence, base: Evidence | None) -> str:
    if not pairable(entry):
        return "This row was not timed in two rounds or more."
    if base is None:
        return f"There is no such baseline row at {entry.row.shape} on {entry.row.device}."
    if not pairable(base) or len(base.rounds or []) != len(entry.rounds or []):
        ours, theirs = len(entry.rounds or []), len(base.rounds or [])
        return f"Its {ours} rounds cannot be paired with the {theirs} of {base.row.id!r}."
    return ""

"""The overall verdict of a report: the best candidate row, its control, its budget, and what limits it. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from modelpress.report.arms import compare_control, compare_equal
from modelpress.report.diagnosis import same_engine
from modelpress.report.evidence import (
    DECIDING,
    LOSES_NOTHING,
    Budget,
    Evidence,
    anchor,
    best_baseline,
    is_reference_engine,
    measured,
    metric_anchor,
    p50_ms,
)
from modelpress.report.names import PRIMARY_SHAPE, VERDICT_TITLES, engine_title, metric_words, row_title
from modelpress.report.numbers import half_width, plural, ratio_text, share_text, significant


def overall(
    evidence: Sequence[Evidence],
    labels: NDArray[Any] | None,
    budget: Budget,
    *,
    control_expected: bool,
    equal_expected: bool = False,
    metric: str = "accuracy",
) -> dict[str, Any]:
    """The ``verdict`` of report.json, from rows that are filled and judged. ``metric``: the name of the task's.

    ``verdict`` (one of VERDICTS, or ``None`` where nothing was judged), ``row`` (id of the best candidate row),
    ``words``, ``rule``, ``complete``, ``missing`` (why not complete), ``control`` (``row``, ``difference`` of candidate
    over control as an interval or ``None``, ``words``), ``equal_latency`` (see :func:`arms.compare_equal`), ``budget``
    (goal -> ``limit``, ``value``, ``met``) and ``ceilings`` (what limits the result: ``macs_ratio``,
    ``same_engine_speedup``, ``baseline_metric``,
    ``resolvable_drop``, ``words``).
    """
    best = best_candidate(evidence)
    control = compare_control(evidence, best, labels)
    equal = compare_equal(evidence, best, labels)
    missing = _missing(evidence, best, control, control_expected)
    if equal_expected and best is not None and equal is None:
        missing.append("its arm of equal latency is missing.")
    words = _headline(evidence, best, metric)
    if missing:
        words += f" The report is incomplete: {'; '.join(part.removesuffix('.') for part in missing)}."
    return {
        "verdict": best.row.verdict if best else None,
        "row": best.row.id if best else None,
        "words": words,
        "rule": rule(budget),
        "complete": not missing,
        "missing": missing,
        "control": control,
        "equal_latency": equal,
        "budget": _budget(best, budget),
        "ceilings": _ceilings(evidence, best),
    }


def rule(budget: Budget) -> str:
    """The rule in words, with this run's numbers."""
    limits = {"size": budget.size_mb, "peak memory": budget.memory_mb}
    goals = [f"{name} {limit:g} MB" for name, limit in limits.items() if limit is not None]
    allowed = 100 * budget.max_metric_drop
    goal = f", or a goal is met that the baseline misses ({', '.join(goals)})" if goals else ""
    return (
        "Pays: the lower bound of the speed-up over the baseline's own fastest engine that loses nothing is above 1"
        f"{goal}, and the upper bound of the paired metric drop is within {plural(allowed, 'point')}. "
        "Does not pay: a bound lies on the wrong side. Otherwise inconclusive. A baseline engine loses nothing if its "
        f"paired drop is at most {100 * LOSES_NOTHING:g} points or its interval reaches 0. Timings taken under foreign "
        "load (unstable) decide nothing. All intervals are two-sided 95 %."
    )


def primary_shape(entries: Sequence[Evidence]) -> str:
    """``1x128`` if measured, otherwise the first row's shape."""
    shapes = [entry.row.shape for entry in entries]
    return PRIMARY_SHAPE if PRIMARY_SHAPE in shapes else shapes[0]


def best_candidate(evidence: Sequence[Evidence]) -> Evidence | None:
    """At the primary shape: the best verdict, then the highest ``speedup_best``, then the lowest p50."""
    candidates = [entry for entry in measured(evidence, "candidate") if entry.row.tower in DECIDING]
    if not candidates:
        return None
    shape = primary_shape(candidates)
    return min((e for e in candidates if e.row.shape == shape), key=_rank)


def _rank(entry: Evidence) -> tuple[int, float, float]:
    order = {"pays": 0, "inconclusive": 1, "does_not_pay": 2}
    row = entry.row
    ratio = row.speedup_best.ratio if row.speedup_best else 0.0
    return order[row.verdict or "does_not_pay"], -ratio, p50_ms(entry) or float("inf")


def _missing(
    evidence: Sequence[Evidence], best: Evidence | None, control: dict[str, Any], control_expected: bool
) -> list[str]:
    """What a referee would ask for."""
    attempted = any(entry.row.role == "candidate" for entry in evidence)
    missing = []
    if attempted and best is None:
        missing.append("no candidate row could be measured.")
    if attempted and not measured(evidence, "baseline"):
        missing.append("no baseline row could be measured.")
    if control_expected and best is not None and control["difference"] is None:
        missing.append("its control arm is missing.")
    return missing


def _headline(evidence: Sequence[Evidence], best: Evidence | None, metric: str) -> str:
    if best is None:
        return _baseline_only(evidence)
    row = best.row
    title = VERDICT_TITLES[row.verdict or "inconclusive"]
    return f"{title}: {row_title(row)}.{_against_reference(best, metric)} {row.why}"


def _against_reference(best: Evidence, metric: str) -> str:
    row = best.row
    parts = []
    if row.metric is not None:
        parts.append(f"{metric_words(metric)} {share_text(row.metric, row.metric_n)} %")
    if (p50 := p50_ms(best)) is not None:
        parts.append(f"p50 {significant(p50)} ms")
    if row.speedup is not None:
        parts.append(f"{ratio_text(row.speedup)} the speed of the baseline in ONNX Runtime FP32")
    text = ", ".join(parts)
    return f" {text[:1].upper()}{text[1:]}." if parts else ""


def _baseline_only(evidence: Sequence[Evidence]) -> str:
    """A run that compresses nothing still says which engine to take."""
    if any(entry.row.role == "candidate" for entry in evidence):
        return "No verdict: no candidate row could be measured."
    rows = [entry for entry in measured(evidence, "baseline") if entry.row.tower in DECIDING]
    if not rows:
        return "No verdict: nothing was measured."
    shape = primary_shape(rows)
    fastest = best_baseline(evidence, next(e.row for e in rows if e.row.shape == shape))
    if fastest is None:
        return "No verdict: nothing was compressed."
    text = f"p50 {significant(p50_ms(fastest) or 0)} ms"
    if fastest.row.speedup is not None and not is_reference_engine(fastest.row):
        text += f", {ratio_text(fastest.row.speedup)} the speed of ONNX Runtime FP32"
    best = f"Fastest engine that loses nothing at {shape}: {engine_title(fastest.row)}, {text}."
    return f"No verdict: nothing was compressed. {best}"


def _budget(best: Evidence | None, budget: Budget) -> dict[str, Any]:
    """Every goal with the best row's value. ``met`` is ``None`` where there is no goal or no value."""
    row = best.row if best else None
    drop = row.metric_drop.ci_high if row and row.metric_drop else None
    values = {
        "latency_ms": (budget.latency_ms, p50_ms(best) if best else None),
        "size_mb": (budget.size_mb, row.size_mb if row else None),
        "memory_mb": (budget.memory_mb, row.peak_memory_mb if row else None),
        "max_metric_drop": (budget.max_metric_drop, drop),
    }
    return {key: {"limit": limit, "value": value, "met": _met(value, limit)} for key, (limit, value) in values.items()}


def _met(value: float | None, limit: float | None) -> bool | None:
    return None if value is None or limit is None else value <= limit


def _ceilings(evidence: Sequence[Evidence], best: Evidence | None) -> dict[str, Any]:
    """What the result cannot exceed: arithmetic saved, the baseline's metric, the drop that the test split resolves."""
    if best is None:
        return {}
    row, twin = best.row, same_engine(evidence, best.row)
    reference = anchor(evidence, row) or metric_anchor(evidence, row)
    macs = reference.row.macs_g / row.macs_g if reference and reference.row.macs_g and row.macs_g else None
    ours, theirs = p50_ms(best), p50_ms(twin) if twin else None
    reached = theirs / ours if ours and theirs else None
    drop = half_width(row.metric_drop.ci_low, row.metric_drop.ci_high) if row.metric_drop else None
    words = []
    if macs and reached:
        words.append(
            f"It needs {significant(macs, 2)} times fewer multiply-adds than the baseline and is "
            f"{significant(reached, 2)} times as fast in the same engine ({engine_title(row)})."
        )
    if drop and row.metric_n:
        width = significant(100 * drop, 1)
        words.append(f"{row.metric_n:,} test items resolve a metric drop to about ±{width} points.")
    return {
        "macs_ratio": macs,
        "same_engine_speedup": reached,
        "baseline_metric": reference.row.metric if reference else None,
        "resolvable_drop": drop,
        "words": " ".join(words),
    }

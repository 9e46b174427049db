"""Whether compressing paid: fills the compared columns of every row and judges each candidate. Pure, torch-free.

The rule. A candidate row ``pays`` if the lower bound of ``speedup_best`` is above 1, or it meets a size or memory goal
of the budget that no baseline row which loses nothing meets already; **and** the upper bound of its paired metric drop
is within ``budget.max_metric_drop``. It ``does_not_pay`` if a bound lies on the wrong side: every way to gain is ruled
out, or the lower bound of the drop is above the budget. Everything between is ``inconclusive``.

``speedup_best`` compares with the baseline's own fastest engine that loses nothing: the lowest p50 among the baseline's
rows (not reference rows) at the same tower, device and shape whose metric drop against the baseline in ONNX Runtime
FP32 is at most :data:`~modelpress.report.evidence.LOSES_NOTHING` or has an interval that reaches 0.

An ``unstable`` row was timed under foreign load. That spoils timings, not answers or files: its speed-up decides
nothing (nor does that of a row compared with it), its metric drop, size and memory still do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from modelpress.report import findings, summary
from modelpress.report.comparisons import fill_quality, fill_speed
from modelpress.report.diagnosis import diagnose, fallback
from modelpress.report.evidence import DECIDING, Budget, Evidence, best_baseline, loses_nothing, measured, peers
from modelpress.report.findings import Finding

__all__ = ["Budget", "Evidence", "judge"]


def judge(
    evidence: Sequence[Evidence],
    labels: NDArray[Any] | None,
    budget: Budget,
    *,
    control_expected: bool,
    equal_expected: bool = False,
    metric: str = "accuracy",
) -> dict[str, Any]:
    """Fill the rows in place and return the report's overall verdict.

    ``labels``: (N,) class of every test item, in the order of all ``logits``; ``None`` where there are none, so that
    only speed and agreement are compared. Filled: ``metric``, ``metrics``, ``metric_n``, ``metric_drop``,
    ``agreement``, ``speedup``, ``speedup_best``, ``verdict``, ``why``, and in ``details`` ``reasons`` and
    ``p50_interval_ms``. Rows that answer NaN become ``failed``. ``metric``: the name of the task's, for sentences. For
    the returned dict see :func:`modelpress.report.summary.overall`.

    Raises :class:`ModelPressError` if a row answered another number of items than there are labels.
    """
    fill_quality(evidence, labels)
    fill_speed(evidence)
    for entry in measured(evidence, "candidate"):
        if entry.row.tower in DECIDING:
            _judge_row(evidence, entry, budget)
    expected = {"control_expected": control_expected, "equal_expected": equal_expected}
    return summary.overall(evidence, labels, budget, metric=metric, **expected)


def _judge_row(evidence: Sequence[Evidence], entry: Evidence, budget: Budget) -> None:
    row = entry.row
    gains = _gains(evidence, entry, budget)
    quality = findings.quality(row, budget)
    row.verdict = decide([gain.holds for gain in gains], quality.holds)
    notes = [fallback(row)] if row.verdict == "pays" else diagnose(evidence, entry)
    row.why = " ".join([_sentence(row.verdict, gains, quality), *filter(None, notes)])


def decide(gains: Sequence[bool | None], quality: bool | None) -> str:
    """One gain is enough, and quality must hold; ``None`` is an open answer.

    >>> decide([True, False], True), decide([False], True), decide([None], True), decide([None], False)
    ('pays', 'does_not_pay', 'inconclusive', 'does_not_pay')
    """
    gain = True if True in gains else None if None in gains else False
    if gain is False or quality is False:
        return "does_not_pay"
    return "pays" if gain and quality else "inconclusive"


def _gains(evidence: Sequence[Evidence], entry: Evidence, budget: Budget) -> list[Finding]:
    row = entry.row
    rivals = [e.row for e in peers(evidence, row) if loses_nothing(e.row)]
    sizes = [rival.size_mb for rival in rivals if rival.size_mb is not None]
    memories = [rival.peak_memory_mb for rival in rivals if rival.peak_memory_mb is not None]
    goals = [
        findings.goal("size", "MB", row.size_mb, budget.size_mb, sizes),
        findings.goal("peak memory", "MB", row.peak_memory_mb, budget.memory_mb, memories),
    ]
    return [findings.speed(row, best_baseline(evidence, row)), *(found for found in goals if found is not None)]


def _sentence(verdict: str, gains: Sequence[Finding], quality: Finding) -> str:
    """The findings that decided first, then the rest."""
    deciding = {"pays": True, "does_not_pay": False, "inconclusive": None}[verdict]
    found = [*gains, quality] if verdict == "pays" else [quality, *gains]
    words = "; ".join(finding.words for finding in sorted(found, key=lambda finding: finding.holds is not deciding))
    return words[:1].upper() + words[1:] + "."

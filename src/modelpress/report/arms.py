"""The best candidate against its control arms: the same effort without the technique, and a dense network as slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from numpy.typing import NDArray

from modelpress.report.comparisons import accuracy_gain, pairable
from modelpress.report.evidence import Evidence, is_reference_engine, measured
from modelpress.report.numbers import points_text, ratio_text
from modelpress.report.record import Interval, Ratio, Row
from modelpress.stage import EQUAL


def is_equal_arm(row: Row) -> bool:
    """Whether the row belongs to the arm of equal latency, which is no control of the training."""
    return row.role == "control" and row.stage == EQUAL


def compare_control(evidence: Sequence[Evidence], best: Evidence | None, labels: NDArray[Any] | None) -> dict[str, Any]:
    """Metric of the best candidate minus that of its control, paired; ``difference`` is ``None`` with the reason."""
    twin = _control_of(evidence, best) if best else None
    empty: dict[str, Any] = {"row": best.row.id if best else None, "against": None, "difference": None}
    if best is None:
        return empty | {"words": "Nothing was compressed, so there is nothing to control."}
    if twin is None:
        return empty | {"words": "No control arm was measured, so nothing shows what the technique itself is worth."}
    if best.logits is None or twin.logits is None or labels is None:
        return empty | {"against": twin.row.id, "words": "The metric was not measured for both arms."}
    gain = accuracy_gain(twin.logits, best.logits, labels)
    what = f" ({twin.row.details['description']})" if "description" in twin.row.details else ""
    words = f"Against its control arm{what} the metric changes by {points_text(gain)} points: {_sense(gain)}."
    return empty | {"against": twin.row.id, "difference": asdict(gain), "words": words}


def _sense(gain: Interval) -> str:
    if gain.ci_low > 0:
        return "the technique itself is worth something"
    if gain.ci_high < 0:
        return "without the technique it would be better"
    return "the interval includes 0, so the technique itself is not shown to help"


def _control_of(evidence: Sequence[Evidence], best: Evidence) -> Evidence | None:
    """The control in the same engine, precision and shape, else the nearest measured one of the same tower."""
    row = best.row
    controls = [e for e in measured(evidence, "control") if e.row.tower == row.tower and not is_equal_arm(e.row)]

    def distance(entry: Evidence) -> tuple[bool, ...]:
        other = entry.row
        same_kind = (other.engine, other.precision) == (row.engine, row.precision)
        return (entry.logits is None, not same_kind, not is_reference_engine(other), other.shape != row.shape)

    return min(controls, key=distance, default=None)


def compare_equal(
    evidence: Sequence[Evidence], best: Evidence | None, labels: NDArray[Any] | None
) -> dict[str, Any] | None:
    """The candidate against the dense arm of equal latency, in the same engine, precision and shape.

    ``row``, ``against``, ``difference`` (metric of the candidate over the arm, paired), ``ratio`` (how many times
    faster the candidate is than the arm, paired by round; it should be near 1) and ``words``. ``None`` without such a
    row.
    """
    twin = _equal_twin(evidence, best) if best else None
    if best is None or twin is None or best.logits is None or twin.logits is None or labels is None:
        return None
    gain, ratio = accuracy_gain(twin.logits, best.logits, labels), _speed(best, twin)
    what = str(twin.row.details.get("description", "a dense network"))
    speed = f", measured at {ratio_text(ratio)} the candidate's latency" if ratio else ""
    words = f"Against {what}{speed}, the metric changes by {points_text(gain)} points: {_equal_sense(gain)}."
    pair = {"row": best.row.id, "against": twin.row.id}
    return {**pair, "difference": asdict(gain), "ratio": asdict(ratio) if ratio else None, "words": words}


def _equal_twin(evidence: Sequence[Evidence], best: Evidence) -> Evidence | None:
    row = best.row
    place = (row.tower, row.engine, row.precision, row.shape)
    arms = [e for e in measured(evidence, "control") if is_equal_arm(e.row)]
    return next((e for e in arms if (e.row.tower, e.row.engine, e.row.precision, e.row.shape) == place), None)


def _speed(best: Evidence, twin: Evidence) -> Ratio | None:
    from modelpress.benchmark.statistics import ratio_interval

    if not (pairable(best) and pairable(twin)) or best.rounds is None or twin.rounds is None:
        return None
    found = ratio_interval(twin.rounds, best.rounds)
    return Ratio(twin.row.id, found.value, found.ci_low, found.ci_high)


def _equal_sense(gain: Interval) -> str:
    if gain.ci_low > 0:
        return "at this latency removing units is better than a smaller dense network"
    if gain.ci_high < 0:
        return "at this latency the smaller dense network is better"
    return "the interval includes 0, so at this latency neither is shown to be better"

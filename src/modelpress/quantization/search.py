"""Mixed precision: leave in float the fewest layers such that the metric's drop on validation stays within a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from modelpress.errors import ModelPressError
from modelpress.models.base import Batch, Model
from modelpress.quantization.attach import set_mode
from modelpress.quantization.sensitivity import Answers, Sensitivity, answers, as_table, groups, measure, switch

Track = Callable[[Iterable[Any], str], Iterable[Any]]


def search(
    model: Model, batches: Iterable[Batch], max_metric_drop: float, track: Track | None = None
) -> tuple[list[str], dict[str, Any]]:
    """Names of the layers to leave in float, and the report of the search (JSON).

    Groups are switched back to float in the order of their sensitivity; the fewest that keep the limit are found by
    bisection, then each is tried in INT8 again. The model is left with those layers in float. ``batches`` are gone
    through many times.

    Raises:
        ModelPressError: the limit is not a share.
    """
    if not 0 <= max_metric_drop < 1:
        raise ModelPressError(
            f"transform.max_metric_drop is {max_metric_drop}; allowed: 0 to 1 (0.005 is half a point)."
        )
    set_mode(model, "float")
    reference = answers(model, batches)
    set_mode(model, "int8")
    first = answers(model, batches).against(reference)[0]
    report: dict[str, Any] = {"max_metric_drop": max_metric_drop, "drop_all_int8": first, "drop": first}
    if first <= max_metric_drop:
        return [], {**report, "why": "INT8 everywhere keeps the limit"}
    ranking = measure(model, batches, track)
    chosen = _prune(
        model, batches, reference, max_metric_drop, _bisect(model, batches, reference, max_metric_drop, ranking)
    )
    drop = _drop(model, batches, reference, chosen)
    names = [name for row in chosen for name in row.layers]
    some = "1 layer stays float: with it" if len(names) == 1 else f"{len(names)} layers stay float: with them"
    why = f"{some} in INT8 the metric drops by {100 * first:.2f} points"
    return names, {**report, "drop": drop, "why": why, "sensitivity": as_table(ranking)}


def _bisect(
    model: Model, batches: Iterable[Batch], reference: Answers, limit: float, ranking: Sequence[Sensitivity]
) -> list[Sensitivity]:
    """The shortest head of the ranking whose return to float keeps the limit."""
    low, high = 0, len(ranking)  # high keeps it: everything in float drops nothing
    while high - low > 1:
        middle = (low + high) // 2
        if _drop(model, batches, reference, ranking[:middle]) <= limit:
            high = middle
        else:
            low = middle
    return list(ranking[:high])


def _prune(
    model: Model, batches: Iterable[Batch], reference: Answers, limit: float, chosen: Sequence[Sensitivity]
) -> list[Sensitivity]:
    """Without those that can return to INT8 after all, the least sensitive tried first."""
    kept = list(chosen)
    for row in reversed(chosen[:-1]):
        others = [other for other in kept if other is not row]
        if _drop(model, batches, reference, others) <= limit:
            kept = others
    return kept


def _drop(model: Model, batches: Iterable[Batch], reference: Answers, in_float: Sequence[Sensitivity]) -> float:
    """Metric drop with these groups in float; the model stays so."""
    known = groups(model)
    set_mode(model, "int8")
    for row in in_float:
        switch(known[row.layers], False)
    return answers(model, batches).against(reference)[0]

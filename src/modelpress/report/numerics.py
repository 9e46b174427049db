"""What was done to a network that is not float32, in one paragraph per stage. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

from modelpress.report.names import joined
from modelpress.report.numbers import fixed, significant
from modelpress.report.record import Report, Row

NAMED = 4  # layers that a sentence lists


def paragraphs(report: Report) -> list[str]:
    """One per model and stage whose rows have ``details["numerics"]``: the JSON of ``models.numerics.Numerics``."""
    found: dict[tuple[str, str], Row] = {}
    for row in report.rows:
        if row.details.get("numerics"):
            found.setdefault((row.model, row.stage), row)
    return [paragraph(row) for row in found.values()]


def paragraph(row: Row) -> str:
    """Sentences about one row's ``numerics``; what it does not say is left out."""
    numerics: Mapping[str, Any] = row.details["numerics"]
    sentences = _int8(numerics) if numerics["kind"] == "int8" else _sixteen(numerics)
    return f"{row.model} ({row.stage}): " + " ".join(f"{text}." for text in sentences if text)


def _int8(numerics: Mapping[str, Any]) -> list[str]:
    return [_what(numerics), _ranges(numerics), _balance(numerics), _in_float(numerics, "float"), _search(numerics)]


def _what(numerics: Mapping[str, Any]) -> str:
    share = numerics.get("coverage")
    rounded = None if share is None else floor(1000 * share) / 10  # 100 % only where nothing is left out
    words = "INT8" if rounded is None else f"INT8 for {rounded:g} % of the weights in matrices"
    activations = {"static": "activations in INT8 too", "dynamic": "activations quantized at run time"}
    parts = [words, activations.get(str(numerics.get("activations")), "")]
    parts.append("the products inside attention too" if numerics.get("attention") else "")
    return ", ".join(filter(None, parts))


def _ranges(numerics: Mapping[str, Any]) -> str:
    samples = numerics.get("samples")
    if samples is None:
        return ""
    on = f"on {samples:,} samples of the calibration split"
    if numerics.get("activations") == "dynamic":  # nothing is left of a range that was found
        return f"Prepared {on}"
    return f"Ranges by {numerics['calibrator']} {on}" if "calibrator" in numerics else ""


def _balance(numerics: Mapping[str, Any]) -> str:
    if "balance" not in numerics:
        return ""
    every = list(numerics["balance"].values())
    taken = sorted(alpha for alpha in every if alpha is not None)
    if not taken:
        return "Weights are not balanced against activations"
    span = f"{taken[0]:g}" if taken[0] == taken[-1] else f"{taken[0]:g} to {taken[-1]:g}"
    return f"Balanced (SmoothQuant) on {len(taken)} of {len(every)} inputs, alpha {span}"


def _search(numerics: Mapping[str, Any]) -> str:
    search = numerics.get("search")
    if not search:
        return ""
    limit, drop = (f"{100 * search[key]:.2f}" for key in ("max_metric_drop", "drop"))
    return f"Mixed-precision search on validation: {search['why']} (drop {drop} points, limit {limit})"


def _sixteen(numerics: Mapping[str, Any]) -> list[str]:
    kind = str(numerics["kind"]).upper()
    return [kind, _in_float(numerics, "float32"), _overflow(numerics, kind), _simulated(numerics)]


def _overflow(numerics: Mapping[str, Any], kind: str) -> str:
    found = numerics.get("overflow")
    if not found:
        return ""
    worst = max(found, key=lambda name: found[name])
    verb = "overflows" if len(found) == 1 else "overflow"
    return f"{len(found)} of them {verb} in {kind}, {worst} with values up to {found[worst]:,.0f}"


def _simulated(numerics: Mapping[str, Any]) -> str:
    if not {"difference", "agreement", "items"} <= numerics.keys():
        return ""
    return (
        f"On {numerics['items']:,} calibration samples the largest difference of a logit is "
        f"{significant(numerics['difference'])}, agreement {fixed(100 * numerics['agreement'], 1)} %"
    )


def _in_float(numerics: Mapping[str, Any], words: str) -> str:
    layers: Sequence[str] = numerics.get("float_layers") or ()
    if not layers:
        return ""
    rest = [f"{len(layers) - NAMED} more"] if len(layers) > NAMED else []
    return f"Left in {words}: {joined([*layers[:NAMED], *rest])}"

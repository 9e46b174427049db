"""Why a row is not faster: what its own numbers and ``details`` say. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from modelpress.report.evidence import Evidence, best_baseline, p50_ms, peers
from modelpress.report.names import ENGINE_TITLES, engine_title, joined
from modelpress.report.numbers import ratio_text, significant
from modelpress.report.record import Row

LAUNCH_BOUND_US = 20.0
"""Below so many microseconds per operator, dispatch is a large part of the time on today's CPUs and GPUs."""
SPARSE = 0.1
"""Share of zeros from which they are worth a word; rounding to eight bits alone leaves fewer."""


def diagnose(evidence: Sequence[Evidence], entry: Evidence) -> list[str]:
    """Sentences, the most telling first. Empty where nothing is known."""
    row = entry.row
    sentences = [fallback(row), *_engine_share(evidence, row), widths(row), _idle(evidence, entry)]
    sentences += [launches(entry), zeros(row), unfused(row)]
    return [sentence for sentence in sentences if sentence]


def fallback(row: Row) -> str:
    """The engine ran another precision than it was asked for."""
    asked = row.details.get("precision_asked", row.precision)
    if asked == row.precision:
        return ""
    return f"{str(asked).upper()} was asked for, but {ENGINE_TITLES[row.engine]} ran {row.precision.upper()}."


def widths(row: Row) -> str:
    """Matrix or head widths that leave the hardware's tiles partly empty."""
    multiple = row.details.get("kernel_multiple")
    odd = [width for width in row.details.get("widths", ()) if multiple and width % multiple]
    if not odd:
        return ""
    numbers = joined([str(width) for width in sorted(set(odd), reverse=True)])
    return f"Widths of {numbers} are no multiples of {multiple}: the kernels' tiles run partly empty."


def launches(entry: Evidence) -> str:
    """So little work per operator that launching them dominates."""
    count, p50 = entry.row.details.get("operators"), p50_ms(entry)
    if not count or p50 is None or 1000 * p50 / count >= LAUNCH_BOUND_US:
        return ""
    each = significant(1000 * p50 / count, 2)
    return f"Launch-bound: {count} operators share {significant(p50)} ms, {each} microseconds each."


def is_sparse(row: Row) -> bool:
    """Whether the zeros are many enough to speak of."""
    return row.sparsity is not None and row.sparsity >= SPARSE


def zeros(row: Row) -> str:
    """Zeros that no kernel skips."""
    packed = (row.details.get("engine", {}).get("sparse_weights") or {}).get("layers")
    if not row.sparsity or not is_sparse(row) or packed or row.details.get("sparse_kernels"):
        return ""
    note = packing(row)
    return (
        f"{100 * row.sparsity:.0f} % of the weights are zero, but {ENGINE_TITLES[row.engine]} reports no kernel "
        "that skips zeros: they cost as much as any other number." + (f" {note}" if note else "")
    )


def packing(row: Row) -> str:
    """Sparse weight decompression was asked for, and the runtime did not do it."""
    asked = row.details.get("engine", {}).get("sparse_weights")
    if not asked or asked["layers"]:
        return ""
    return f"Sparse weight decompression was asked for and no layer uses it: {asked['why']}."


def unfused(row: Row) -> str:
    """Patterns the engine did not fuse."""
    patterns = row.details.get("unfused")
    return f"The graph was not fused: {joined([str(p) for p in patterns])}." if patterns else ""


def same_engine(evidence: Sequence[Evidence], row: Row) -> Evidence | None:
    """The baseline in the row's own engine and precision."""
    kind = (row.engine, row.precision)
    return next((e for e in peers(evidence, row) if (e.row.engine, e.row.precision) == kind), None)


def _engine_share(evidence: Sequence[Evidence], row: Row) -> list[str]:
    """The speed-up belongs to the engine, not to the compression."""
    best = best_baseline(evidence, row)
    if best is None or best.row.speedup is None or row.speedup is None or row.speedup.ci_low <= 1:
        return []
    if best.row.speedup.ci_low <= 1:
        return []
    own, total = ratio_text(best.row.speedup, interval=False), ratio_text(row.speedup, interval=False)
    return [f"Of its {total} over ONNX Runtime FP32, {engine_title(best.row)} alone gives the baseline {own}."]


def _idle(evidence: Sequence[Evidence], entry: Evidence) -> str:
    """Fewer multiply-adds per second than the baseline reaches in the same engine."""
    twin = same_engine(evidence, entry.row)
    mine, theirs = _rate(entry), _rate(twin) if twin else None
    if mine is None or theirs is None or mine >= 0.5 * theirs:
        return ""
    return (
        f"It does {significant(mine, 2)} GMAC/s where the baseline does {significant(theirs, 2)} in the same engine: "
        "too little work per operator, or shapes that its kernels do not fill."
    )


def _rate(entry: Evidence) -> float | None:
    """10^9 multiply-adds per second."""
    p50 = p50_ms(entry)
    return None if entry.row.macs_g is None or not p50 else 1000 * entry.row.macs_g / p50

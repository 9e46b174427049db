"""The picture of bench.pruning: accuracy against what was asked to go, and against measured latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contest import Contest

STYLES = {  # kind -> colour (told apart with any colour vision), marker
    "unstructured": ("#3b82c4", "o"),
    "longer": ("#0b3d6e", "*"),
    "n:m": ("#c77700", "s"),
    "structured": ("#1f9d6b", "D"),
    "layers": ("#b0569b", "^"),
}


@dataclass(frozen=True)
class Point:
    """One network in one engine. ``drop``: points below the dense one, with its paired 95 % interval."""

    kind: str
    asked: str
    share: float  # of the weights that goes
    drop: tuple[float, float, float]
    p50_ms: float


def point(contest: Contest, kind: str, asked: str, key: str, shape: str) -> Point | None:
    """``None`` if the network was not measured or has no test answers."""
    row, quality = contest.row(key, shape), contest.quality(key)
    if row is None or row.latency_ms is None or row.latency_ms.p50 is None or quality is None:
        return None
    drop = quality[1]
    values = (100 * drop.value, 100 * drop.ci_low, 100 * drop.ci_high)
    return Point(kind, asked, share_of(asked), values, row.latency_ms.p50)


def share_of(asked: str) -> float:
    """
    >>> share_of("70%"), share_of("1:4")
    (0.7, 0.75)
    """
    if asked.endswith("%"):
        return float(asked[:-1]) / 100
    kept, of = asked.split(":")
    return 1 - int(kept) / int(of)


def draw(path: Path, points: Sequence[Point], dense_ms: float, engine: str) -> None:
    """Two panels as SVG: points lost against the share that goes, and against p50."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "modelpress"  # the same numbers, the same file
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for kind, own in by_kind(points).items():
        _curve(left, kind, [100 * one.share for one in own], own)
        _curve(right, kind, [one.p50_ms for one in own], own)
    right.axvline(dense_ms, color="#858a93", linestyle=":", label="dense")
    left.set(xlabel="weights asked to go, %", ylabel="accuracy points lost to the dense network (95 %)")
    right.set(xlabel=f"p50 of one request of 128 tokens, ms ({engine})", xlim=(0, None))
    left.invert_yaxis()
    for axes in (left, right):
        axes.axhline(0, color="#858a93", linewidth=0.8)
        axes.grid(alpha=0.25)
    right.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def by_kind(points: Sequence[Point]) -> Mapping[str, list[Point]]:
    """The kinds that have a style, each from little to much."""
    kinds = {kind: [one for one in points if one.kind == kind] for kind in STYLES}
    return {kind: sorted(own, key=lambda one: one.share) for kind, own in kinds.items() if own}


def _curve(axes: Any, kind: str, xs: Sequence[float], points: Sequence[Point]) -> None:
    colour, marker = STYLES[kind]
    ys = [one.drop[0] for one in points]
    bars = [[one.drop[0] - one.drop[1] for one in points], [one.drop[2] - one.drop[0] for one in points]]
    axes.errorbar(xs, ys, yerr=bars, color=colour, marker=marker, capsize=3, label=kind)
    for x, one in zip(xs, points, strict=True):
        axes.annotate(one.asked, (x, one.drop[0]), textcoords="offset points", xytext=(6, 5), fontsize=8, color=colour)

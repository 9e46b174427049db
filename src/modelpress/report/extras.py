"""What the HTML report shows besides report.json: curves, raw traces and diagnostics. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Series = tuple[Sequence[float], Sequence[float]]


@dataclass
class Curve:
    """The training of one stage. ``steps``: metric name -> (optimizer steps, values), as logged.

    Names decide the panel, see :func:`panel_of`.
    """

    stage: str
    role: str
    steps: dict[str, Series]


@dataclass
class Extras:
    """``traces``: row id -> milliseconds of every query. ``diagnostics``: dicts of ``name``, ``value``, ``meaning``."""

    curves: list[Curve] = field(default_factory=list)
    traces: dict[str, list[float]] = field(default_factory=dict)
    diagnostics: list[dict[str, Any]] = field(default_factory=list)


def panel_of(name: str) -> str:
    """The panel of a logged metric: ``rate``, ``validation``, ``total``, ``part``, ``reshaping`` or ``other``.

    >>> [panel_of(name) for name in ("lr-AdamW", "val/accuracy", "train/loss", "train/soft", "transform/sparsity")]
    ['rate', 'validation', 'total', 'part', 'reshaping']
    """
    lowered = name.lower()
    words = lowered.replace("-", "/").replace("_", "/").split("/")
    if "lr" in words or "rate" in words:
        return "rate"
    if words[0] in ("val", "valid", "validation"):
        return "validation"
    if lowered in ("loss", "train/loss", "train_loss", "train/loss/total", "train/loss_total", "train/total"):
        return "total"
    if words[0] == "transform":
        return "reshaping"
    return "part" if words[0] in ("train", "loss") else "other"


def part_name(name: str) -> str:
    """``train/loss/soft`` -> ``soft``."""
    short = name
    for prefix in ("train/", "train_", "loss/", "loss_"):
        short = short.removeprefix(prefix)
    return short

"""Validation curves of a search's jobs, and when one of them is so far behind that it need not go on. Torch-free.

A curve stands in ``curve.json`` of its job's folder, so jobs in other processes and on other machines see it too.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelpress.status import jobs
from modelpress.store import write_atomic
from modelpress.sweep.rules import Rules

FILE = "curve.json"
STARTUP = 4  # jobs that must have finished before any is stopped
Curve = Mapping[int, float]  # optimizer step -> metric on the validation split, higher is better


def read(job: Path) -> dict[int, float]:
    """The curve of a job so far; empty where its last stage was not trained for it."""
    path = job / FILE
    if not path.is_file():
        return {}
    return {int(step): float(value) for step, value in json.loads(path.read_text(encoding="utf-8"))}


def write(job: Path, curve: Curve) -> None:
    """Leave it where the other jobs look."""
    write_atomic(job / FILE, json.dumps([[step, value] for step, value in curve.items()]) + "\n")


def against(job: Path, curve: Curve, rules: Rules) -> str | None:
    """Why the job in this folder need not go on: it is worse than its search's other jobs were at this step.

    Only finished ones that keep to the limits count: a larger network that cannot win is no yardstick.
    """
    done = [place for place, record in jobs(job.parent).items() if record.get("status") == "done"]
    others = [read(place) for place in done if rules.within(place)]
    if (median := behind(curve, others)) is None:
        return None
    best = max(curve.values())
    return f"metric {best:.4g} on validation by step {max(curve)}, where half of the jobs had {median:.4g} or more"


def behind(curve: Curve, others: Sequence[Curve]) -> float | None:
    """The median of the others' values at the newest step of ``curve``, if its best value so far lies below that.

    The rule of Optuna's ``MedianPruner`` (Golovin et al., "Google Vizier", KDD 2017). ``None`` at the first validation,
    or while fewer than :data:`STARTUP` others have a value there.

    >>> behind({1: 0.5, 2: 0.6}, [{2: 0.7}, {2: 0.9}, {2: 0.5}, {2: 0.8}])
    0.75
    """
    newest = max(curve)
    values = [other[newest] for other in others if newest in other]
    if len(curve) < 2 or len(values) < STARTUP:
        return None
    median = statistics.median(values)
    return median if max(curve.values()) < median else None

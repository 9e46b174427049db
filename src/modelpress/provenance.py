"""What a report rests on: training curves, what stages noticed, store entries, machine states, seconds."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from modelpress.benchmark.machine import machine
from modelpress.code_version import code_version
from modelpress.store import Entry

if TYPE_CHECKING:
    from modelpress.pressing import Pressing


def curves(pressing: Pressing) -> list[Any]:
    """Training curves of every stage of the run, from the store."""
    from modelpress.curves import FILE, read
    from modelpress.report.extras import Curve

    found = []
    for stage in pressing.graph.order:
        series: dict[str, Any] = {}
        for line in read(pressing.done[stage].folder / FILE):
            for name, value in line["metrics"].items():
                xs, ys = series.setdefault(name.removeprefix(f"{stage.name}/"), ([], []))
                xs.append(line["step"])
                ys.append(value)
        if series:
            found.append(Curve(stage.title, stage.role, series))
    return found


def diagnostics(pressing: Pressing) -> list[dict[str, Any]]:
    """What the stages noticed about their own training."""
    found: list[dict[str, Any]] = []
    for stage in pressing.graph.order:
        path = pressing.done[stage].folder / "diagnostics.json"
        for line in json.loads(path.read_text()) if path.is_file() else []:
            found.append({"stage": stage.title, **line})
    return found


def lineage(pressing: Pressing) -> list[Entry]:
    """Every store entry that the report rests on, sources first."""
    stages = [pressing.done[stage] for stage in pressing.graph.order]
    return [*stages, *(item.export for item in pressing.pressed), pressing.measurement]


def environment(pressing: Pressing) -> dict[str, Any]:
    """The machine before and after the measurement, and now; and which code wrote the report."""
    session = pressing.session
    machines = {"before": session.machine_before, "after": session.machine_after, "report": machine()}
    return {**machines, "code": code_version()}


def seconds(pressing: Pressing) -> dict[str, float]:
    """Wall time of this run, and what each part cost when it was made."""
    parts = {entry.name: round(entry.seconds, 1) for entry in lineage(pressing)}
    return {"total": round(time.time() - pressing.started, 1), **parts}

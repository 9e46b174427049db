"""The table at the end of a sweep: every job with what it was given and what came out, and why the failed ones failed.

It is read from the jobs' own files, so it shows the jobs of an earlier part of the sweep too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelpress.errors import ModelPressError
from modelpress.report.record import Row, load
from modelpress.status import BUG_FILE, TRAINED, jobs, was_killed
from modelpress.sweep import columns, space

SEARCH = "search.json"  # written by a search: which jobs are best
WIDTH = 100
Line = list[str]


def show(folder: Path) -> int:
    """Print the table, and on stderr what failed and the command of each; returns the exit code."""
    found = jobs(folder)
    for line in table(found, best_jobs(folder)):
        print(line)
    print(f"\n{relative(folder)}  (the same command runs only what is missing here)")
    failed = {place: record for place, record in found.items() if state_of(record) in ("failed", "killed")}
    if not failed:
        return 0
    print(f"{len(failed)} of the sweep's jobs failed; the others are complete.", file=sys.stderr)
    for place, record in failed.items():
        reason = record.get("reason") or "its process was killed"
        print(f"\n{relative(place)}\n{reason}\n  {record.get('command', '')}", file=sys.stderr)
    for bug in [place / BUG_FILE for place in failed if (place / BUG_FILE).is_file()][:1]:
        print(f"\nTraceback: {relative(bug)}", file=sys.stderr)
    return 1


def table(found: Mapping[Path, Mapping[str, Any]], best: Sequence[str] = ()) -> Line:
    """One line per job under a header: number, what differs, status, metric, p50, verdict, or the reason."""
    keys = list(dict.fromkeys(key for record in found.values() for key in record.get("swept", {})))
    titles = space.short(keys)
    lines = [["job", *titles.values(), "status", "metric", "p50 ms", "verdict"]]
    for place, record in found.items():
        swept = [str(record.get("swept", {}).get(key, "")) for key in keys]
        mark = "*" if place.name in best else ""
        lines.append([f"{place.name}{mark}", *swept, state_of(record), *figures(place, record)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    padded = ["  ".join([*map(str.ljust, line, widths), line[-1]]).rstrip() for line in lines]
    legend = ["* best of the search" + (" (the Pareto front)" if len(best) > 1 else "")] if best else []
    return ["", *padded, *legend]


def figures(place: Path, record: Mapping[str, Any]) -> Line:
    """Metric, p50 and verdict of a finished job; the first line of the reason of another."""
    if state_of(record) == TRAINED:
        return ["", "", "waiting to be measured"]
    if state_of(record) != "done":
        return ["", "", (record.get("reason") or "").partition("\n")[0][:WIDTH]]
    row = _best_row(place)
    if row is None:
        metric = record.get("score")
        return [f"{metric:.4g}" if metric is not None else "", "", ""]
    p50 = columns.value(row, "latency_ms.p50")
    return [f"{row.metric:.4f}" if row.metric is not None else "", f"{p50:.3g}" if p50 else "", row.verdict or ""]


def state_of(record: Mapping[str, Any]) -> str:
    """``done``, ``failed``, ``trained``, ``running``, or ``killed`` for one whose process is gone."""
    return "killed" if was_killed(record) else str(record.get("status", "damaged"))


def best_jobs(folder: Path) -> list[str]:
    """Names of the jobs that a search found best; empty for a plain sweep."""
    path = folder / SEARCH
    if not path.is_file():
        return []
    best: list[str] = json.loads(path.read_text(encoding="utf-8"))["best"]
    return best


def relative(path: Path) -> Path:
    """A path as seen from here, if it lies below."""
    here, path = Path.cwd(), path.absolute()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _best_row(place: Path) -> Row | None:
    try:
        return columns.best_row(load(place / "report.json"))
    except ModelPressError:
        return None

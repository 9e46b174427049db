"""The lines of a comparison: rows of runs, seeds taken together, filtered, sorted, the Pareto front marked."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modelpress.compare import where
from modelpress.compare.choose import Pick, best_rows, every_row, recipe
from modelpress.compare.columns import IDENTITY, direction, row_columns, row_values, run_values
from modelpress.compare.overrides import Value, as_number, spelled
from modelpress.compare.pareto import front
from modelpress.compare.run import Run
from modelpress.report.record import ROLES, Row

Scene = tuple[str, str, str, str]
COUNTED = ("status", "verdict", "complete")  # "2 ok, 1 unstable"
VARIES = ("run", "name", "command", "started", "seed")  # of the members of one line


@dataclass
class Line:
    """One line: the same row of runs that differ only in their seed; ``rows`` is empty where there is no report.

    ``values``: means of numbers, texts where they agree. ``spreads``: sample standard deviation over seeds of what was
    measured, where there are two or more. ``older``: how many earlier runs of the same seeds were left out of it.
    """

    runs: list[Run]
    rows: list[Row]
    values: dict[str, Value]
    spreads: dict[str, float] = field(default_factory=dict)
    older: int = 0
    front: bool = False

    @property
    def role(self) -> str:
        return self.rows[0].role if self.rows else "none"

    @property
    def scene(self) -> Scene | None:
        """What may be compared: the same data, machine, device and shape. ``None`` without a report."""
        if not self.rows:
            return None
        origin, report = self.runs[0].origin, self.runs[0].report
        fingerprint = str(report.dataset.get("fingerprint", ""))[:8] if report else ""
        return f"{origin.dataset}#{fingerprint}", origin.machine, self.rows[0].device, self.rows[0].shape


def compare(
    runs: Sequence[Run],
    conditions: Sequence[where.Condition] = (),
    *,
    every: bool = False,
    seeds_apart: bool = False,
) -> list[Line]:
    """The lines of ``runs`` that fulfil all ``conditions``; runs without a report are kept unless a condition on runs
    excludes them.

    ``every``: all rows instead of the best and its baselines. ``seeds_apart``: no grouping.
    """
    of_run, of_row, of_line = where.stages(conditions)
    names = list(dict.fromkeys(name for run in runs for name in run.overrides))
    asked = list(dict.fromkeys([*names, *(condition.column for condition in of_run)]))
    chosen = [run for run in runs if _fits({**_settings(run, asked), **run_values(run)}, of_run)]

    def wanted(row: Row) -> bool:
        return all(condition.holds({condition.column: getattr(row, condition.column)}) for condition in of_row)

    picks = every_row(chosen, wanted) if every else best_rows(chosen, wanted)
    lines = [_line(group, names, older) for group, older in _groups(picks, seeds_apart)]
    lines += [Line([run], [], {**_settings(run, names), **run_values(run)}) for run in chosen if run.report is None]
    return [line for line in lines if _fits(line.values, [c for c in of_line if line.rows or c.column in line.values])]


def mark_front(lines: Sequence[Line], x: str, y: str) -> bool:
    """Mark the Pareto front of every scene; ``False`` where it is not known which way of a column is better."""
    ways = direction(x), direction(y)
    if ways[0] is None or ways[1] is None:
        return False
    for scene in {line.scene for line in lines if line.rows}:
        placed = [(line, point) for line in lines if line.scene == scene and (point := _point(line, x, y))]
        for index in front([point for _, point in placed], ways[0], ways[1]):
            placed[index][0].front = True
    return True


def sort(lines: Sequence[Line], column: str, *, reverse: bool = False) -> list[Line]:
    """Best first where a direction is known, else ascending; what has no value stands last either way."""
    down = (direction(column) == 1) != reverse
    having = [line for line in lines if line.values.get(column) is not None]
    ordered = sorted(having, key=lambda line: _sortable(line.values[column]), reverse=down)
    return [*ordered, *(line for line in lines if line.values.get(column) is None)]


def in_reading_order(lines: Sequence[Line], x: str) -> list[Line]:
    """By role, then the best ``x`` first; runs without a report at the end."""
    order = (*ROLES, "none")
    return sorted(sort(lines, x), key=lambda line: order.index(line.role))


def swept(lines: Sequence[Line], runs: Sequence[Run]) -> list[str]:
    """The overrides that differ between the lines (baselines aside), in the order in which commands name them.

    Those that a row says itself (``model``, ``engine``) have columns of their own.
    """
    names = dict.fromkeys(name for run in runs for name in run.overrides if name not in IDENTITY)
    own = [line for line in lines if line.role != "baseline"]
    return [name for name in names if len({spelled(line.values.get(name)) for line in own}) > 1]


def _fits(values: Mapping[str, Value], conditions: Sequence[where.Condition]) -> bool:
    return all(condition.holds(values) for condition in conditions)


def _settings(run: Run, names: Sequence[str]) -> dict[str, Value]:
    return {name: run.setting(name) for name in names}


def _groups(picks: Sequence[Pick], seeds_apart: bool) -> list[tuple[list[Pick], int]]:
    """Picks of one line, the newest of each seed, and how many older ones that leaves out."""
    groups: dict[tuple[str, ...], list[Pick]] = {}
    for run, row in picks:
        groups.setdefault(_key(run, row, seeds_apart), []).append((run, row))
    found = []
    for group in groups.values():
        newest = {run.seed: (run, row) for run, row in sorted(group, key=_age)}
        members = [newest[seed] for seed in sorted(newest, key=lambda seed: -1 if seed is None else seed)]
        found.append((members, len(group) - len(members)))
    return found


def _age(pick: Pick) -> tuple[str, str]:
    return pick[0].started, str(pick[0].folder)


def _key(run: Run, row: Row, seeds_apart: bool) -> tuple[str, ...]:
    """A baseline is the same in all runs that share its stage, whatever they made of it."""
    stage = run.origin.stages.get(row.id.rsplit("/", 3)[0])
    scene = Line([run], [row], {}).scene or ()
    if row.role == "baseline" and stage is not None:
        return (row.id, stage, *scene, str(run.seed) if seeds_apart else "")
    return (row.id, recipe(run), *scene, str(run.folder) if seeds_apart else "")


def _line(picks: Sequence[Pick], names: Sequence[str], older: int) -> Line:
    runs, rows = [run for run, _ in picks], [row for _, row in picks]
    own = [] if rows[0].role == "baseline" else names
    each = [
        {**_settings(run, own), **run_values(run), **row_values(row), "status": _status(run, row)} for run, row in picks
    ]
    keys = list(dict.fromkeys(key for values in each for key in values))
    measured = {*row_columns(), *(key for key in keys if key.startswith("metrics."))} - {*IDENTITY, "metric_n"}
    columns = {key: [values.get(key) for values in each] for key in keys}
    spreads = {key: spread for key in measured & set(keys) if (spread := _spread(columns[key])) is not None}
    return Line(runs, rows, {key: _together(key, entries) for key, entries in columns.items()}, spreads, older)


def _status(run: Run, row: Row) -> str:
    return row.status if run.status == "done" else run.status


def _spread(entries: Sequence[Value]) -> float | None:
    numbers = [number for entry in entries if (number := as_number(entry)) is not None]
    if len(numbers) < 2 or len(numbers) < len(entries):
        return None
    if len(set(numbers)) == 1:  # exactly none, whatever rounding says
        return 0.0
    mean = statistics.fmean(numbers)
    return math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1))


def _together(key: str, entries: Sequence[Value]) -> Value:
    """The mean of numbers; what is the same everywhere; otherwise all of it."""
    if len(set(entries)) == 1:
        return entries[0]
    numbers = [number for entry in entries if (number := as_number(entry)) is not None]
    if len(numbers) == len(entries) and key not in VARIES:
        return statistics.fmean(numbers)
    if key in COUNTED:
        return ", ".join(f"{entries.count(entry)} {spelled(entry)}" for entry in dict.fromkeys(entries))
    return ", ".join(spelled(entry) for entry in dict.fromkeys(entries))


def _point(line: Line, x: str, y: str) -> tuple[float, float] | None:
    across, up = as_number(line.values.get(x)), as_number(line.values.get(y))
    return None if across is None or up is None else (across, up)


def _sortable(value: Value) -> tuple[bool, float, str]:
    number = as_number(value)
    return number is None, number or 0.0, spelled(value)

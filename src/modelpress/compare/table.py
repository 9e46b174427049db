"""The comparison in a terminal: as many columns as the width holds, one block per scene, then what has no report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelpress.compare.columns import short_names
from modelpress.compare.lines import Line, Scene
from modelpress.compare.texts import Column, title_of

if TYPE_CHECKING:
    from rich.console import Console

WIDEST = 30  # of one cell
MOST_LISTED = 20  # runs without a report that are spelled out


@dataclass(frozen=True)
class Comparison:
    """Everything a table or a page shows. ``fronted``: whether the front could be marked."""

    lines: Sequence[Line]
    swept: Sequence[str]
    x: str
    y: str
    fronted: bool
    remarks: Sequence[str] = field(default_factory=tuple)

    @property
    def metric(self) -> str:
        """Name of the task's metric; ``metric`` where runs of several tasks stand together."""
        names = {run.report.task_metric for line in self.lines for run in line.runs if run.report}
        return names.pop() if len(names) == 1 else "metric"

    @property
    def scenes(self) -> list[Scene]:
        """In the order of the lines."""
        return list(dict.fromkeys(scene for line in self.lines if (scene := line.scene) is not None))

    def varies(self, key: str) -> bool:
        """Whether lines with rows differ in a column."""
        return len({line.values.get(key) for line in self.lines if line.rows}) > 1


def columns(comparison: Comparison) -> list[Column]:
    """The terminal's columns, in reading order; swept parameters first."""
    short = short_names(comparison.swept, _taken(comparison))
    swept = [Column(key, short[key], 1 if index < 4 else 6) for index, key in enumerate(comparison.swept)]
    asked = [Column(key, title_of(key, comparison.metric), 0) for key in (comparison.y, comparison.x)]
    fixed = [
        Column("metric", title_of("metric", _short(comparison.metric)), 1),
        Column("metric_drop.value", "drop", 5),
        Column("latency_ms.p50", "p50 ms", 1),
        Column("speedup_best.ratio", "x best", 2),
        Column("speedup.ratio", "x ORT", 7),
        Column("size_mb", "MB", 3),
        Column("throughput_per_s", "items/s", 9),
        Column("peak_memory_mb", "RAM MB", 10),
    ]
    asked = [column for column in asked if column.key not in {entry.key for entry in fixed}]
    grouped = any(len(line.runs) > 1 for line in comparison.lines)
    seeds = [Column("n", "seeds", 1)] if grouped else [Column("seed", "seed", 1)] if comparison.varies("seed") else []
    front = [Column("front", "", 0, right=False)] if comparison.fronted else []
    role = [
        Column("role", "role", 4, right=False),
        Column("model", "model", 1 if comparison.varies("model") else 3, False),
    ]
    names = [Column("name", "name", 8, right=False)] if comparison.varies("name") else []
    row = [Column("row", "engine", 0, right=False)]
    end = [Column("outcome", "verdict", 0, right=False)]
    return [*front, *names, *role, *swept, *row, *asked, *fixed, *seeds, *end]


def _taken(comparison: Comparison) -> set[str]:
    """Headings and column names that the short name of a parameter must not look like."""
    return {"metric", "model", "role", "engine", "seed", "name", "status", "sparsity", comparison.x, comparison.y}


def fitting(chosen: Sequence[Column], lines: Sequence[Line], width: int) -> list[tuple[Column, int]]:
    """The columns that fit, with their widths. Empty ones go first, then the highest ranks."""
    sized = [(column, _width(column, lines)) for column in chosen]
    sized = [(column, size) for column, size in sized if column.rank == 0 or _says_something(column, lines)]
    while sum(size for _, size in sized) + 2 * (len(sized) - 1) > width:
        last = max(sized, key=lambda pair: pair[0].rank)
        if last[0].rank == 0:
            break
        sized.remove(last)
    return sized


def _width(column: Column, lines: Sequence[Line]) -> int:
    return max(len(column.title), *(min(WIDEST, len(column.text(line))) for line in lines))


def _says_something(column: Column, lines: Sequence[Line]) -> bool:
    return any(column.text(line) not in ("", "–") for line in lines)


def render(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table, what has no report, and how to read it."""
    from rich.console import Console

    console = console or Console()
    lines = comparison.lines
    if lines:
        sized = fitting(columns(comparison), lines, console.width)
        console.print(_text([column.title for column, _ in sized], sized), style="bold", no_wrap=True, highlight=False)
        for heading, part in blocks(comparison):
            if heading:
                console.print(f"[bold blue]{_escape(heading)}[/]", highlight=False)
            for line in part:
                _print(line, sized, console)
    for note in notes(comparison):
        console.print(f"[dim]{_escape(note)}[/dim]", highlight=False)


def blocks(comparison: Comparison) -> list[tuple[str, list[Line]]]:
    """Lines under a heading per scene (none where there is only one); those without a report at the end."""
    scenes = comparison.scenes
    found = [
        (
            scene_title(scene, scenes) if len(scenes) > 1 else "",
            [line for line in comparison.lines if line.scene == scene],
        )
        for scene in scenes
    ]
    rest = [line for line in comparison.lines if line.scene is None]
    return [*found, *([("without a report", rest)] if rest else [])]


def scene_title(scene: Scene, scenes: Sequence[Scene]) -> str:
    """Only what tells the scenes apart; the shape always."""
    parts = [_dataset(scene, scenes)] if len({other[0] for other in scenes}) > 1 else []
    parts += [f"{scene[3]}"]
    parts += [scene[index] for index in (1, 2) if len({other[index] for other in scenes}) > 1]
    return " · ".join(filter(None, parts))


def _dataset(scene: Scene, scenes: Sequence[Scene]) -> str:
    """The data's name; with its fingerprint where two data sets have one name."""
    name, _, fingerprint = scene[0].partition("#")
    twins = {other[0] for other in scenes if other[0].partition("#")[0] == name}
    return f"{name} ({fingerprint})" if len(twins) > 1 else name


def notes(comparison: Comparison, most: int = MOST_LISTED) -> list[str]:
    """What stands behind the table, in sentences; at most so many runs without a report are spelled out."""
    lines = [line for line in comparison.lines if line.rows]
    found = [*comparison.remarks]
    if comparison.fronted and lines:
        found.append(
            f"★ Pareto front of {comparison.y} against {comparison.x}, within one data set, machine and shape."
        )
    if any(line.spreads for line in lines):
        found.append("± is the sample standard deviation over seeds.")
    found += _warnings(lines)
    return found + _unfinished(comparison.lines, most)


def _warnings(lines: Sequence[Line]) -> list[str]:
    shaky = sum("unstable" in str(line.values.get("status")) for line in lines)
    older = sum(line.older for line in lines if line.role != "baseline")
    mixed = sum(len({run.origin.code for run in line.runs}) > 1 for line in lines if line.role != "baseline")
    found = []
    if shaky:
        found.append(f"{shaky} of {len(lines)} lines rest on unstable timings: their speed decides nothing.")
    if older:
        found.append(f"{older} earlier rows of the same settings and seed are left out; --each shows every run.")
    if mixed:
        found.append(f"{mixed} lines join seeds of different code or library versions: `modelpress why RUN_A RUN_B`.")
    return found


def _unfinished(lines: Sequence[Line], most: int) -> list[str]:
    runs = {run.folder: run for line in lines for run in line.runs if run.status != "done"}
    listed = [f"{run.status}: {folder}: {_first(run.reason)}" for folder, run in runs.items()]
    more = len(listed) - most
    return listed[:most] + ([f"… and {more} more: `modelpress runs` lists all."] if more > 0 else [])


def _first(reason: str) -> str:
    return reason.strip().partition("\n")[0] or "no reason was recorded."


def _print(line: Line, sized: Sequence[tuple[Column, int]], console: Console) -> None:
    style = "bold" if line.front else "dim" if line.values.get("status") != "ok" else ""
    texts = [_cut(column.text(line), size) for column, size in sized]
    console.print(_escape(_text(texts, sized)), style=style, no_wrap=True, highlight=False, overflow="ellipsis")


def _cut(text: str, size: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= size else flat[: size - 1] + "…"


def _text(texts: Sequence[str], sized: Sequence[tuple[Column, int]]) -> str:
    padded = [t.rjust(size) if column.right else t.ljust(size) for t, (column, size) in zip(texts, sized, strict=True)]
    return "  ".join(padded).rstrip()


def _short(metric: str) -> str:
    return {"accuracy": "acc"}.get(metric, metric)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)

"""The Pareto chart as a plain plotly dict. Points carry their line's number, by which the page filters them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from modelpress.compare.columns import PER_CENT, direction, matches
from modelpress.compare.lines import Line, Scene
from modelpress.compare.overrides import Value, as_number, spelled
from modelpress.compare.table import Comparison
from modelpress.compare.texts import cell, outcome, row_text, title_of
from modelpress.report.figures import FILLS, ROLE_COLOURS, SYMBOLS, Figure, base_layout
from modelpress.report.numbers import wilson
from modelpress.report.record import ROLES


def scatter(comparison: Comparison, scene: Scene) -> Figure | None:
    """``y`` against ``x`` of one scene with its front; ``None`` where no line has both. Bars: see :func:`_bounds`."""
    placed = placed_lines(comparison, scene)
    if not placed:
        return None
    traces = [_points(comparison, role, group) for role in ROLES if (group := [p for p in placed if p[1].role == role])]
    titles = [_axis(comparison, key) for key in (comparison.x, comparison.y)]
    layout = base_layout(460, f"{titles[0]} ({scene[3]})", titles[1])
    layout["legend"] = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    return {"data": [*_front(comparison, placed), *traces], "layout": layout}


def hover(comparison: Comparison, line: Line) -> str:
    """What a point says: the row, the overrides that differ, its figures."""
    facts = [(key, line.values.get(key)) for key in comparison.swept]
    own = [f"{escape(key)} = {escape(spelled(value))}" for key, value in facts if line.role != "baseline"]
    keys = dict.fromkeys([comparison.y, comparison.x, "metric_drop.value", "speedup_best.ratio", "size_mb"])
    figures = [f"{escape(title_of(key, comparison.metric))} {escape(cell(line, key))}" for key in keys]
    seeds = f"{len(line.runs)} seeds" if len(line.runs) > 1 else f"seed {spelled(line.values.get('seed'))}"
    head = f"<b>{escape(str(line.values.get('model')))} {row_text(line)}</b> {line.role}"
    return "<br>".join(filter(None, [head, *own, *figures, seeds, escape(outcome(line))]))


def placed_lines(comparison: Comparison, scene: Scene) -> list[tuple[int, Line]]:
    """Lines of a scene that have both coordinates, with their numbers."""
    keys = (comparison.x, comparison.y)
    lines = [(number, line) for number, line in enumerate(comparison.lines) if line.scene == scene]
    return [entry for entry in lines if all(as_number(entry[1].values.get(key)) is not None for key in keys)]


def scaled(key: str, value: Value) -> float:
    """As drawn: shares in per cent."""
    return (as_number(value) or 0.0) * (100 if matches(key, PER_CENT) else 1)


def coordinates(comparison: Comparison, line: Line) -> tuple[float, float]:
    """Where a line stands in the chart."""
    x, y = comparison.x, comparison.y
    return scaled(x, line.values.get(x)), scaled(y, line.values.get(y))


def _points(comparison: Comparison, role: str, placed: Sequence[tuple[int, Line]]) -> Figure:
    lines = [line for _, line in placed]
    at = [coordinates(comparison, line) for line in lines]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": role,
        "x": [x for x, _ in at],
        "y": [y for _, y in at],
        "error_x": _bars(lines, comparison.x, role),
        "error_y": _bars(lines, comparison.y, role),
        "hovertext": [hover(comparison, line) for line in lines],
        "hoverinfo": "text",
        "customdata": [number for number, _ in placed],
        "cliponaxis": False,
        "marker": {
            "color": ROLE_COLOURS[role],
            "size": [13 if line.front else 9 for line in lines],
            "symbol": [SYMBOLS[line.rows[0].engine] + FILLS[line.rows[0].precision] for line in lines],
            "line": {"width": 1.5, "color": ROLE_COLOURS[role]},
        },
    }


def _front(comparison: Comparison, placed: Sequence[tuple[int, Line]]) -> list[Figure]:
    """A dashed line through the front."""
    at = sorted(coordinates(comparison, line) for _, line in placed if line.front)
    if len(at) < 2:
        return []
    shared = {"type": "scatter", "mode": "lines", "name": "Pareto front", "hoverinfo": "skip"}
    dash = {"dash": "dot", "width": 1.5, "color": ROLE_COLOURS["reference"]}
    return [shared | {"x": [x for x, _ in at], "y": [y for _, y in at], "line": dash}]


def _bars(lines: Sequence[Line], key: str, role: str) -> Figure:
    bounds = [_bounds(line, key) for line in lines]
    return {
        "type": "data",
        "symmetric": False,
        "array": [up for _, up in bounds],
        "arrayminus": [down for down, _ in bounds],
        "color": ROLE_COLOURS[role],
        "thickness": 1,
        "width": 3,
    }


def _bounds(line: Line, key: str) -> tuple[float, float]:
    """Down and up: the standard deviation over seeds; of one run the 95 % interval of its metric or median."""
    row, value = line.rows[0], as_number(line.values.get(key)) or 0.0
    if key in line.spreads:
        spread = scaled(key, line.spreads[key])
        return spread, spread
    interval = row.details.get("p50_interval_ms") if key == "latency_ms.p50" else None
    if key == "metric" and row.metric_n:
        interval = wilson(value, row.metric_n)
    if interval is None:
        return 0.0, 0.0
    return max(0.0, scaled(key, value - interval[0])), max(0.0, scaled(key, interval[1] - value))


def _axis(comparison: Comparison, key: str) -> str:
    arrow = {1: " (higher is better)", -1: " (lower is better)", None: ""}[direction(key)]
    return title_of(key, comparison.metric) + arrow

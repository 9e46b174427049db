"""Parallel coordinates of what was swept, as a plain plotly dict.

They are drawn as ordinary lines: plotly's own need WebGL, which remote desktops often lack.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from modelpress.compare.charts import coordinates, placed_lines, scaled
from modelpress.compare.columns import direction, short_names
from modelpress.compare.lines import Line, Scene
from modelpress.compare.overrides import Value, as_number, spelled
from modelpress.compare.table import Comparison
from modelpress.compare.texts import cell, title_of
from modelpress.report.figures import Figure, base_layout

# From the worst fifth to the best; 3:1 against light and dark paper.
FIFTHS = ("#8a63c9", "#4a7fc1", "#1f8f99", "#1f9d6b", "#b07d00")
MOST_TICKS = 12


def parallel(comparison: Comparison, scene: Scene) -> Figure | None:
    """The swept parameters, ``y`` and ``x`` of a scene's candidates; ``None`` where nothing was swept."""
    placed = [entry for entry in placed_lines(comparison, scene) if entry[1].role == "candidate"]
    lines = [line for _, line in placed]
    swept = [key for key in comparison.swept if len({spelled(line.values.get(key)) for line in lines}) > 1]
    if not swept:
        return None
    keys = [*swept, comparison.y, comparison.x]
    axes = [_scale([line.values.get(key) for line in lines]) for key in keys]
    heights = {number: [axis[0][index] for axis in axes] for index, (number, _) in enumerate(placed)}
    short = short_names(swept)
    layout = base_layout(420, "", "")
    titles = [short[key] for key in swept] + [title_of(key, comparison.metric) for key in keys[-2:]]
    layout["xaxis"] |= {"tickvals": list(range(len(keys))), "ticktext": [escape(title) for title in titles]}
    layout["xaxis"] |= {"range": [-0.1, len(keys) - 0.6], "showgrid": True, "side": "top"}
    layout["yaxis"] |= {"visible": False, "range": [-0.06, 1.06]}
    beside = {"xanchor": "left", "xshift": 5, "yshift": 8, "showarrow": False}
    layout["annotations"] = [
        beside | {"x": index, "y": height, "text": escape(_tick(comparison, key, value))}
        for index, (key, axis) in enumerate(zip(keys, axes, strict=True))
        for height, value in axis[1]
    ]
    layout["legend"] = {"orientation": "h", "y": -0.02, "yanchor": "top", "x": 0}
    groups = enumerate(_fifths(comparison, placed))
    data = [_strand(comparison, group, heights, FIFTHS[index]) for index, group in groups if group]
    return {"data": data, "layout": layout}


def _scale(values: Sequence[Value]) -> tuple[list[float], list[tuple[float, Value]]]:
    """Heights in [0, 1] and ticks: few distinct values evenly spaced, many numbers to scale."""
    distinct = sorted(set(values), key=_order)
    numbers = [number for value in distinct if (number := as_number(value)) is not None]
    if len(distinct) > MOST_TICKS and len(numbers) == len(distinct):
        low, high = numbers[0], numbers[-1]
        ticks: list[tuple[float, Value]] = [(0.0, low), (0.5, (low + high) / 2), (1.0, high)]
        return [((as_number(value) or 0.0) - low) / (high - low) for value in values], ticks
    place = {value: index / max(1, len(distinct) - 1) for index, value in enumerate(distinct)}
    step = -(-len(distinct) // MOST_TICKS)
    return [place[value] for value in values], [(place[value], value) for value in distinct[::step]]


def _order(value: Value) -> tuple[bool, float, str]:
    number = as_number(value)
    return number is None, number or 0.0, spelled(value)


def _tick(comparison: Comparison, key: str, value: Value) -> str:
    number = as_number(value)
    if key in (comparison.x, comparison.y) and number is not None:
        return f"{scaled(key, number):.4g}"
    return spelled(value)


def _fifths(comparison: Comparison, placed: Sequence[tuple[int, Line]]) -> list[list[tuple[int, Line]]]:
    """Lines by the rank of their ``y``, worst first; fewer groups where there are fewer lines."""
    up = direction(comparison.y) or 1
    ordered = sorted(placed, key=lambda entry: up * coordinates(comparison, entry[1])[1])
    cuts = [round(index * len(ordered) / len(FIFTHS)) for index in range(len(FIFTHS) + 1)]
    return [ordered[start:end] for start, end in pairwise(cuts)]


def _strand(
    comparison: Comparison, group: Sequence[tuple[int, Line]], heights: dict[int, list[float]], colour: str
) -> Figure:
    """One trace for a fifth: a polyline per line, with gaps between them."""
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    numbers: list[int] = []
    for number, line in group:
        path = heights[number]
        x += [*range(len(path)), None]
        y += [*path, None]
        texts += [_hover(comparison, line)] * (len(path) + 1)
        numbers += [number] * (len(path) + 1)
    ends = [f"{scaled(comparison.y, line.values.get(comparison.y)):.4g}" for _, line in (group[0], group[-1])]
    name = f"{title_of(comparison.y, comparison.metric)} {' … '.join(dict.fromkeys(ends))}"
    marks = {"line": {"color": colour, "width": 1.5}, "marker": {"color": colour, "size": 5}}
    shared = {"type": "scatter", "mode": "lines+markers", "hoverinfo": "text", "name": escape(name)}
    return shared | marks | {"x": x, "y": y, "hovertext": texts, "customdata": numbers}


def _hover(comparison: Comparison, line: Line) -> str:
    keys = (comparison.y, comparison.x)
    return "<br>".join(escape(f"{title_of(key, comparison.metric)} {cell(line, key)}") for key in keys)

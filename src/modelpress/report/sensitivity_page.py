"""The sensitivity of a network as a figure and a page that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10

from modelpress.report import html
from modelpress.report.figures import ROLE_COLOURS, Figure, base_layout
from modelpress.report.html_parts import command, paragraph, table
from modelpress.report.numbers import fixed, significant
from modelpress.report.sensitivity import (
    HEADS,
    PARTS,
    Group,
    Study,
    begins,
    cells,
    error_text,
    headline,
    label,
    parts_cells,
    prefix_of,
)

COLOURS = {"int8": ROLE_COLOURS["candidate"], "float": ROLE_COLOURS["control"]}
ARMS = {"int8": "in INT8", "float": "left in float by the search"}
ROW_PX = 24


def figure(study: Study) -> Figure:
    """Output error of every group on a logarithmic axis, and beside it the metric drop."""
    prefix = prefix_of(study)
    names = [label(group.layers, prefix) for group in study.groups]
    data = []
    for numbers in ARMS:
        chosen = [(name, group) for name, group in zip(names, study.groups, strict=True) if group.numbers == numbers]
        if chosen:
            data += _bars(numbers, chosen)
    layout = base_layout(130 + ROW_PX * len(names), "output error (logarithmic)", "")
    layout["xaxis"] |= {"type": "log", "range": _decades(study.groups), "domain": [0, 0.6], "exponentformat": "power"}
    layout["xaxis2"] = {"title": {"text": "metric drop, points"}, "domain": [0.66, 1], "automargin": True}
    layout["yaxis"] |= {"categoryorder": "array", "categoryarray": names[::-1], "ticksuffix": " "}
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}
    return {"data": data, "layout": layout | {"legend": legend, "bargap": 0.25, "barmode": "overlay"}}


def _bars(numbers: str, chosen: Sequence[tuple[str, Group]]) -> list[Figure]:
    shared: Figure = {
        "type": "bar",
        "orientation": "h",
        "y": [name for name, _ in chosen],
        "name": ARMS[numbers],
        "legendgroup": numbers,
        "hovertext": [_hover(group) for _, group in chosen],
        "hoverinfo": "text",
        "marker": {"color": COLOURS[numbers]},
    }
    error = [group.output_error or None for _, group in chosen]  # a logarithm has no zero
    drop = [100 * group.metric_drop for _, group in chosen]
    return [shared | {"x": error}, shared | {"x": drop, "xaxis": "x2", "showlegend": False}]


def _hover(group: Group) -> str:
    lines = [
        *group.layers,
        f"output error {error_text(group.output_error)}",
        f"metric drop {fixed(100 * group.metric_drop, 2)} points",
        f"{fixed(100 * group.disagreement, 2)} % of the predictions changed",
        f"{group.parameters:,} parameters, {ARMS[group.numbers]}",
    ]
    return "<br>".join(map(escape, lines))


def _decades(groups: Sequence[Group]) -> list[float]:
    """Exponents around all errors: a bar on a logarithmic axis starts where the axis does."""
    found = [log10(group.output_error) for group in groups if group.output_error > 0] or [0.0]
    return [floor(min(found)) - 0.3, ceil(max(found)) + 0.1]


def page(study: Study) -> str:
    """One HTML file that opens offline."""
    figures = html.Figures()
    names = paragraph(begins(study), "soft")
    caption = "Output error and metric drop of every group alone in INT8, the most harmful first. Hover for numbers."
    parts, groups = _lines(PARTS, parts_cells(study)), _lines(HEADS, cells(study))
    body = (
        f"<header><h1>{escape(study.title)}</h1><p>{escape(headline(study))}</p>"
        f"{command(study.command, 'command')}</header>"
        f"<section><h2>Sensitivity of each part</h2>{parts}</section>"
        f"<section><h2>Sensitivity of each layer</h2>{figures.place(figure(study), caption)}{names}{groups}"
        f"{''.join(map(paragraph, study.notes))}</section>{_float_section(study)}"
    )
    return html.page(f"Sensitivity: {study.title}", body, figures.content)


def _lines(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return table([head.replace("\n", " ") for head in heads], [[escape(cell) for cell in line] for line in lines])


def _float_section(study: Study) -> str:
    if not study.float_layers:
        return ""
    rows = [
        [escape(layer.name), significant(layer.parameters / 1e3), escape(layer.why)] for layer in study.float_layers
    ]
    return f"<section><h2>Layers in float</h2>{table(('layer', 'params, 10³', 'why'), rows)}</section>"

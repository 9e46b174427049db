"""Plotly figures of rows as plain dicts (``data``, ``layout``); plotly itself is needed only in the browser.

Colour says role, symbol says engine and its fill precision; colours keep 3:1 contrast on light and dark paper.
Theme-dependent colours (text, grid) are set by ``page.js``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelpress.report.names import SHORT_ENGINES, model_title, row_title
from modelpress.report.numbers import latency_text, points_text, ratio_text, share_text, wilson
from modelpress.report.record import ROLES, Report, Row
from modelpress.report.sections import deciding, sections, shapes

Figure = dict[str, Any]
ROLE_COLOURS = {"baseline": "#3b82c4", "control": "#c77700", "candidate": "#1f9d6b", "reference": "#858a93"}
SYMBOLS = {
    **{"onnxruntime": "circle", "onnxruntime_cuda": "octagon", "onnxruntime_tensorrt": "hexagon2"},
    **{"openvino": "square", "tensorrt": "diamond", "tensorrt_graph": "diamond-tall"},
    **{"tensorrt_rtx": "pentagon", "tensorrt_rtx_graph": "hexagon"},
    **{"torch": "cross", "torch_compile": "x", "torchao": "star"},
}
FILLS = {"fp32": "-open", "tf32": "-open", "bf16": "", "fp16": "", "int8": "-open-dot", "mixed": "-dot"}
TRACE_POINTS = 800


def scatter(report: Report, shape: str) -> Figure | None:
    """Metric against p50 at one shape, with 95 % bars in both directions; ``None`` if no row that decides has both."""
    at = [row for row in deciding(report.rows) if row.shape == shape]
    rows = [row for row in at if row.metric is not None and _p50(row) is not None]
    if not rows:
        return None
    traces = [_points(role, group, report) for role in ROLES if (group := [row for row in rows if row.role == role])]
    traces += _symbol_legend(rows)
    layout = base_layout(420, f"p50 latency, ms ({shape})", f"{report.task_metric}, %")
    layout["xaxis"] |= {"rangemode": "tozero"}
    layout["legend"] = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    return {"data": traces, "layout": layout | _budget_line(report, rows)}


def latencies(report: Report, traces: Mapping[str, Sequence[float]], shape: str) -> Figure | None:
    """Every query's latency as one violin per row, on a logarithmic axis so that no tail hides the rest."""
    rows = [row for row in _ordered(report) if row.shape == shape and traces.get(row.id)]
    if not rows:
        return None
    data = [_violin(row, traces[row.id]) for row in rows]
    layout = base_layout(90 + 46 * len(rows), f"latency, ms ({shape}, logarithmic)", "")
    ticks = [factor * 10.0**power for power in range(-3, 5) for factor in (1, 2, 5)]
    layout["xaxis"] |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    layout["yaxis"] |= {"autorange": "reversed"}
    return {"data": data, "layout": layout | {"showlegend": False, "violinmode": "overlay"}}


def drops(report: Report) -> Figure | None:
    """Paired metric drop of every judged or control row with its interval; the dashed line is the budget."""
    rows = [row for row in _compared(report) if row.metric_drop is not None]
    triples = [(100 * d.value, 100 * d.ci_low, 100 * d.ci_high) for row in rows if (d := row.metric_drop)]
    texts = [points_text(row.metric_drop) + " points" for row in rows if row.metric_drop]
    limit = report.verdict.get("budget", {}).get("max_metric_drop", {}).get("limit")
    return _forest(rows, triples, texts, "metric drop, points (left is better)", 0 if limit is None else 100 * limit)


def speedups(report: Report) -> Figure | None:
    """``speedup_best`` of every judged or control row with its interval; the dashed line is 1."""
    rows = [row for row in _compared(report) if row.speedup_best is not None]
    triples = [(s.ratio, s.ci_low, s.ci_high) for row in rows if (s := row.speedup_best)]
    texts = [ratio_text(row.speedup_best) for row in rows if row.speedup_best]
    return _forest(rows, triples, texts, "times as fast (right is better)", 1)


def thinned(values: Sequence[float], most: int = TRACE_POINTS) -> list[float]:
    """At most ``most`` values with the same distribution: evenly spaced order statistics, both ends kept."""
    ordered = np.sort(np.asarray(values, np.float64))
    picks = np.linspace(0, len(ordered) - 1, min(most, len(ordered))).round().astype(int)
    return [float(f"{value:.4g}") for value in ordered[picks]]


def _p50(row: Row) -> float | None:
    return row.latency_ms.p50 if row.latency_ms else None


def _ordered(report: Report) -> list[Row]:
    return [row for _, rows in sections(report.rows) for row in rows]


def _compared(report: Report) -> list[Row]:
    rows = [row for row in deciding(_ordered(report)) if row.role in ("control", "candidate")]
    order = shapes(rows)
    return sorted(rows, key=lambda row: order.index(row.shape))


def _label(row: Row) -> str:
    return f"{SHORT_ENGINES[row.engine]} {row.precision}"


def _points(role: str, rows: Sequence[Row], report: Report) -> Figure:
    best = report.verdict.get("row")
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": f"{role}: {', '.join(dict.fromkeys(model_title(row) for row in rows))}",
        "x": [_p50(row) for row in rows],
        "y": [100 * (row.metric or 0) for row in rows],
        "error_x": _bars([_latency_bars(row) for row in rows], role),
        "error_y": _bars([_metric_bars(row) for row in rows], role),
        "text": ["★" if row.id == best else "" for row in rows],
        "textposition": "middle left",
        "textfont": {"size": 18, "color": ROLE_COLOURS[role]},
        "hovertext": [_hover(row) for row in rows],
        "hoverinfo": "text",
        "cliponaxis": False,
        "marker": {
            "color": ROLE_COLOURS[role],
            "size": [15 if row.id == best else 11 for row in rows],
            "symbol": [_symbol(row) for row in rows],
            "line": {"width": 2, "color": ROLE_COLOURS[role]},
        },
    }


def _symbol(row: Row) -> str:
    return SYMBOLS[row.engine] + FILLS[row.precision]


def _symbol_legend(rows: Sequence[Row]) -> list[Figure]:
    """Empty traces that explain the symbols."""
    names = {_label(row): _symbol(row) for row in rows}
    colour = ROLE_COLOURS["reference"]
    shared = {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "hoverinfo": "skip"}
    return [
        shared | {"name": name, "marker": {"symbol": symbol, "size": 10, "color": colour, "line": {"width": 2}}}
        for name, symbol in names.items()
    ]


def _bars(pairs: Sequence[tuple[float, float]], role: str) -> Figure:
    return {
        "type": "data",
        "symmetric": False,
        "array": [up for _, up in pairs],
        "arrayminus": [down for down, _ in pairs],
        "color": ROLE_COLOURS[role] + "99",
        "thickness": 1,
        "width": 3,
    }


def _latency_bars(row: Row) -> tuple[float, float]:
    """Distance down and up to the bootstrap interval of the median; no bar where it is unknown."""
    p50 = _p50(row) or 0.0
    low, high = row.details.get("p50_interval_ms", (p50, p50))
    return max(0.0, p50 - low), max(0.0, high - p50)


def _metric_bars(row: Row) -> tuple[float, float]:
    if row.metric is None or not row.metric_n:
        return 0.0, 0.0
    low, high = wilson(row.metric, row.metric_n)
    return 100 * (row.metric - low), 100 * (high - row.metric)


def _hover(row: Row) -> str:
    lines = [f"<b>{row_title(row)}</b> ({row.role}, {row.status})"]
    if row.metric is not None:
        lines.append(f"metric {share_text(row.metric, row.metric_n)} %")
    lines.append(f"p50 {latency_text(row)} ms, p95 {latency_text(row, 'p95')} ms")
    if row.metric_drop:
        lines.append(f"drop {points_text(row.metric_drop)} points")
    if row.speedup and row.speedup_best:
        lines.append(f"{ratio_text(row.speedup)} over ORT FP32, {ratio_text(row.speedup_best)} over the best baseline")
    return "<br>".join(lines)


def _budget_line(report: Report, rows: Sequence[Row]) -> Figure:
    """The lowest metric the budget allows, as a dashed line."""
    reference = next((row.metric for row in rows if row.role == "baseline"), None)
    limit = report.verdict.get("budget", {}).get("max_metric_drop", {}).get("limit")
    if reference is None or limit is None:
        return {}
    height = 100 * (reference - limit)
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": height, "y1": height}
    note = {"xref": "paper", "x": 1, "y": height, "text": "budget", "showarrow": False}
    dash = {"dash": "dash", "width": 1, "color": ROLE_COLOURS["reference"]}
    return {"shapes": [line | {"line": dash}], "annotations": [note | {"xanchor": "right", "yanchor": "bottom"}]}


def _violin(row: Row, values: Sequence[float]) -> Figure:
    colour = ROLE_COLOURS[row.role]
    return {
        "type": "violin",
        "orientation": "h",
        "x": thinned(values),
        "y0": f"{model_title(row)} ({row.role})<br>{_label(row)}",
        "name": f"{model_title(row)} ({row.role})<br>{_label(row)}",
        "line": {"color": colour, "width": 1},
        "box": {"visible": True},
        "points": "outliers",
        "marker": {"size": 2, "color": colour},
        "scalemode": "width",
        "width": 0.8,
        "spanmode": "hard",
        "hoverinfo": "x+name",
    }


def _forest(
    rows: Sequence[Row], triples: Sequence[tuple[float, float, float]], texts: Sequence[str], title: str, line: float
) -> Figure | None:
    """Intervals under each other; one colour per role, one line per row."""
    if not rows:
        return None
    names = [f"{row.role} {_label(row)}, {row.shape}" for row in rows]
    data = []
    for role in dict.fromkeys(row.role for row in rows):
        chosen = [i for i, row in enumerate(rows) if row.role == role]
        pairs = [(triples[i][0] - triples[i][1], triples[i][2] - triples[i][0]) for i in chosen]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": role,
                "x": [triples[i][0] for i in chosen],
                "y": [names[i] for i in chosen],
                "error_x": _bars(pairs, role) | {"thickness": 2, "width": 5},
                "hovertext": [f"<b>{row_title(rows[i])}</b><br>{texts[i]}" for i in chosen],
                "hoverinfo": "text",
                "marker": {"color": ROLE_COLOURS[role], "size": 9},
            }
        )
    layout = base_layout(110 + 26 * len(rows), title, "")
    layout["yaxis"] |= {"categoryorder": "array", "categoryarray": names[::-1]}
    dash = {"dash": "dash", "width": 1.5, "color": ROLE_COLOURS["reference"]}
    layout["shapes"] = [{"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": line, "x1": line, "line": dash}]
    return {"data": data, "layout": layout | {"showlegend": False}}


def base_layout(height: int, x_title: str, y_title: str) -> Figure:
    """What all figures share; ``height`` in pixels."""
    return {
        "height": height,
        "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
        "xaxis": {"title": {"text": x_title}, "automargin": True, "zeroline": False},
        "yaxis": {"title": {"text": y_title}, "automargin": True, "zeroline": False},
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
    }

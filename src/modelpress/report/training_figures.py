"""Plotly figures of training curves as plain dicts. Standard library only."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from modelpress.report.extras import Curve, Series, panel_of, part_name
from modelpress.report.figures import ROLE_COLOURS, Figure, base_layout

DASHES = ("solid", "dash", "dot", "dashdot")
PART_COLOURS = ("#3b82c4", "#c77700", "#1f9d6b", "#b5549b", "#858a93", "#c4512d", "#5b6fd6", "#8a8a00")
CURVE_POINTS = 600
TITLES = {"total": "training loss", "validation": "validation", "rate": "learning rate"}


def curves(stages: Sequence[Curve]) -> list[Figure]:
    """Total loss, each validation metric, each share of the reshaping, the learning rate; one line per stage."""
    shown = ("validation", "reshaping")
    names = dict.fromkeys(name for curve in stages for name in curve.steps if panel_of(name) in shown)
    figures = [_panel(stages, TITLES["total"], lambda name: panel_of(name) == "total")]
    figures += [_panel(stages, name, name.__eq__) for name in names]
    rate = _panel(stages, TITLES["rate"], lambda name: panel_of(name) == "rate")
    rate["layout"]["yaxis"] |= {"exponentformat": "e"}
    figures.append(rate)
    return [figure for figure in figures if figure["data"]]


def loss_parts(stages: Sequence[Curve]) -> list[tuple[str, Figure]]:
    """(heading, figure) per stage that logged named parts of its loss."""
    return [(f"{curve.stage} ({curve.role})", figure) for curve in stages if (figure := _parts(curve))["data"]]


def shortened(series: Series, most: int = CURVE_POINTS) -> Series:
    """At most ``most`` points: means over equal windows of steps, each at its window's last step."""
    steps, values = list(series[0]), list(series[1])
    if len(steps) <= most:
        return steps, [float(f"{value:.5g}") for value in values]
    edges = [round(i * len(steps) / most) for i in range(most + 1)]
    windows = list(itertools.pairwise(edges))
    means = [sum(values[a:b]) / (b - a) for a, b in windows]
    return [steps[b - 1] for _, b in windows], [float(f"{mean:.5g}") for mean in means]


def _panel(stages: Sequence[Curve], title: str, wanted: Callable[[str], bool]) -> Figure:
    data = []
    for number, curve in enumerate(stages):
        for name, series in curve.steps.items():
            if wanted(name):
                line = {"color": ROLE_COLOURS[curve.role], "width": 2, "dash": DASHES[number % len(DASHES)]}
                data.append(_line(f"{curve.stage} ({curve.role})", series, line))
    layout = base_layout(320, "step", title)
    return {"data": data, "layout": layout | _LEGEND}


def _parts(curve: Curve) -> Figure:
    named = [(part_name(name), series) for name, series in curve.steps.items() if panel_of(name) == "part"]
    data = [
        _line(name, series, {"color": PART_COLOURS[i % len(PART_COLOURS)], "width": 2})
        for i, (name, series) in enumerate(named)
    ]
    return {"data": data, "layout": base_layout(320, "step", "loss part") | _LEGEND}


def _line(name: str, series: Series, line: Figure) -> Figure:
    steps, values = shortened(series)
    mode = "lines+markers" if len(steps) <= 30 else "lines"
    return {"type": "scatter", "mode": mode, "name": name, "x": list(steps), "y": list(values), "line": line}


_LEGEND = {"legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, "showlegend": True}

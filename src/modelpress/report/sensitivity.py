"""What each layer's quantization costs, as a table for the terminal, a figure and a page that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from itertools import takewhile
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

from modelpress.report import html
from modelpress.report.figures import ROLE_COLOURS, Figure, base_layout
from modelpress.report.html_parts import command, paragraph, table
from modelpress.report.numbers import decimals, fixed, significant

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

COLOURS = {"int8": ROLE_COLOURS["candidate"], "float": ROLE_COLOURS["control"]}
ARMS = {"int8": "in INT8", "float": "left in float by the search"}
HEADS = ("layers", "params,\n10³", "drop,\npoints", "output\nerror", "changed\n%", "runs\nin")
ROW_PX = 24


@dataclass(frozen=True)
class Group:
    """Layers that share an input, alone in INT8. Shares lie in [0, 1]; ``numbers``: int8, or float as they now are."""

    layers: tuple[str, ...]
    parameters: int
    metric_drop: float
    output_error: float
    disagreement: float
    numbers: str = "int8"


@dataclass(frozen=True)
class FloatLayer:
    """A layer that could be INT8 and is not."""

    name: str
    parameters: int
    why: str


@dataclass(frozen=True)
class Study:
    """One network's sensitivity: ``accuracy`` is the float network's, on ``samples`` of ``available`` items."""

    title: str
    command: str
    accuracy: float
    samples: int
    available: int
    together: Group
    groups: Sequence[Group]  # the most harmful first
    float_layers: Sequence[FloatLayer]
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists."""
        return asdict(self)


def headline(study: Study) -> str:
    """What was measured on what, and what one item weighs."""
    some = f"{study.samples:,} of {study.available:,}" if study.samples < study.available else f"all {study.samples:,}"
    return (
        f"{study.title}: one group of layers in INT8 at a time, all others in float, on {some} items of the validation "
        f"split. The float network is right on {fixed(100 * study.accuracy, 2)} % of them; one item is "
        f"{significant(100 / study.samples, 2)} points, so small drops are noise. Output error is the mean squared "
        "difference of the logits."
    )


def render(study: Study, console: Console | None = None) -> None:
    """Print the table, the layers in float and the notes."""
    from rich.console import Console
    from rich.markup import escape as plain

    console = console or Console()
    console.print(plain(headline(study)), highlight=False)
    console.print(_table(study))
    if begin := _begin(study):
        console.print(plain(begin), style="dim", highlight=False)
    if study.float_layers:
        console.print("In float:", style="bold")
    for layer in study.float_layers:
        console.print(f"  {plain(layer.name)}  [dim]{plain(layer.why)}[/dim]", highlight=False, soft_wrap=True)
    for note in study.notes:
        console.print(plain(note), highlight=False)


def _table(study: Study) -> Table:
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for head in HEADS:
        drawn.add_column(head, justify="left" if head in (HEADS[0], HEADS[-1]) else "right", overflow="fold")
    for group, cells in zip((*study.groups, study.together), _cells(study), strict=True):
        drawn.add_row(*cells, style="yellow" if group.numbers == "float" else "bold" if group is study.together else "")
    return drawn


def _cells(study: Study) -> list[list[str]]:
    """One line per group, most harmful first, and one for all of them together."""
    prefix = _prefix(study)
    places = decimals(100 / study.samples)
    lines = []
    for group in (*study.groups, study.together):
        name = label(group.layers, prefix) if group is not study.together else "all together"
        share = [fixed(100 * value, places) for value in (group.metric_drop, group.disagreement)]
        parameters = significant(group.parameters / 1e3)
        lines.append([name, parameters, share[0], error_text(group.output_error), share[1], group.numbers])
    return lines


def error_text(value: float) -> str:
    """``1.2e-04``; zero is 0."""
    return f"{value:.1e}" if value else "0"


def label(layers: Sequence[str], prefix: str = "") -> str:
    """Names that share a parent, written once, without ``prefix``.

    >>> label(["net.layer.0.self.query", "net.layer.0.self.key"], "net.")
    'layer.0.self.{query,key}'
    """
    if len(layers) == 1:
        return layers[0].removeprefix(prefix)
    parent = common_parent(layers)
    return f"{parent.removeprefix(prefix)}{{{','.join(name.removeprefix(parent) for name in layers)}}}"


def common_parent(names: Sequence[str]) -> str:
    """The modules that all names lie in, with a dot at the end; empty where there is none.

    >>> common_parent(["net.layer.0.key", "net.layer.1.key"])
    'net.layer.'
    """
    parts = [name.split(".")[:-1] for name in names]
    shared = [step[0] for step in takewhile(lambda step: len(set(step)) == 1, zip(*parts, strict=False))]
    return "".join(f"{part}." for part in shared)


def _prefix(study: Study) -> str:
    return common_parent([name for group in study.groups for name in group.layers])


def _begin(study: Study) -> str:
    prefix = _prefix(study)
    return f"Names begin with {prefix}" if prefix else ""


def figure(study: Study) -> Figure:
    """Output error of every group on a logarithmic axis, and beside it the metric drop."""
    prefix = _prefix(study)
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
    names = paragraph(_begin(study), "soft")
    caption = "Output error and metric drop of every group alone in INT8, the most harmful first. Hover for numbers."
    rows = table(
        [head.replace("\n", " ") for head in HEADS], [[escape(cell) for cell in line] for line in _cells(study)]
    )
    body = (
        f"<header><h1>{escape(study.title)}</h1><p>{escape(headline(study))}</p>"
        f"{command(study.command, 'command')}</header>"
        f"<section><h2>Sensitivity of each layer</h2>{figures.place(figure(study), caption)}{names}{rows}"
        f"{''.join(map(paragraph, study.notes))}</section>{_float_section(study)}"
    )
    return html.page(f"Sensitivity: {study.title}", body, figures.content)


def _float_section(study: Study) -> str:
    if not study.float_layers:
        return ""
    rows = [
        [escape(layer.name), significant(layer.parameters / 1e3), escape(layer.why)] for layer in study.float_layers
    ]
    return f"<section><h2>Layers in float</h2>{table(('layer', 'params, 10³', 'why'), rows)}</section>"

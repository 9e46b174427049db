"""What each layer's quantization costs, as a table for the terminal; the page is in ``sensitivity_page``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from modelpress.report.numbers import decimals, fixed, significant

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NUMBERS = ("params,\n10³", "drop,\npoints", "output\nerror", "changed\n%")
PARTS = ("part", "layers", *NUMBERS)
HEADS = ("layers", *NUMBERS, "runs\nin")


@dataclass(frozen=True)
class Group:
    """Layers that share an input (or make up ``part`` of the network), alone in INT8.

    Shares lie in [0, 1]; ``numbers``: int8, or float as they now are.
    """

    layers: tuple[str, ...]
    parameters: int
    metric_drop: float
    output_error: float
    disagreement: float
    numbers: str = "int8"
    part: str = ""


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
    parts: Sequence[Group]  # whole towers, attention, MLP …; the most harmful first
    groups: Sequence[Group]  # the same order
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
    console.print(_table(PARTS, parts_cells(study), study.parts))
    console.print(_table(HEADS, cells(study), (*study.groups, study.together)))
    if begin := begins(study):
        console.print(plain(begin), style="dim", highlight=False)
    if study.float_layers:
        console.print("In float:", style="bold")
    for layer in study.float_layers:
        console.print(f"  {plain(layer.name)}  [dim]{plain(layer.why)}[/dim]", highlight=False, soft_wrap=True)
    for note in study.notes:
        console.print(plain(note), highlight=False)


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]], groups: Sequence[Group]) -> Table:
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        drawn.add_column(head, justify="left" if head in (heads[0], "runs\nin") else "right", overflow="fold")
    for group, line in zip(groups, lines, strict=True):
        drawn.add_row(*line, style="yellow" if group.numbers == "float" else "bold" if group.part else "")
    return drawn


def cells(study: Study) -> list[list[str]]:
    """One line per group, most harmful first, and one for all of them together."""
    prefix = prefix_of(study)
    return [
        [group.part or label(group.layers, prefix), *_numbers(study, group), group.numbers]
        for group in (*study.groups, study.together)
    ]


def parts_cells(study: Study) -> list[list[str]]:
    """One line per part of the network, most harmful first."""
    return [[group.part, str(len(group.layers)), *_numbers(study, group)] for group in study.parts]


def _numbers(study: Study, group: Group) -> list[str]:
    places = decimals(100 / study.samples)
    drop, changed = (fixed(100 * share, places) for share in (group.metric_drop, group.disagreement))
    return [significant(group.parameters / 1e3), drop, error_text(group.output_error), changed]


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


def prefix_of(study: Study) -> str:
    """The modules that all layers of all groups lie in."""
    return common_parent([name for group in study.groups for name in group.layers])


def begins(study: Study) -> str:
    """What all names begin with, in words."""
    prefix = prefix_of(study)
    return f"Names begin with {prefix}" if prefix else ""

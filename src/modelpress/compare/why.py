"""``modelpress why RUN_A RUN_B``: what differs between two runs, and what came out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelpress.compare.difference import Section, differences, first_difference, headline_figures
from modelpress.errors import ModelPressError
from modelpress.report.names import SHORT_ENGINES, VERDICT_SHORT
from modelpress.report.numbers import NULL, latency_text, points_text, ratio_text, share_text, significant
from modelpress.report.record import Report, Row, load
from modelpress.report.show import report_path

if TYPE_CHECKING:
    from rich.console import Console

WIDEST = 60


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``modelpress why``."""
    parser = subparsers.add_parser(
        "why",
        help="what differs between two runs",
        description="Say what differs between two finished runs: overrides, settings, data, libraries, machine, code; "
        "and put their figures side by side.",
        epilog="Example: modelpress why multirun/2026-11-22_00-41-41-596244/0 outputs/latest",
    )
    parser.add_argument("a", metavar="RUN_A", help="run folder or report.json")
    parser.add_argument("b", metavar="RUN_B", help="run folder or report.json")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Run ``modelpress why``."""
    paths = [report_path(Path(given)) for given in (args.a, args.b)]
    if paths[0].resolve() == paths[1].resolve():
        raise ModelPressError(f"{args.a} and {args.b} are the same run. `modelpress runs` lists others.")
    a, b = (load(path) for path in paths)
    try:
        sections, words = differences(a, b), first_difference(a, b)
    except (AttributeError, TypeError) as fault:
        raise ModelPressError(f"The lineage of {paths[0]} or {paths[1]} is no lineage of ours: {fault}.") from fault
    render(paths, (a, b), sections, words)
    return 0


def render(
    paths: Sequence[Path],
    reports: tuple[Report, Report],
    sections: Sequence[Section],
    words: str,
    console: Console | None = None,
) -> None:
    """Print where the runs part, a table per section that differs, what is equal, and the figures."""
    from rich.console import Console

    console = console or Console()
    for name, path in zip("AB", paths, strict=True):
        console.print(f"[bold]{name}[/bold]  {_escape(str(path.parent))}", highlight=False, soft_wrap=True)
    if words:
        console.print(_escape(words), highlight=False)
    for section in sections:
        if section.rows:
            _table(section.title, [("", False), ("A", False), ("B", False)], section.rows, console)
        if section.note:
            console.print(f"[bold]{section.title}[/bold]: {_escape(section.note)}.", highlight=False)
    same = [section.title.lower() for section in sections if not section.rows and not section.note]
    if same:
        console.print(f"[dim]The same: {', '.join(same)}.[/dim]", highlight=False)
    _figures(reports, console)


def figures(a: Report, b: Report) -> list[list[str]]:
    """Row, metric, drop, p50, ratio, size and verdict of A and B: a line per row that both have."""
    found = []
    for name, mine, theirs in headline_figures(a, b):
        label = name if name == "best" else name.rsplit("/", 3)[0]
        parts = zip(_parts(mine), _parts(theirs), strict=True)
        found.append([label, *(left if left == right else f"{left} | {right}" for left, right in parts)])
    return found


def _parts(row: Row | None) -> list[str]:
    if row is None:
        return [NULL] * 6
    return [
        f"{SHORT_ENGINES[row.engine]} {row.precision} {row.shape}",
        NULL if row.metric is None else share_text(row.metric, row.metric_n),
        NULL if row.metric_drop is None else points_text(row.metric_drop, interval=False),
        latency_text(row) + ("" if row.status == "ok" else "?"),
        NULL if row.speedup_best is None else ratio_text(row.speedup_best, interval=False),
        VERDICT_SHORT.get(row.verdict or "", NULL) if row.size_mb is None else _sized(row),
    ]


def _sized(row: Row) -> str:
    size = f"{significant(row.size_mb or 0)} MB"
    return f"{size}, {VERDICT_SHORT[row.verdict]}" if row.verdict else size


def _figures(reports: tuple[Report, Report], console: Console) -> None:
    heads = ("row", "engine", "metric %", "drop", "p50 ms", "x best", "size, verdict")
    rows = figures(*reports)
    if rows:
        columns = [(head, 1 < index < 6) for index, head in enumerate(heads)]
        _table("Figures: A | B, one value where they are equal", columns, rows, console)
        note = (
            "?: unstable, its speed decides nothing. The two were not timed in one session: the ratios within a run "
            "(x best) compare better than its times."
        )
        console.print(f"[dim]{note}[/dim]", highlight=False)


def _table(title: str, heads: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]], console: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for head, right in heads:
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_escape(text if len(text) <= WIDEST else text[: WIDEST - 1] + "…") for text in row))
    console.print(table, highlight=False)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)

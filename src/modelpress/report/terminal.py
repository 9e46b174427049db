"""The report in a terminal: as many columns as the width holds, then the verdict in words. Needs rich."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelpress.report import numerics
from modelpress.report.names import ROLE_MEANINGS, SHORT_ENGINES, VERDICT_SHORT
from modelpress.report.numbers import NULL, latency_text, points_text, ratio_text, share_text, significant
from modelpress.report.record import Report, Row
from modelpress.report.sections import arm_words, budget_lines, headline, notes, sections

if TYPE_CHECKING:
    from rich.console import Console
    from rich.panel import Panel

COLOURS = {"pays": "green", "does_not_pay": "red", "inconclusive": "yellow", None: "blue"}
ROLE_COLOURS = {"baseline": "blue", "control": "yellow", "candidate": "green", "reference": "bright_black"}


DROP_RANK = 5


@dataclass(frozen=True)
class Cell:
    """One column. The one with the highest ``rank`` is left out first where the width is short."""

    title: str
    rank: int
    text: Callable[[Row], str]
    right: bool = True


def render(report: Report, console: Console | None = None) -> None:
    """Print the rows, grouped by role with the best row marked, and the verdict panel."""
    from rich.console import Console
    from rich.padding import Padding

    console = console or Console()
    console.print()
    _print_rows(report, console)
    for line in (*numerics.paragraphs(report), *notes(report.rows)):
        console.print(Padding(f"[dim]{_escape(line)}[/dim]", (0, 0, 0, 2)))
    console.print(_panel(report))


def cells(report: Report, *, intervals: bool) -> list[Cell]:
    """Every column that the terminal knows, in reading order."""
    best = report.verdict.get("row")

    def drop(row: Row) -> str:
        return NULL if row.metric_drop is None else points_text(row.metric_drop, interval=intervals)

    def ratio(row: Row) -> str:
        return NULL if row.speedup_best is None else ratio_text(row.speedup_best, interval=intervals)

    return [
        Cell("", 0, lambda row: "*" if row.id == best else " ", right=False),
        Cell("engine", 0, lambda row: f"{SHORT_ENGINES[row.engine]} {row.precision}", right=False),
        Cell("shape", 0, lambda row: row.shape, right=False),
        Cell(f"{_short(report.task_metric)} %", 1, _metric),
        Cell("drop, points" if intervals else "drop", DROP_RANK, drop),
        Cell("p50 ms", 1, latency_text),
        Cell("p95 ms", 7, lambda row: latency_text(row, "p95")),
        Cell("items/s", 8, lambda row: _number(row.throughput_per_s)),
        Cell("MB", 3, lambda row: _number(row.size_mb)),
        Cell("RAM MB", 9, lambda row: _number(row.peak_memory_mb)),
        Cell("x ORT", 4, lambda row: NULL if row.speedup is None else ratio_text(row.speedup, interval=False)),
        Cell("x best", 2, ratio),
        Cell("verdict", 0, _outcome, right=False),
    ]


def fitting(report: Report, width: int) -> list[tuple[Cell, int]]:
    """The columns that fit, with their widths. What goes first: the highest ranks, then the intervals."""
    sized = _narrowed(report, width, intervals=True)
    essential = max(cell.rank for cell, _ in sized) >= DROP_RANK
    return sized if essential else _narrowed(report, width, intervals=False)


def _narrowed(report: Report, width: int, *, intervals: bool) -> list[tuple[Cell, int]]:
    chosen = cells(report, intervals=intervals)
    sized = [(cell, max(len(cell.title), *(len(cell.text(row)) for row in report.rows))) for cell in chosen]
    while sum(size for _, size in sized) + 2 * (len(sized) - 1) > width:
        last = max(sized, key=lambda pair: pair[0].rank)
        if last[0].rank == 0:
            break
        sized.remove(last)
    return sized


def _print_rows(report: Report, console: Console) -> None:
    if not report.rows:
        console.print("[dim]No rows.[/dim]")
        return
    sized = fitting(report, console.width)
    console.print(_line([cell.title for cell, _ in sized], sized), style="bold", no_wrap=True, highlight=False)
    for heading, rows in sections(report.rows):
        role = rows[0].role
        title = f"[{ROLE_COLOURS[role]} bold]{_escape(heading)}[/]"
        meaning = f" [dim]{ROLE_MEANINGS[role]}[/dim]"
        console.print(title + (meaning if len(heading) + len(meaning) - 10 <= console.width else ""), highlight=False)
        for row in rows:
            text = _line([cell.text(row) for cell, _ in sized], sized)
            console.print(_escape(text), style=_style(report, row), no_wrap=True, highlight=False)


def _line(texts: Sequence[str], sized: Sequence[tuple[Cell, int]]) -> str:
    padded = [
        text.rjust(size) if cell.right else text.ljust(size) for text, (cell, size) in zip(texts, sized, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _style(report: Report, row: Row) -> str:
    if row.id == report.verdict.get("row"):
        return f"bold {COLOURS[row.verdict]}"
    return "dim" if row.status != "ok" else ""


def _panel(report: Report) -> Panel:
    """Verdict, control, budget and completeness in words."""
    from rich.panel import Panel

    found = report.verdict
    title, words = headline(report)
    ceilings = (found.get("ceilings") or {}).get("words")
    goals = "; ".join(budget_lines(report))
    texts = [words, *arm_words(report), ceilings, goals and f"Budget: {goals}."]
    title = f"[bold]{title}{'' if report.complete else ' (incomplete)'}[/bold]"
    body = "\n\n".join(_escape(text) for text in texts if text)
    return Panel(body, title=title, border_style=COLOURS[found.get("verdict")], title_align="left")


def _outcome(row: Row) -> str:
    return row.status if row.status != "ok" else VERDICT_SHORT.get(row.verdict or "", "")


def _short(metric: str) -> str:
    return {"accuracy": "acc"}.get(metric, metric)


def _metric(row: Row) -> str:
    return NULL if row.metric is None else share_text(row.metric, row.metric_n)


def _number(value: float | None) -> str:
    return NULL if value is None else significant(value)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)

"""A session as a table in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelpress.benchmark.session import Measurement, Session
from modelpress.benchmark.statistics import ratio_interval

if TYPE_CHECKING:
    from rich.console import Console

TITLES = ("engine", "shape", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "per s", "MB", "cold ms", "speed-up", "")
ABSENT = "–"
WIDTH = 120  # in a file or a pipe


def show(session: Session, console: Console | None = None) -> None:
    """Print every row, its ratio to the first engine of its shape with the interval, and what is wrong with it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = [cells(row, _first(session, row)) for row in session.measurements]
    kept = [index for index in range(len(TITLES)) if any(row[index] not in ("", ABSENT) for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index in kept:
        table.add_column(TITLES[index], justify="left" if index < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[index] for index in kept))
    out = console or Console()
    if console is None and not out.is_terminal:
        out = Console(width=WIDTH)
    out.print(table)
    for note in notes(session):
        out.print(note, highlight=False, soft_wrap=not out.is_terminal)


def cells(row: Measurement, base: Measurement) -> list[str]:
    """One string per title. The engine's name shows the effective precision where it is not the one asked for."""
    asked = row.subject.rpartition("/")[2]
    name = row.subject if row.precision == asked or not row.latency_ms else f"{row.subject} (ran {row.precision})"
    if row.latency_ms is None:
        return [name, row.shape, row.status, *[ABSENT] * 8]
    latency = row.latency_ms
    times = [_number(value, 2) for value in (latency.p50, latency.p90, latency.p95, latency.p99)]
    facts = [_number(value, 0) for value in (row.throughput_per_s, row.peak_memory_mb, row.cold_start_ms)]
    return [name, row.shape, *times, *facts, _speedup(row, base), "" if row.status == "ok" else "!"]


def notes(session: Session) -> list[str]:
    """Reasons of rows that are not ok, and a word on synthetic inputs."""
    found = [f"{row.subject} {row.shape} {row.status}: {row.why}" for row in session.measurements if row.why]
    if any(row.details.get("inputs") == "synthetic inputs" for row in session.measurements):
        found.append("Inputs are synthetic: ids in range, masks of ones, normal noise. Use --requests for real ones.")
    return found


def _first(session: Session, row: Measurement) -> Measurement:
    """The row that ratios of this shape refer to: the first engine that could be measured."""
    same = [other for other in session.measurements if other.shape == row.shape and other.latency_ms]
    return same[0] if same else row


def _speedup(row: Measurement, base: Measurement) -> str:
    if row is base:
        return "1"
    ratio = ratio_interval(base.rounds, row.rounds)
    return f"{ratio.value:.2f} ({ratio.ci_low:.2f}–{ratio.ci_high:.2f})"


def _number(value: float | None, digits: int) -> str:
    return ABSENT if value is None else f"{value:.{digits}f}"

"""``modelpress runs``: every run with its time, its verdict and its headline, or why there is none."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import TYPE_CHECKING

from modelpress.compare.choose import best_row
from modelpress.compare.find import DEFAULT_PLACES, find
from modelpress.compare.run import RUN_STATUSES, Run, read_all
from modelpress.errors import one_of
from modelpress.report.names import SHORT_ENGINES, VERDICT_SHORT
from modelpress.report.numbers import latency_text, ratio_text, share_text
from modelpress.report.record import Row

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {"done": "green", "running": "blue", "no report": "dim", "skipped": "dim"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``modelpress runs``."""
    parser = subparsers.add_parser(
        "runs",
        help="every run: finished, running or failed",
        description="List runs, the newest last: finished ones with verdict and headline, others with their reason.",
        epilog=f"statuses: {', '.join(RUN_STATUSES)}. Example: modelpress runs multirun --status failed",
    )
    default = " ".join(DEFAULT_PLACES)
    parser.add_argument("places", nargs="*", metavar="FOLDER", help=f"where to look (default: {default})")
    parser.add_argument("--status", metavar="STATUS", help="only runs that stand so")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Run ``modelpress runs``."""
    from modelpress.compare.command import places

    if args.status is not None:
        one_of("--status", args.status, RUN_STATUSES)
    folders, remarks = find(places(args.places))
    runs = sorted(read_all(folders), key=lambda run: (run.started, str(run.folder)))
    render([run for run in runs if args.status in (None, run.status)])
    for remark in remarks:
        print(remark)
    return 0


def render(runs: list[Run], console: Console | None = None) -> None:
    """One block of one or two lines per run, and the sum."""
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    console = console or Console()
    for run in runs:
        colour = COLOURS.get(run.status, "red")
        facts = "  ".join(filter(None, (_when(run.started), _span(run.seconds))))
        head = f"[{colour}]{run.status:<10}[/] [bold]{escape(str(run.folder))}[/]  [dim]{facts}[/dim]"
        console.print(head, highlight=False, soft_wrap=True)
        console.print(Padding(escape(headline(run)), (0, 0, 0, 11)), highlight=False)
    counts = [f"{n} {name}" for name in RUN_STATUSES if (n := sum(run.status == name for run in runs))]
    console.print(f"[dim]{len(runs)} runs: {', '.join(counts) or 'none'}[/dim]", highlight=False)


def headline(run: Run) -> str:
    """The best row in one line; the first line of the reason where there is no report."""
    reason = run.reason.strip().partition("\n")[0]
    if run.report is None:
        return reason or ("it is running." if run.status == "running" else "no reason was recorded.")
    row = best_row(run.report, lambda _: True)
    words = _words(row) if row is not None else str(run.report.verdict.get("words", "nothing was compressed."))
    parts = [words, "" if run.report.complete else "the report is incomplete", "" if run.status == "done" else reason]
    return "; ".join(filter(None, parts))


def _words(row: Row) -> str:
    parts = [f"{row.model} in {SHORT_ENGINES[row.engine]} {row.precision} {row.shape}"]
    if row.metric is not None:
        parts.append(f"{share_text(row.metric, row.metric_n)} %")
    if row.latency_ms is not None and row.latency_ms.p50 is not None:
        parts.append(f"p50 {latency_text(row)} ms")
    if row.speedup_best is not None:
        parts.append(f"{ratio_text(row.speedup_best)} the baseline's best engine")
    doubt = "" if row.status == "ok" else f" ({row.status})"
    return f"{VERDICT_SHORT.get(row.verdict or '', 'not judged')}{doubt}: {', '.join(parts)}"


def _when(started: str) -> str:
    """``2026-11-22 00:41``, in the time zone in which it was written."""
    try:
        return f"{datetime.fromisoformat(started):%Y-%m-%d %H:%M}"
    except ValueError:
        return ""


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

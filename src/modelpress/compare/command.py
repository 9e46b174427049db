"""``modelpress compare``: find runs, choose their rows, mark the front, print and write."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from modelpress.compare import lines as _lines
from modelpress.compare import where
from modelpress.compare.columns import known, resolve
from modelpress.compare.find import DEFAULT_PLACES, find
from modelpress.compare.redone import newest
from modelpress.compare.run import read_all
from modelpress.compare.table import Comparison, render
from modelpress.errors import ModelPressError

EPILOG = """
columns: those of report.json's rows (metric, latency_ms.p95, size_mb, speedup_best.ratio, engine, precision,
  shape, role, status, verdict …), of the run (name, dataset, seed, seconds) and every override by its
  name or the end of its name (technique.prune.transform.sparsity or transform.sparsity).

examples:
  modelpress compare                                            all of outputs/ and multirun/
  modelpress compare multirun/2026-11-22_00-41-41-596244 --html sweep.html
  modelpress compare --where engine=openvino 'metric>0.8' --sort size_mb
  modelpress compare --rows all --where role=candidate shape=data --x size_mb --csv rows.csv
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``modelpress compare``."""
    parser = subparsers.add_parser(
        "compare",
        help="many runs in one table",
        description="Compare runs: one line for each run's best row and for the baselines it is measured against, "
        "seeds taken together, the Pareto front marked with ★.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("places", nargs="*", metavar="FOLDER", help="run folders, or folders of runs (default: outputs multirun)")
    condition = "column=value (a,b: either), != < <= > >="
    add("--where", nargs="+", action="extend", default=[], metavar="CONDITION", help=condition)
    add("--x", default="latency_ms.p50", metavar="COLUMN", help="to the right in the chart (default: %(default)s)")
    add("--y", default="metric", metavar="COLUMN", help="upwards in the chart (default: %(default)s)")
    add("--sort", metavar="COLUMN", help="best first; --sort=-COLUMN: worst first (default: by role and --x)")
    add("--rows", choices=("best", "all"), default="best", help="each run's best row and its baselines, or all rows")
    add("--each", action="store_true", help="every run on a line of its own: seeds are not taken together")
    add("--html", type=Path, metavar="FILE", help="also write one page: table, charts, links to the reports")
    add("--csv", type=Path, metavar="FILE", help="also write every column with full precision")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Run ``modelpress compare``."""
    found = comparison(
        places(args.places),
        args.where,
        x=args.x,
        y=args.y,
        by=args.sort,
        every=args.rows == "all",
        seeds_apart=args.each,
    )
    render(found)
    for path, text in _files(args, found):
        _write(path, text)
        print(f"wrote {path}")
    return 0


def places(given: Sequence[str]) -> list[Path]:
    """Folders as given; without any, those of the default places that exist."""
    if given:
        return [Path(place) for place in given]
    defaults = [Path(place) for place in DEFAULT_PLACES]
    return [place for place in defaults if place.exists()] or defaults


def comparison(
    folders: Sequence[Path],
    conditions: Sequence[str] = (),
    *,
    x: str = "latency_ms.p50",
    y: str = "metric",
    by: str | None = None,
    every: bool = False,
    seeds_apart: bool = False,
) -> Comparison:
    """Read and compare what lies under ``folders``; the arguments are those of the command.

    Raises :class:`ModelPressError` for unknown columns and conditions that leave nothing.
    """
    found, remarks = find(folders)
    runs, redone = newest(read_all(found))
    remarks += redone
    names = known(runs)
    parsed = [where.parse(text, names) for text in conditions]
    across, up = resolve(x, names, "--x"), resolve(y, names, "--y")
    chosen = _lines.compare(runs, parsed, every=every, seeds_apart=seeds_apart)
    if not chosen:
        raise ModelPressError(f"None of the {len(runs)} runs has a row with {' and '.join(conditions)}.{_hint(parsed)}")
    ordered = _ordered(_lines.in_reading_order(chosen, across), by, names)
    fronted = _lines.mark_front(ordered, across, up)
    if not fronted:
        remarks.append(f"No Pareto front: which way of {across} and {up} is better is not known.")
    return Comparison(ordered, _lines.swept(ordered, runs), across, up, fronted, remarks)


def _ordered(lines: list[_lines.Line], by: str | None, names: Sequence[str]) -> list[_lines.Line]:
    if by is None:
        return lines
    return _lines.sort(lines, resolve(by.removeprefix("-"), names, "--sort"), reverse=by.startswith("-"))


def _hint(conditions: Sequence[where.Condition]) -> str:
    if any(condition.column in ("role", "shape") for condition in conditions):
        return " By default only each run's best row and its baselines are looked at: --rows all looks at all."
    return " Without --where all are shown."


def _files(args: argparse.Namespace, found: Comparison) -> list[tuple[Path, str]]:
    files = []
    if args.csv is not None:
        from modelpress.compare import csv_file

        files.append((args.csv, csv_file.render(found)))
    if args.html is not None:
        from modelpress.compare import page

        files.append((args.html, page.render(found, args.html.parent)))
    return files


def _write(path: Path, text: str) -> None:
    from modelpress.store import write_atomic

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except OSError as fault:
        raise ModelPressError(f"{path} cannot be written: {fault.strerror}.") from fault

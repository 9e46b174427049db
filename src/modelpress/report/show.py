"""``modelpress show outputs/latest``: print a finished report again. Torch-free."""

from __future__ import annotations

import argparse
from pathlib import Path

from modelpress.errors import ModelPressError
from modelpress.report.record import load


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``modelpress show``."""
    parser = subparsers.add_parser("show", help="print the report of a finished run", description=__doc__)
    parser.add_argument("run", nargs="?", default="outputs/latest", help="run folder or report.json (%(default)s)")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Run ``modelpress show``."""
    from modelpress.report import repeat, terminal

    path = report_path(Path(args.run))
    report = load(path)
    terminal.render(report)
    for line in repeat.plain(report):
        print(line)
    page = path.with_name("report.html")
    if page.is_file():
        print(f"\nThe whole report: {page}")
    return 0


def report_path(place: Path) -> Path:
    """The report.json that ``place``, a run folder or the file itself, stands for."""
    if place.is_dir():
        return _in_folder(place)
    if not place.exists():
        hint = "No run has finished here yet." if place.name == "latest" else "Is the name spelled right?"
        example = "Give a run folder, e.g. outputs/<name>/<time>, or its report.json."
        raise ModelPressError(f"There is no {place}. {hint} {example}")
    return place


def _in_folder(folder: Path) -> Path:
    path = folder / "report.json"
    if path.is_file():
        return path
    inside = sorted(folder.glob("*/report.json")) + sorted(folder.glob("*/*/report.json"))
    if inside:
        names = ", ".join(str(found.parent) for found in inside[:5])
        raise ModelPressError(f"{folder} holds {len(inside)} runs; give one of them: {names}.")
    status = folder / "status.json"
    hint = f" {status} says how far the run came." if status.is_file() else ""
    raise ModelPressError(f"{folder} has no report.json: the run did not finish.{hint}")

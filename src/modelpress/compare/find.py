"""Where runs lie: folders with a report.json or a status.json, each real folder once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelpress import status
from modelpress.errors import ModelPressError

REPORT = "report.json"
DEFAULT_PLACES = ("outputs", "multirun")
# What a run folder holds besides its own files. Names with a dot (.hydra, the store) are never entered.
INSIDE_A_RUN = frozenset({"deploy", "press", "logs", "wandb"})


def find(places: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Run folders under ``places`` (folders, or report.json files) in the order of their names, and remarks.

    A symbolic link (``outputs/latest``) is followed, but a folder is taken once, under its own name if that lies under
    ``places`` too. A place that does not exist is remarked upon; raises :class:`ModelPressError` if none is left.
    """
    missing = [place for place in places if not place.exists()]
    roots = [place.parent if place.is_file() else place for place in places if place.exists()]
    if not roots:
        names = ", ".join(map(str, places)) or " or ".join(DEFAULT_PLACES)
        raise ModelPressError(
            f"There is no {names}. Runs write into outputs/, sweeps into multirun/; name such folders."
        )
    found = _unique(roots)
    if not found:
        raise ModelPressError(
            f"No run under {', '.join(map(str, roots))}: no folder there has a {REPORT} or a {status.FILE}. "
            "`modelpress run` makes one."
        )
    return found, [f"There is no {place}." for place in missing]


def _unique(roots: Sequence[Path]) -> list[Path]:
    seen: set[str] = set()
    found: list[Path] = []
    links: list[Path] = []
    for root in roots:
        found += _walk(root, seen, links)
    while links:
        found += _walk(links.pop(0), seen, links)
    return sorted(found)


def _walk(folder: Path, seen: set[str], links: list[Path]) -> Iterator[Path]:
    """Run folders below ``folder`` that were not seen; links to folders are only noted."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    names, below = _entries(folder, links)
    if REPORT in names or status.FILE in names:
        yield folder
    for name in below:
        yield from _walk(folder / name, seen, links)


def _entries(folder: Path, links: list[Path]) -> tuple[set[str], list[str]]:
    """Names of the files of interest, and of the folders to enter."""
    names: set[str] = set()
    below: list[str] = []
    try:
        entries = list(os.scandir(folder))
    except OSError:  # vanished, or another user's: its runs cannot be read either
        return names, below
    for entry in entries:
        if entry.name in (REPORT, status.FILE):
            names.add(entry.name)
        elif entry.name.startswith(".") or entry.name in INSIDE_A_RUN:
            continue
        elif entry.is_symlink():
            links += [folder / entry.name] if entry.is_dir() else []
        elif entry.is_dir():
            below.append(entry.name)
    return names, below

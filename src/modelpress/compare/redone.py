"""Runs that did not finish and were done again since: the newest of a job stands for them."""

from __future__ import annotations

from collections.abc import Sequence

from modelpress.compare.run import Run

NAMED = 3  # folders in the remark
OPEN = ("failed", "stopped", "trained")


def newest(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """``runs`` without those, and a remark that says how many are left out. A run that finished always stays."""
    gone = [run for run in runs if run.status in OPEN and any(_redoes(other, run) for other in runs)]
    if not gone:
        return list(runs), []
    names = ", ".join(str(run.folder) for run in gone[:NAMED]) + (" …" if len(gone) > NAMED else "")
    count = "1 run that did not finish was" if len(gone) == 1 else f"{len(gone)} runs that did not finish were"
    left = {id(run) for run in gone}
    return [run for run in runs if id(run) not in left], [f"{count} done again since, and left out: {names}."]


def _redoes(later: Run, run: Run) -> bool:
    """The same job by its identity (configuration, data, code); by its command where one ended too early to have it."""
    if not later.started > run.started:
        return False
    if later.identity and run.identity:
        return later.identity == run.identity
    return bool(run.command) and later.command == run.command

"""``modelpress sync``: push the offline W&B runs of finished jobs, then record the stages that they rest on.

wandb's own mark says what was pushed, ours what was recorded, so a sync that was cut off goes on where it was.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelpress import status
from modelpress.compare.find import DEFAULT_PLACES
from modelpress.loggers import offline, server
from modelpress.loggers.artifacts import Parent
from modelpress.loggers.offline import OfflineRun

EPILOG = """
A job with logger=wandb and no login, or with logger.wandb.mode=offline, keeps its W&B run in logs/wandb/ of its
folder. Pushed runs are marked there, so the same command again pushes only what is new; Ctrl-C loses nothing.
Runs that are still being written are named and left alone.

login: `wandb login`, or WANDB_API_KEY. Another server: `wandb login --host URL`, or WANDB_BASE_URL.

examples:
  modelpress sync --dry-run                                     what would be pushed from outputs/ and multirun/
  modelpress sync                                               push it
  modelpress sync multirun/2026-11-22_00-41-41-596244           one sweep
"""


@dataclass
class Plan:
    """``push``: not pushed yet. ``record``: pushed, but its parents are not all declared. ``left``: why not touched."""

    push: list[OfflineRun] = field(default_factory=list)
    record: list[OfflineRun] = field(default_factory=list)
    left: dict[Path, str] = field(default_factory=dict)
    before: int = 0  # runs of which nothing is left to do


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``modelpress sync``."""
    parser = subparsers.add_parser(
        "sync",
        help="push offline Weights & Biases runs",
        description="Push offline Weights & Biases runs, and declare the stages that they found in the store (a "
        "teacher, a control) as their inputs, so that W&B draws the lineage.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = " ".join(DEFAULT_PLACES)
    parser.add_argument("places", nargs="*", metavar="FOLDER", help=f"runs or folders of runs (default: {default})")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done; no server is asked")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Run ``modelpress sync``; 1 if a run could not be pushed or its lineage could not be recorded."""
    from modelpress.compare.command import places
    from modelpress.compare.find import find

    folders, remarks = find(places(args.places))
    found = plan([file for folder in folders for file in offline.find(folder)])
    for remark in [*remarks, *described(found)]:
        print(remark, flush=True)
    if args.dry_run or not (found.push or found.record):
        return 0
    return perform(found)


def plan(files: Sequence[Path]) -> Plan:
    """What is to be done with each file. Reads disk only."""
    found = Plan()
    for file in files:
        run = offline.read(file)
        if run is None:
            found.left[file] = "it holds no run: its process was killed before it had begun"
        elif not run.is_pushed and (reason := unfinished(run)):
            found.left[file] = reason
        elif not run.is_pushed:
            found.push.append(run)
        elif not run.is_recorded:
            found.record.append(run)
        else:
            found.before += 1
    return found


def unfinished(run: OfflineRun) -> str | None:
    """Why a run may still be written; ``None`` if it has ended, be it by a kill that left its file without an end."""
    job = status.read(run.folder)
    if run.exit_code is not None or job.get("status") in ("done", "failed") or status.was_killed(job):
        return None
    who = f"process {job['pid']} on {job['host']}" if job else f"{run.folder} has no {status.FILE} that says otherwise"
    return f"it is still being written ({who}); if not, `wandb sync` pushes it as it is"


def described(found: Plan) -> list[str]:
    """The plan, a line for each run with something to say."""
    lines = [f"to push     {_place(run.file)}" for run in found.push]
    lines += [f"to record   {_place(run.file)}: {_names(run.parents)}" for run in found.record]
    lines += [f"left alone  {_place(file)}: {reason}" for file, reason in found.left.items()]
    counts = {"to push": found.push, "to record": found.record, "left alone": found.left}
    parts = [f"{len(runs)} {name}" for name, runs in counts.items() if runs]
    return [*lines, f"{', '.join([*parts, f'{found.before} pushed before'])}."]


def perform(found: Plan) -> int:
    """Push, then record; everything that is done is marked at once."""
    url = server.address()
    server.reach(url)
    api = server.login(url)
    if found.push:
        print(f"Pushing {len(found.push)} to {url}", flush=True)
        for run in found.push:
            if run.exit_code is None:
                offline.mend(run.file)
        server.push(found.push, url)
    failed = [run for run in found.push if not run.is_pushed]
    todo = [run for run in (*found.push, *found.record) if run.is_pushed and not run.is_recorded]
    faults = [f"{_place(run.file)}: not pushed, see above. The same command tries again." for run in failed]
    for number, run in enumerate(todo, 1):
        print(f"Lineage {number} of {len(todo)}: {run.project}/{run.id}", flush=True)
        try:
            for parent in server.record(api, run):
                print(f"  {parent.name} ({parent.digest}) is in no run that was pushed; asked again next time")
        except Exception as fault:  # wandb's own errors have many classes, some of them private
            faults.append(f"{_place(run.file)}: lineage not recorded ({fault}). The same command tries again.")
    pushed, recorded = len(found.push) - len(failed), sum(run.is_recorded for run in todo)
    print("\n".join([*faults, f"{pushed} pushed, lineage of {recorded} recorded, {len(faults)} failed."]))
    return 1 if faults else 0


def _names(parents: Sequence[Parent]) -> str:
    return ", ".join(parent.name for parent in parents)


def _place(file: Path) -> str:
    """The folder that wandb shows and `wandb sync` takes."""
    return os.path.relpath(file.parent)

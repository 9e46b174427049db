"""One run folder as it stands: finished, running, stopped, failed or unreadable. Nothing is dropped."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelpress import status
from modelpress.compare.find import REPORT
from modelpress.compare.origin import Origin, origin
from modelpress.compare.overrides import Value, as_number, overrides
from modelpress.errors import ModelPressError
from modelpress.report.record import Report, Row, load

# How a run stands. trained: waiting to be measured; stopped: its process died without a word; no report: it ended well,
# but was told to write none.
RUN_STATUSES = ("done", "running", "trained", "stopped", "failed", "unreadable", "no report")
KEPT_DETAILS = ("p50_interval_ms", "latency_from")


@dataclass(frozen=True)
class Run:
    """``report`` is ``None`` where there is none that can be read; ``reason`` then says why.

    ``overrides`` are those of its command without the seed. The report's long parts (details, lineage) are left out:
    a thousand reports would not fit in memory; what matters of them is in ``origin``.
    """

    folder: Path
    name: str
    status: str  # RUN_STATUSES
    reason: str
    command: str
    overrides: Mapping[str, Value]
    seed: int | None
    started: str
    seconds: float | None
    identity: str = ""  # of the job: equal for the same configuration, data and code
    report: Report | None = None
    origin: Origin = field(default_factory=Origin)

    def setting(self, name: str) -> Value:
        """The value of an override: as typed, else as resolved, else ``None``."""
        if name in self.overrides:
            return self.overrides[name]
        return self.origin.settings.get(name, self._named(name))

    def _named(self, name: str) -> Value:
        """Defaults of whole groups, as far as the report names them."""
        rows = self.report.rows if self.report else []
        roles = {"model": "candidate", "model@teacher": "baseline"}
        if name == "technique":
            stages = dict.fromkeys(key.split(".")[1] for key in self.origin.settings if key.startswith("technique."))
            return _listed([stage for stage in stages if stage != "control"])
        if name == "engine":
            return _listed(list(dict.fromkeys(row.engine for row in rows)))
        if name in roles:
            return next((row.model for row in rows if row.role == roles[name]), None)
        return self.origin.settings.get(f"{name}.name")


def _listed(names: list[str]) -> Value:
    """As Hydra spells a choice: ``distill`` or ``[distill,qat]``."""
    return None if not names else names[0] if len(names) == 1 else "[" + ",".join(names) + "]"


def read_all(folders: Iterable[Path]) -> list[Run]:
    """Every run. The garbage collector rests meanwhile: it would walk through all reports again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        return [read(folder) for folder in folders]
    finally:
        if was_on:
            gc.enable()


def read(folder: Path) -> Run:
    """One run folder; faults of its files become its status and reason."""
    facts = _status(folder)
    command = str(facts.get("command") or "")
    given = overrides(command)
    run = Run(
        folder=folder,
        name=folder.parent.name,
        status=str(facts.get("status")),
        reason=str(facts.get("reason") or ""),
        command=command,
        overrides={name: entry for name, entry in given.items() if name != "seed"},
        seed=_seed(given),
        started=str(facts.get("started") or ""),
        seconds=as_number(facts.get("seconds")),
        identity=str(facts.get("identity") or ""),
    )
    return _with_report(run) if (folder / REPORT).exists() else _without(run, facts)


def _status(folder: Path) -> Mapping[str, Any]:
    path = folder / status.FILE
    if not path.exists():
        return {"status": "done"}  # a report without status.json: made by `modelpress.compress`
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return facts if isinstance(facts, dict) else {"status": "unreadable", "reason": f"{path} is no JSON object."}
    except (OSError, ValueError) as fault:
        return {"status": "unreadable", "reason": f"{path} is cut off or damaged ({fault})."}


def _seed(given: Mapping[str, Value]) -> int | None:
    seed = as_number(given.get("seed"))
    return None if seed is None else int(seed)


def _with_report(run: Run) -> Run:
    try:
        report = load(run.folder / REPORT)
        found = origin(report)
    except ModelPressError as fault:
        return replace(run, status="unreadable", reason=str(fault))
    except (AttributeError, KeyError, TypeError) as fault:
        return replace(run, status="unreadable", reason=f"{run.folder / REPORT} is no report of ours: {fault}.")
    command = run.command or report.command
    given = {name: entry for name, entry in overrides(command).items() if name != "seed"}
    changes: dict[str, Any] = {"name": report.name, "seed": report.seed, "command": command, "overrides": given}
    seconds = run.seconds if run.seconds is not None else as_number(report.seconds.get("total"))
    status_now = run.status if run.status in ("failed", "running", "trained") else "done"
    return replace(run, status=status_now, report=_light(report), origin=found, seconds=seconds, **changes)


def _light(report: Report) -> Report:
    rows = [_light_row(row) for row in report.rows]
    return replace(report, rows=rows, lineage=[], environment={})


def _light_row(row: Row) -> Row:
    row.details = {key: row.details[key] for key in KEPT_DETAILS if key in row.details}
    return row


def _without(run: Run, facts: Mapping[str, Any]) -> Run:
    if run.status == "running" and facts.get("host") not in (None, os.uname().nodename):
        reason = "on another machine (status.json says which): whether it still runs can only be seen there."
        return replace(run, reason=reason)
    if run.status == "running" and not _is_alive(facts.get("pid")):
        pid = facts.get("pid")
        reason = f"killed: there is no process {pid} here. The same command continues."
        return replace(run, status="stopped", reason=reason, seconds=None)
    if run.status == "trained":
        return replace(run, reason="it waits to be measured, when all of its sweep have trained.")
    if run.status == "done":
        return replace(run, status="no report", reason=run.reason or "it ended well, but was told to write no report.")
    return run if run.status in RUN_STATUSES else replace(run, status="unreadable", reason="its status.json is odd.")


def _is_alive(pid: object) -> bool:
    try:
        os.kill(int(pid), 0)  # type: ignore[call-overload]
    except PermissionError:
        return True  # another user's process
    except (OSError, TypeError, ValueError):
        return False
    return True

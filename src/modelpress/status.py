"""status.json: how one job stands (see ``STATUSES``), readable while it runs and after it died."""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

TRAINED = "trained"  # and waiting to be measured: a job of a parallel sweep between its two waves
STATUSES = ("running", TRAINED, "done", "failed")
FILE = "status.json"
BUG_FILE = "error.txt"
log = logging.getLogger(__name__)


class Status:
    """Writes ``status.json`` atomically at the start and at the end of a job; rank 0 only.

    ``{"status", "reason", "command", "score", "pid", "host", "started", "seconds"}``, ``identity`` (a digest of config,
    data and code; known once they were checked), and in a sweep ``sweep`` (its folder), ``overrides`` and ``swept``
    (those that differ between jobs). A job whose status is ``running`` while no process ``pid`` exists was killed. A
    disk that cannot be written is logged: it must not hide the job's own end.
    """

    def __init__(self, folder: Path, command: str, facts: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        before = read(folder)
        self._start = time.monotonic() - (before.get("seconds", 0) if before.get("status") == TRAINED else 0)
        self._facts: dict[str, Any] = {
            "command": command,
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            **(facts or {}),
        }
        self._write("running", None, None)

    def note(self, **facts: Any) -> None:
        """Add what is known by now; it is written with the job's end."""
        self._facts.update(facts)

    def trained(self) -> None:
        """All that comes before the benchmark is in the store."""
        self._write(TRAINED, None, None)

    def done(self, score: float) -> None:
        """The job ended well; ``score`` is its task metric (NaN is written as null)."""
        self._write("done", None, None if score != score else score)

    def failed(self, reason: str, bug: Exception | None = None) -> None:
        """The job did not end well; the traceback of a ``bug`` goes to ``error.txt``."""
        self._write("failed", reason, None)
        if bug is not None:
            self._save(BUG_FILE, "".join(traceback.format_exception(bug)))

    def _write(self, status: str, reason: str | None, score: float | None) -> None:
        seconds = round(time.monotonic() - self._start, 1)
        record = {"status": status, "reason": reason, "score": score, **self._facts, "seconds": seconds}
        self._save(FILE, json.dumps(record, indent=1) + "\n")

    def _save(self, name: str, text: str) -> None:
        if os.environ.get("LOCAL_RANK", "0") != "0" or os.environ.get("NODE_RANK", "0") != "0":
            return
        temporary = self.folder / f".{name}.tmp"
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.folder / name)
        except OSError as error:
            log.warning("cannot write %s: %s", self.folder / name, error.strerror)


def read(folder: Path) -> dict[str, Any]:
    """The ``status.json`` of a job; empty where there is none, or half of one."""
    try:
        record: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record


def jobs(sweep: Path) -> dict[Path, dict[str, Any]]:
    """Job folders of a sweep with their ``status.json``, in the order of their numbers."""
    folders = sorted((path.parent for path in sweep.glob(f"*/{FILE}")), key=lambda path: (len(path.name), path.name))
    return {folder.resolve(): read(folder) for folder in folders}


def failures(sweep: Path) -> dict[Path, str]:
    """Job folders of a sweep whose ``status.json`` says ``failed``, with the reason, in the order of their numbers."""
    return {path: record["reason"] for path, record in jobs(sweep).items() if record.get("status") == "failed"}


def was_killed(record: Mapping[str, Any]) -> bool:
    """Whether a job that says it is running cannot be: its process is gone from this machine."""
    if record.get("status") != "running" or record.get("host") != os.uname().nodename:
        return False
    try:
        os.kill(int(record["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False

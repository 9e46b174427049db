"""status.json: how one job stands (``running``, ``done`` or ``failed``), readable while it runs and after it died."""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any

STATUSES = ("running", "done", "failed")
FILE = "status.json"
BUG_FILE = "error.txt"
log = logging.getLogger(__name__)


class Status:
    """Writes ``status.json`` atomically at the start and at the end of a job; rank 0 only.

    ``{"status", "reason", "command", "score", "pid", "started", "seconds"}``. A job whose status is ``running`` while
    no process ``pid`` exists was killed. A disk that cannot be written is logged: it must not hide the job's own end.
    """

    def __init__(self, folder: Path, command: str) -> None:
        self.folder = folder
        self._start = time.monotonic()
        self._facts: dict[str, Any] = {
            "command": command,
            "pid": os.getpid(),
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        self._write("running", None, None)

    def done(self, score: float) -> None:
        """The job ended well; ``score`` is what a sweeper sees (NaN is written as null)."""
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


def failures(sweep: Path) -> dict[Path, str]:
    """Job folders of a sweep whose ``status.json`` says ``failed``, with the reason, in the order of their numbers."""
    found: dict[Path, str] = {}
    for path in sorted(sweep.glob(f"*/{FILE}"), key=lambda path: (len(path.parent.name), path.parent.name)):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["status"] == "failed":
            found[path.parent.resolve()] = record["reason"]
    return found

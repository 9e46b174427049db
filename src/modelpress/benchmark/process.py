"""The parent's side of a worker: start, ask, stop (SIGSTOP), go on (SIGCONT), kill, and say how it died."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from modelpress.engines.base import Plan

SLICE_S = 0.5


class WorkerFault(Exception):
    """A worker could not do a command. ``status`` is ``failed`` or ``unsupported``; the text is the reason."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


class WorkerProcess:
    """One fresh Python process that opens one plan. Its output goes to ``log``, its answers to a private pipe."""

    def __init__(self, log: Path) -> None:
        self.log = log
        reader, writer = os.pipe()
        with log.open("wb") as output:
            spawned = str(time.monotonic())
            self.process = subprocess.Popen(
                [sys.executable, "-m", "modelpress.benchmark.worker", str(writer), spawned],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(writer,),
                env=environment(),
                start_new_session=True,  # Ctrl-C reaches the parent only, which then kills its workers
            )
        os.close(writer)
        self.reader = reader
        self.buffer = b""

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self.process.pid

    def ask(self, command: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        """Send one command and wait for its answer. Raises :class:`WorkerFault`, also when the worker dies."""
        try:
            assert self.process.stdin is not None
            self.process.stdin.write((json.dumps({"command": command, **arguments}) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        answer: dict[str, Any] = json.loads(self._line(command, timeout_s))
        status = answer.pop("status")
        if status != "ok":
            raise WorkerFault(status, str(answer["why"]))
        return answer

    def open(self, plan: Plan, workloads: dict[str, Path], timeout_s: float) -> dict[str, Any]:
        """Open a plan in the worker and let it answer the first request."""
        paths = {shape: str(path) for shape, path in workloads.items()}
        return self.ask("open", timeout_s, plan=plan.to_json(), workloads=paths)

    def pause(self) -> None:
        """SIGSTOP: its threads, spinning ones too, get no time until :meth:`resume`."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + 1.0
        while process_state(self.pid) not in ("T", "Z", None) and time.monotonic() < deadline:
            time.sleep(0.0005)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL (works on stopped processes too) and reap."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # a command that a dead worker never read
                self.process.stdin.close()
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1

    def _signal(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def _line(self, command: str, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self.buffer:
            if time.monotonic() > deadline:
                raise WorkerFault("failed", f"no answer to {command!r} within {timeout_s:g} s")
            if select.select([self.reader], [], [], SLICE_S)[0]:
                chunk = os.read(self.reader, 1 << 20)
                if not chunk:
                    raise self._died()
                self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line

    def _died(self) -> WorkerFault:
        code = self.process.wait()
        return WorkerFault("failed", f"worker died: {explain_exit(code)}{last_words(self.log)}")


def environment() -> dict[str, str]:
    """The worker's environment: this one, with our package importable and byte code cached."""
    source = str(Path(__file__).resolve().parents[2])
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}


def explain_exit(code: int) -> str:
    """``exit status 3``, ``SIGSEGV``, or for SIGKILL a hint at memory."""
    if code >= 0:
        return f"exit status {code}"
    name = signal.Signals(-code).name
    return f"{name} (killed; out of memory?)" if -code == signal.SIGKILL else name


def last_words(log: Path, characters: int = 300) -> str:
    """The last line a worker printed, as ``; last output: ...``."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f"; last output: {lines[-1].strip()[-characters:]}" if lines else ""


def process_state(pid: int) -> str | None:
    """State letter of a process from /proc (``T`` stopped, ``Z`` zombie); ``None`` if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None

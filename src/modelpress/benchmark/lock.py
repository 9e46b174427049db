"""A machine-wide reader-writer lock: training holds it shared, a benchmark exclusively.

An ``flock`` on a file in the temporary folder, so a dead owner frees it. Re-entrant within a process: a benchmark
inside a training run turns its own shared lock into an exclusive one and back.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

POLL_S = 0.25


@dataclass
class _Held:
    """What this process holds. One open file: converting its lock cannot deadlock with ourselves."""

    file: int | None = None
    kind: int = fcntl.LOCK_UN
    stack: list[tuple[int, str]] = field(default_factory=list)


_held = _Held()


def folder() -> Path:
    """Folder of this machine's lock (temporary folders may be shared between machines).

    ``MODELPRESS_LOCK_FOLDER`` moves it, for tests that must neither wait for real runs nor stop them.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    machine = boot.read_text() if boot.exists() else platform.node()
    place = Path(os.environ.get("MODELPRESS_LOCK_FOLDER", tempfile.gettempdir()))
    return place / f"modelpress-lock-{hashlib.sha256(machine.encode()).hexdigest()[:12]}"


@contextmanager
def shared(reason: str, tell: Callable[[str], None] = print) -> Iterator[None]:
    """Work that loads the machine: many at a time, but none during a benchmark."""
    with _hold(fcntl.LOCK_SH, reason, tell):
        yield


@contextmanager
def exclusive(reason: str, tell: Callable[[str], None] = print) -> Iterator[None]:
    """A benchmark: alone on the machine, as far as ModelPress knows."""
    with _hold(fcntl.LOCK_EX, reason, tell):
        yield


def holders() -> list[dict[str, object]]:
    """Living processes that hold the lock, this one included: ``pid``, ``kind``, ``reason``, ``since`` (Unix time)."""
    found = []
    for note in sorted(folder().glob("holder-*.json")):
        with suppress(OSError, ValueError):
            record = json.loads(note.read_text())
            if _alive(int(record["pid"])):
                found.append(record)
            else:
                note.unlink()
    return found


@contextmanager
def _hold(kind: int, reason: str, tell: Callable[[str], None]) -> Iterator[None]:
    needed = kind if _held.kind != fcntl.LOCK_EX else fcntl.LOCK_EX  # inside our benchmark everything is exclusive
    _held.stack.append((needed, reason))
    try:
        _become(needed, reason, tell)
        yield
    finally:
        _held.stack.pop()
        outer = _held.stack[-1] if _held.stack else None
        _release() if outer is None else _become(*outer, tell)


def _become(kind: int, reason: str, tell: Callable[[str], None]) -> None:
    """Hold the lock in this kind, waiting for others. Converting gives the old kind up first, so two cannot block."""
    if _held.kind == kind:
        return
    if _held.file is None:
        _held.file = _open()
    told: set[object] = set()
    _held.kind = fcntl.LOCK_UN
    while True:
        try:
            fcntl.flock(_held.file, kind | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            _forget()
            _tell(told, reason, tell)
            time.sleep(POLL_S)
    _held.kind = kind
    _note(kind, reason)


def _release() -> None:
    if _held.file is not None:
        _forget()
        os.close(_held.file)
    _held.file, _held.kind = None, fcntl.LOCK_UN


def _open() -> int:
    """The lock file, usable by every user (sticky folder: O_CREAT on another user's file would be refused)."""
    place = folder()
    with suppress(FileExistsError):
        place.mkdir()
        place.chmod(0o1777)
    path = place / "lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        os.fchmod(file, 0o666)
        return file
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _tell(told: set[object], reason: str, tell: Callable[[str], None]) -> None:
    """Say once per holder who is being waited for."""
    others = [holder for holder in holders() if holder["pid"] != os.getpid()]
    for holder in others or [{"pid": None, "reason": "unknown"}]:
        if holder["pid"] not in told:
            told.add(holder["pid"])
            tell(f"{reason}: waiting for process {holder['pid']} ({holder['reason']})")


def _note(kind: int, reason: str) -> None:
    name = "exclusive" if kind == fcntl.LOCK_EX else "shared"
    record = {"pid": os.getpid(), "kind": name, "reason": reason, "since": time.time()}
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW  # anyone may put a link into this folder
    with suppress(OSError), os.fdopen(os.open(_note_path(), flags, 0o644), "w") as note:
        json.dump(record, note)


def _forget() -> None:
    with suppress(OSError):
        _note_path().unlink(missing_ok=True)


def _note_path() -> Path:
    return folder() / f"holder-{os.getpid()}.json"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _after_fork() -> None:
    """A forked child (a data loader's worker) does not hold its parent's lock."""
    if _held.file is not None:
        os.close(_held.file)
    _held.file, _held.kind, _held.stack = None, fcntl.LOCK_UN, []


os.register_at_fork(after_in_child=_after_fork)

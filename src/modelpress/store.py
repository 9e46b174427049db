"""The content-addressed store: cache, resume, sweep sharing and lineage are this one mechanism.

An entry is a folder keyed by the hash of everything that went into it. ``obtain`` returns it, computing it at most
once on this machine; a killed computation leaves its work folder behind, and the next ``obtain`` continues there.

Layout: ``entries/<key>/`` (finished, with ``entry.json``), ``work/<key>/`` (unfinished), ``locks/<key>.lock``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelpress.errors import ModelPressError

log = logging.getLogger(__name__)
RECORD = "entry.json"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


def canonical(inputs: Any) -> str:
    """One spelling per value: sorted keys, no whitespace, no NaN."""
    return json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)


def digest(inputs: Any) -> str:
    """sha256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(inputs).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Request:
    """What is wanted: ``inputs`` decide the key, ``kind`` and ``name`` are for people."""

    kind: str
    name: str
    inputs: Mapping[str, Any]

    @property
    def key(self) -> str:
        return digest({"kind": self.kind, "inputs": self.inputs})[:32]


@dataclass(frozen=True)
class Entry:
    """A finished result. ``seconds`` is what it cost to make, over all its sessions."""

    key: str
    kind: str
    name: str
    folder: Path
    inputs: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    seconds: float
    created: str
    reused: bool = field(default=True, compare=False)

    def digest_of(self, relative: str) -> str:
        """sha256 of one of its files, as recorded when it was made."""
        return str(self.files[relative]["sha256"])

    def lineage(self) -> dict[str, Any]:
        """The line that the report carries for it."""
        names = ("key", "kind", "name", "seconds", "created", "reused")
        return {**{name: getattr(self, name) for name in names}, "inputs": dict(self.inputs)}


class Store:
    """Stage results, exports, plans and measurements under ``root``."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()

    def folder(self, key: str) -> Path:
        return self.root / "entries" / key

    def work(self, key: str) -> Path:
        return self.root / "work" / key

    def find(self, request: Request) -> Entry | None:
        """The finished entry, verified by checksum. A damaged one is put aside and reported as missing."""
        folder = self.folder(request.key)
        if not (folder / RECORD).is_file():
            return None
        fault = damage(folder)
        if fault is None:
            (folder / RECORD).touch()  # last use, for `store gc`
            return read(folder)
        aside = self.root / "damaged" / f"{request.key}-{time.time_ns()}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(aside)
        log.warning(
            "The store entry %s is damaged (%s). It is made again; the old one lies in %s.", request.name, fault, aside
        )
        return None

    def obtain(self, request: Request, compute: Callable[[Path], None]) -> Entry:
        """The entry for ``request``; ``compute(folder)`` fills it if it is missing.

        ``compute`` may find files of an earlier, killed attempt in ``folder`` and should continue from them.
        Raises :class:`ModelPressError` when the disk is full or cannot be written; nothing finished is lost then.
        """
        entry = self.find(request)
        if entry is not None:
            log.info("Reused from the store: %s (made %s, saved %.0f s).", request.name, entry.created, entry.seconds)
            return entry
        try:
            return self._make(request, compute)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise ModelPressError(
                f"Could not write {request.name} under {self.root}: {error}. Free some space or choose another folder "
                "with `store=…` (or the variable MODELPRESS_STORE); then give the same command: it continues."
            ) from error

    def _make(self, request: Request, compute: Callable[[Path], None]) -> Entry:
        with owned(self.root / "locks", request.key, request.name):
            entry = self.find(request)  # another process may have made it while we waited
            if entry is not None:
                return entry
            work = self.work(request.key)
            work.mkdir(parents=True, exist_ok=True)
            started, before = time.time(), _spent(work)
            try:
                compute(work)
            finally:
                (work / ".seconds").write_text(str(before + time.time() - started))
            return self._commit(request, work)

    def _commit(self, request: Request, work: Path) -> Entry:
        seconds = _spent(work)
        (work / ".seconds").unlink()
        record = {
            "key": request.key,
            "kind": request.kind,
            "name": request.name,
            "inputs": request.inputs,
            "files": manifest(work),
            "seconds": seconds,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        write_atomic(work / RECORD, json.dumps(record, indent=1, default=str))
        target = self.folder(request.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        work.rename(target)
        return read(target, reused=False)


def read(folder: Path, *, reused: bool = True) -> Entry:
    """The entry that lies in ``folder``."""
    record = json.loads((folder / RECORD).read_text())
    return Entry(folder=folder, reused=reused, **record)


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Checksum and size of every file under ``folder``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {str(p.relative_to(folder)): {"sha256": file_digest(p), "bytes": p.stat().st_size} for p in files}


def damage(folder: Path) -> str | None:
    """What is wrong with an entry, or ``None``."""
    try:
        expected = json.loads((folder / RECORD).read_text())["files"]
    except (ValueError, KeyError, TypeError) as error:
        return f"{RECORD} is unreadable: {error}"
    for name, facts in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != facts["bytes"] or file_digest(path) != facts["sha256"]:
            return f"{name} has another checksum"
    return None


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def owned(folder: Path, key: str, name: str) -> Iterator[None]:
    """Hold the lock of ``key``. The kernel frees it when its owner dies, so nobody waits for the dead."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(folder / f"{key}.lock"), folder / f"{key}.owner"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = owner.read_text() if owner.is_file() else "another process"
        log.info("Waiting for %s, which %s is making.", name, who)
        lock.acquire()
    try:
        owner.write_text(f"process {os.getpid()} on {os.uname().nodename}")
        yield
    finally:
        lock.release()


def clear(path: Path) -> None:
    """Remove a file or folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _spent(work: Path) -> float:
    marker = work / ".seconds"
    return float(marker.read_text()) if marker.is_file() else 0.0

"""Offline W&B runs as they lie on disk. wandb 0.31 has no reader of its files, only their protobuf messages."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelpress.loggers.artifacts import Parent

# A log of leveldb's form: blocks of chunks, each chunk with checksum, length and kind before its bytes.
BLOCK, HEADER, FIRST = 32768, 7, 7  # bytes per block, per chunk header, and of the file's own header
MAGIC = b":W&B"
FULL, LAST = 1, 4  # chunk kinds that complete a record
SYNCED = ".synced"  # wandb's own mark beside a file that was pushed to its end
RECORDED = ".lineage"  # ours beside a file whose parents are recorded as well


@dataclass(frozen=True)
class OfflineRun:
    """One run. ``exit_code`` is ``None`` where the file has no end: it is being written, or its process was killed."""

    file: Path
    id: str
    project: str
    entity: str  # empty: the login's own
    exit_code: int | None
    parents: Sequence[Parent]  # stages that it found finished: what its artefacts rest on and it did not log itself

    @property
    def folder(self) -> Path:
        """The run folder of the job: ``<run folder>/logs/wandb/offline-run-…/run-….wandb``."""
        return self.file.parents[3]

    @property
    def is_pushed(self) -> bool:
        return beside(self.file, SYNCED).exists()

    @property
    def is_recorded(self) -> bool:
        return not self.parents or beside(self.file, RECORDED).exists()


def find(run_folder: Path) -> list[Path]:
    """Files of the offline runs of one job, the oldest first; every attempt of the job has made one."""
    return sorted(run_folder.glob("logs/wandb/offline-run-*/run-*.wandb"))


def beside(file: Path, mark: str) -> Path:
    """The file that marks ``file`` as pushed or as recorded."""
    return file.with_name(file.name + mark)


def read(file: Path) -> OfflineRun | None:
    """The run in a file; ``None`` where it breaks off before saying which run it is."""
    run, exit_code, logged = None, None, []
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run" and run is None:
            run = record.run
        elif kind == "exit":
            exit_code = record.exit.exit_code
        elif kind == "artifact":
            logged.append(record.artifact)
    if run is None:
        return None
    own = {artifact.digest for artifact in logged}
    named = [Parent(**given) for artifact in logged for given in _metadata(artifact.metadata).get("parents", [])]
    parents = tuple(dict.fromkeys(parent for parent in named if parent.digest not in own))
    return OfflineRun(file, run.run_id, run.project, run.entity, exit_code, parents)


def mend(file: Path) -> None:
    """Cut off the half record with which a killed process ends a file: wandb never calls such a file pushed."""
    ends = [end for end, _ in _whole(file.read_bytes())]
    if ends and ends[-1] < file.stat().st_size:
        os.truncate(file, ends[-1])


def records(file: Path) -> Iterator[Any]:
    """Every whole record of a file; nothing after the place where it breaks off."""
    from wandb.proto import wandb_internal_pb2 as wire

    for _, body in _whole(file.read_bytes()):
        record: Any = wire.Record()  # type: ignore[attr-defined]  # made when the module is imported
        record.ParseFromString(body)
        yield record


def _whole(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Where each whole record ends, and its bytes."""
    position, body = FIRST, b""
    while data.startswith(MAGIC) and position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:  # too short for a header: padding up to the next block
            position += BLOCK - position % BLOCK
            continue
        size, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        position += HEADER + size
        if position > len(data):
            return
        body += data[position - size : position]
        if kind in (FULL, LAST):
            yield position, body
            body = b""


def _metadata(text: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(text) if text else {}
    return found

"""The folder of a sweep. The same command finds the folder it made before and runs only what is missing there.

``sweep.json`` says which command made the folder and with which code: other code, other folder, so that finished jobs
are neither mixed nor overwritten. A lock file keeps two processes from running one sweep at the same time.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from modelpress.config import conf_dir
from modelpress.errors import ModelPressError
from modelpress.store import digest, file_digest, write_atomic

ROOT = Path("multirun")  # as hydra.sweep.dir in conf/config.yaml
RECORD = "sweep.json"
LOCK = ".lock"
DIR = "hydra.sweep.dir="
# What may change between two parts of one sweep: how jobs are started, and how many a search may try.
IDLE = ("-m", "--multirun", "hydra/launcher=", "hydra.launcher", "hydra.sweeper.n_trials=")
RUNTIMES = ("onnxruntime", "openvino")


@cache
def code() -> str:
    """A digest of ModelPress's own files and of the libraries that train and measure."""
    from modelpress.job import TRAINING_LIBRARIES, versions  # imports NumPy, which no typing mistake should wait for

    package = Path(__file__).resolve().parents[1]
    files = [(path.relative_to(package), path) for path in package.rglob("*.py")]
    files += [(Path("conf") / path.relative_to(conf_dir()), path) for path in conf_dir().rglob("*.yaml")]
    own = {str(name): file_digest(path) for name, path in sorted(files)}
    return digest([own, versions(*TRAINING_LIBRARIES, *RUNTIMES)])


@contextmanager
def continued(arguments: Sequence[str]) -> Iterator[list[str]]:
    """The arguments, with the folder of the sweep that the same command began before, if there is one.

    Raises :class:`ModelPressError` if another process is running that sweep now.
    """
    earlier = find(arguments)
    try:
        if earlier is not None:
            lock(earlier)
        added = [f"{DIR}{earlier}"] if earlier is not None and _dir_of(arguments) is None else []
        yield [*arguments, *added]
    finally:
        unlock()


def find(arguments: Sequence[str]) -> Path | None:
    """The newest folder that the same command made with the same code."""
    given = _dir_of(arguments)
    places = [given] if given is not None else sorted(ROOT.glob("*"), reverse=True)
    wanted = deciding(arguments)
    return next((place for place in places if _made_by(place, wanted)), None)


def begin(folder: Path, arguments: Sequence[str], command: str, swept: Sequence[str]) -> None:
    """Write ``sweep.json`` into the folder of a sweep that starts or goes on, and hold its lock."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"command": command, "arguments": deciding(arguments), "swept": list(swept), "code": code()}
    with suppress(ModelPressError):  # a folder given by name, which another command is filling: jobs know their own
        lock(folder)
    write_atomic(folder / RECORD, json.dumps(record, indent=1) + "\n")


def deciding(arguments: Sequence[str]) -> list[str]:
    """What makes a command another sweep."""
    return [argument for argument in arguments if not argument.startswith((*IDLE, DIR))]


def read(folder: Path) -> dict[str, Any]:
    """``sweep.json``; empty where there is none, or half of one."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record


class _Held:
    """The open file of the lock that this process holds."""

    file: int | None = None
    folder: Path | None = None


def lock(folder: Path) -> None:
    """Hold the folder until :func:`unlock` or the end of the process; raises if another process does."""
    if _Held.folder == folder.resolve():
        return
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(file, 100).decode()
        os.close(file)
        raise ModelPressError(
            f"The same sweep is running already in {folder} (process {owner}). Wait for it, or start another one "
            f"beside it with {DIR}{ROOT}/<name>."
        ) from None
    os.ftruncate(file, 0)
    os.write(file, str(os.getpid()).encode())
    _Held.file, _Held.folder = file, folder.resolve()


def unlock() -> None:
    """Give the lock back; harmless when none is held."""
    if _Held.file is not None:
        os.close(_Held.file)
    _Held.file, _Held.folder = None, None


def _made_by(folder: Path, wanted: list[str]) -> bool:
    record = read(folder)
    return record.get("arguments") == wanted and record.get("code") == code()


def _dir_of(arguments: Sequence[str]) -> Path | None:
    given = [argument.removeprefix(DIR) for argument in arguments if argument.startswith(DIR)]
    return Path(given[-1]) if given else None

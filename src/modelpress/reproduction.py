"""One command that repeats a run from a clean clone, and what a clone does not bring. Torch-free."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from modelpress.job import Job
from modelpress.store import file_digest

PROGRAMS = (["modelpress", "run"], ["python", "run.py"], ["python", "-m", "modelpress", "run"])
# Where results are kept and who watches: no part of the result, and places of one machine.
LEFT_OUT = ("store=", "logger=", "logger.", "+logger.", "~logger", "hydra.run.dir=")
DESCRIPTIONS = ("dataset", "model", "teacher")  # nodes of the config that may name files of the user's
LOCAL = Path("conf/local/default.yaml")  # of the checkout; not in git
ABROAD = "package:"  # files that `make setup` installs


def reproduction(job: Job, code: Mapping[str, Any]) -> dict[str, Any]:
    """``command`` for a shell at the top of any clone (``None``: there is none), ``needs`` and ``remarks``.

    It makes a new folder beside the clone, so that nothing of the clone's own state matters. ``needs`` lists files with
    ``key`` (what names it), ``path`` and ``sha256``; relative paths are meant from that new folder.
    """
    arguments = None if job.only_here else _arguments(job.command)
    if arguments is None:
        why = job.only_here or "this run was started from Python, not by a command."
        return {"command": None, "needs": [], "remarks": [f"No command repeats this run: {why}"]}
    kept = [argument for argument in arguments if not argument.startswith(LEFT_OUT)]
    return {"command": _command(kept, code["commit"]), "needs": list(_needs(job, kept)), "remarks": _remarks(code)}


def _arguments(command: str) -> list[str] | None:
    words = shlex.split(command)
    program = next((program for program in PROGRAMS if words[: len(program)] == program), None)
    return None if program is None else words[len(program) :]


def _command(arguments: list[str], commit: str | None) -> str:
    if commit is None:
        return f"modelpress run {shlex.join(arguments)}".strip()
    place = f"../modelpress-{commit[:8]}"
    steps = [f"git clone . {place}", f"cd {place}", f"git checkout --quiet {commit}", "make setup"]
    return " && ".join([*steps, f".venv/bin/python run.py {shlex.join(arguments)}".strip()])


def _remarks(code: Mapping[str, Any]) -> list[str]:
    if code["commit"] is None:
        return ["ModelPress did not run from a checkout, so its commit is unknown: install the same version first."]
    if code["dirty"]:
        return ["The working tree had changes that are not in that commit: the command runs without them."]
    return []


def _needs(job: Job, arguments: list[str]) -> Iterator[dict[str, str]]:
    for node in DESCRIPTIONS:
        for key, value in _strings(node, job.config[node]):
            yield from _files(key, value)
    for flag, value in pairwise(arguments):
        if flag in ("--config-dir", "--config-path"):
            yield from _files(flag, value)
    if LOCAL.is_file():
        yield from _files("local", str(LOCAL))


def _strings(key: str, node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, str) and not node.startswith(ABROAD):
        yield key, node
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, entry in items:
        yield from _strings(f"{key}.{name}", entry)


def _files(key: str, value: str) -> Iterator[dict[str, str]]:
    """The file that a value names, or all files of the folder. Words that happen to name something here look like
    paths only if they have a slash or a dot.
    """
    path = Path(value).expanduser()
    if not value or not (set(value) & {"/", "."}) or not path.exists():
        return
    found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in found:
        yield {"key": key, "path": str(file), "sha256": file_digest(file)}

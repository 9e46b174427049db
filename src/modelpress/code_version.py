"""Which code ran: the commit of the checkout that this package lies in. Standard library only."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def code_version(folder: Path = HERE) -> dict[str, Any]:
    """``commit`` (full hash) and ``dirty`` (tracked files were changed since); both null outside a checkout.

    A package that was installed into some other project's checkout is not that project: git must know its files.
    """
    unknown: dict[str, Any] = {"commit": None, "dirty": None}
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return unknown
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)} if commit else unknown


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers; ``None`` where there is no git or it fails."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

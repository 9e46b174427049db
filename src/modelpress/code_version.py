"""Which code ran: the commit of the checkout that this package lies in. Standard library only."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@cache
def code_version(folder: Path = HERE) -> dict[str, Any]:
    """``commit`` (full hash) and ``dirty`` (tracked files were changed since); both null outside a checkout.

    Asked once: a process goes on with the code that it imported, whatever is committed meanwhile. A package that was
    installed into some other project's checkout is not that project: git must know its files.
    """
    known = _git(folder, "rev-parse", "HEAD", "HEAD:./__init__.py")
    changes = known and _git(folder, "status", "--porcelain", "--untracked-files=no")
    if not known or changes is None:
        return {"commit": None, "dirty": None}
    return {"commit": known.split()[0], "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers; ``None`` where there is no git or it fails."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

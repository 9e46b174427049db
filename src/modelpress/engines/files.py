"""Put an existing file or folder into an engine's folder without a second copy on disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def link(source: Path, target: Path) -> Path:
    """A hard link to ``source`` at ``target`` (a copy where the disk or its rights do not allow one)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)
    return target


def link_tree(source: Path, target: Path) -> Path:
    """Every file below ``source``, linked below ``target``."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            link(path, target / path.relative_to(source))
    return target

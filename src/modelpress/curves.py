"""Training curves as a stage keeps them: one JSON line ``{"step", "metrics"}`` at a time. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "curves.jsonl"


def read(path: Path) -> list[dict[str, Any]]:
    """The lines written so far; a last line cut off by a kill is dropped."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows

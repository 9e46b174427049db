"""Rivals' command lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def optimum_cli(*arguments: str) -> None:
    """Run ``optimum-cli`` of this environment. Raises RuntimeError with its last line if it stops."""
    program = str(Path(sys.executable).parent / "optimum-cli")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"optimum-cli stopped: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")

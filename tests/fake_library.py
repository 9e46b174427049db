"""Compile a fake of a driver's C library, so that ctypes code meets the real calling convention."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def compiled(source: Path, folder: Path, *macros: str) -> str:
    """The path of the library made of ``source`` with ``macros`` such as ``DEVICES=2``; skips without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip(f"no C compiler for {source.name}")
    library = folder / f"{source.stem}.so"
    command = [compiler, "-shared", "-fPIC", *(f"-D{macro}" for macro in macros), str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    return str(library)

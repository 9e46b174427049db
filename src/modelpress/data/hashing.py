"""Content hashes for fingerprints: of values, of files and of the source code that reads them. Torch-free."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path


def digest(*parts: object) -> str:
    """sha256 (hex) over JSON-encodable values; the order counts.

    >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest(1, "a")
    (True, False)
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 (hex) over the bytes of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_sha256(*modules: str) -> str:
    """sha256 (hex) over the source files of modules, found without importing them."""
    return digest(*[[name, file_sha256(_source_file(name))] for name in modules])


def _source_file(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source file for module {module!r}")
    return Path(spec.origin)

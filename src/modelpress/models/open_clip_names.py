"""What open_clip knows by name, read from its files: architectures and pretrained tags. Never imports torch."""

from __future__ import annotations

import ast
import copy
import json
import runpy
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelpress.errors import ModelPressError

NEAREST = 5
REQUIRED = ("embed_dim", "vision_cfg", "text_cfg")


@lru_cache(maxsize=1)
def folder() -> Path:
    """Where open_clip is installed. Raises :class:`ModelPressError` if it is not."""
    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ModelPressError("open_clip is not installed: pip install open-clip-torch (or `make setup`).")
    return Path(spec.submodule_search_locations[0])


def architectures() -> list[str]:
    """Names of all architectures."""
    return sorted(file.stem for file in (folder() / "model_configs").glob("*.json"))


def architecture(name: str) -> dict[str, Any]:
    """open_clip's config of an architecture. Raises :class:`ModelPressError` with the nearest names."""
    clean = name.replace("/", "-")
    file = folder() / "model_configs" / f"{clean}.json"
    if not file.is_file():
        raise ModelPressError(
            f"model.architecture is {name!r}, which open_clip does not know. {_near(clean, architectures())} Or give "
            f"a config of your own: {{{', '.join(REQUIRED)}}}."
        )
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return config


def tag(name: str, pretrained: str) -> dict[str, Any]:
    """What open_clip says of a tag: where its weights are, its preprocessing, ``quick_gelu``.

    Raises:
        ModelPressError: no such tag, with the nearest ones of the architecture.
    """
    known = tags().get(name.replace("/", "-"), {})
    clean = pretrained.lower().replace("-", "_")
    if clean not in known:
        raise ModelPressError(
            f"model.pretrained is {pretrained!r}, which is no tag of {name}. {_near(clean, list(known))} For weights "
            "of your own: model.path=<file or folder>."
        )
    return dict(known[clean])


def _near(given: str, names: list[str]) -> str:
    if not names:
        return "There is none for it."
    folded = {name.lower(): name for name in names}
    near = [folded[name] for name in get_close_matches(given.lower(), folded, n=NEAREST, cutoff=0.3)]
    some = near or names[:NEAREST]
    return f"Nearest: {', '.join(some)} ({len(names)} in all)."


@lru_cache(maxsize=1)
def tags() -> dict[str, dict[str, dict[str, Any]]]:
    """Architecture -> tag -> facts. The table is executed without the imports around it, which cost seconds."""
    file = folder() / "pretrained.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    end = next(i for i, node in enumerate(tree.body) if getattr(node, "name", None) == "_clean_tag")
    kept: list[ast.stmt] = [
        node for node in tree.body[:end] if isinstance(node, ast.FunctionDef | ast.Assign | ast.For | ast.Expr)
    ]
    names: dict[str, Any] = {"copy": copy, **runpy.run_path(str(folder() / "constants.py"))}
    exec(compile(ast.Module(kept, []), str(file), "exec"), names)
    table: dict[str, dict[str, dict[str, Any]]] = names["_PRETRAINED"]
    return table

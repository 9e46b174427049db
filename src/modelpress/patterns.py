"""Names and patterns of layers that a user gives to a transform."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from modelpress.errors import ModelPressError


def check_patterns(patterns: Sequence[str], layers: Sequence[str]) -> None:
    """Raises :class:`ModelPressError` for one of ``transform.exclude`` that is the name of no layer."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            some = ", ".join(layers[:6])
            raise ModelPressError(
                f"transform.exclude: {pattern!r} matches no layer.{_near(pattern, layers)} Layers: {some}, … "
                f"({len(layers)})"
            )


def _near(pattern: str, layers: Sequence[str]) -> str:
    words = dict.fromkeys(word for name in layers for word in name.split("."))
    near = get_close_matches(pattern.strip("*.").rpartition(".")[2], words, n=1)
    return f" Did you mean '*.{near[0]}*'?" if near else ""

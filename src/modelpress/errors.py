"""The one exception a user sees without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ModelPressError(Exception):
    """A fault the user can mend: says what was given, what is allowed and how to fix it."""


def one_of(name: str, given: object, allowed: Iterable[str]) -> str:
    """Return ``given`` if it is among ``allowed``; otherwise raise, naming the nearest spelling.

    >>> one_of("precision", "bf16", ["fp32", "bf16"])
    'bf16'
    """
    choices = list(allowed)
    if given in choices:
        return str(given)
    near = difflib.get_close_matches(str(given), choices, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ModelPressError(f"{name} is {given!r}; allowed: {', '.join(map(repr, choices))}.{hint}")


def not_installed(module: str) -> str:
    """What to do about a package that ModelPress itself needs and that is gone.

    >>> not_installed("openvino")
    'openvino is not installed, and ModelPress needs it: `make clean setup` brings it, or pip install openvino'
    """
    gpu = "; `make setup-gpu` brings the one for NVIDIA GPUs" if module == "onnxruntime" else ""
    needed = f"{module} is not installed, and ModelPress needs it"
    return f"{needed}: `make clean setup` brings it, or pip install {module}{gpu}"


def first_line(error: BaseException) -> str:
    """``Type: first line`` of an error, at most 300 characters."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]

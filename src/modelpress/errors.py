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

"""Checks of options given in a config: everything may arrive as a string or a wrong number."""

from __future__ import annotations

from modelpress.errors import ModelPressError


def number(
    name: str, given: object, *, above: float | None = None, at_least: float | None = None, below: float | None = None
) -> float:
    """Return ``given`` as a float within the open or closed bounds; otherwise raise, naming them.

    >>> number("temperature", 2, above=0)
    2.0
    """
    bounds = _bounds(above, at_least, below)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ModelPressError(f"{name} is {given!r}, which is no number; give a number {bounds}, e.g. {name}=0.5.")
    value = float(given)
    low = (above is None or value > above) and (at_least is None or value >= at_least)
    if not low or not value < (float("inf") if below is None else below):
        raise ModelPressError(f"{name} is {given!r}; it must be {bounds}.")
    return value


def _bounds(above: float | None, at_least: float | None, below: float | None) -> str:
    words = [("above", above), ("at least", at_least), ("below", below)]
    return " and ".join(f"{word} {bound:g}" for word, bound in words if bound is not None) or "finite"

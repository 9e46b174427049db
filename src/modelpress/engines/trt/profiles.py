"""Optimization profiles: the ranges of shapes that an engine is built for, checked before TensorRT sees them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpress.engines.graph import GraphInput
from modelpress.errors import ModelPressError

Sizes = tuple[int, ...]
Shapes = Mapping[str, Sizes]  # input -> its shape
KINDS = ("min", "opt", "max")


@dataclass(frozen=True)
class Profile:
    """``min``, ``opt`` and ``max``: the shape of every input with a dynamic axis."""

    min: Shapes
    opt: Shapes
    max: Shapes

    def holds(self, shapes: Shapes) -> bool:
        """Whether a request of these shapes can run in this profile."""
        return all(
            len(shapes[name]) == len(low) and all(map(_between, low, shapes[name], self.max[name]))
            for name, low in self.min.items()
        )

    def grown(self, shapes: Shapes, *, edges: bool) -> dict[str, Sizes] | None:
        """The next shapes that this profile takes, none smaller than the given; ``None`` if it takes none.

        ``edges``: all axes but the first grow to the profile's largest size, so that few different shapes occur.
        """
        found = {}
        for name, low in self.min.items():
            high = self.max[name]
            wanted = tuple(map(max, shapes[name], low))
            if len(shapes[name]) != len(low) or any(size > most for size, most in zip(wanted, high, strict=True)):
                return None
            found[name] = (*wanted[:1], *high[1:]) if edges else wanted
        return found

    def __str__(self) -> str:
        return ", ".join(f"{name} {spelled(low)} to {spelled(self.max[name])}" for name, low in self.min.items())


def parse(given: Mapping[str, Any], inputs: Sequence[GraphInput], where: str = "profile") -> Profile:
    """A profile as a user writes it: ``{min: 1x16, opt: 8x64, max: 32x128}``, or by input: ``{min: {ids: 1x16}, …}``.

    Sizes given once for all inputs are those of the graph's dynamic axes in the order in which they first occur, or
    those of every axis.

    Raises:
        ModelPressError: says which kind, input and axis is wrong, and what the graph has.
    """
    if sorted(given) != sorted(KINDS):
        raise ModelPressError(f"{where} has {', '.join(given) or 'nothing'}; it needs min, opt and max.")
    dynamic = [value for value in inputs if any(isinstance(size, str) for size in value.shape)]
    if not dynamic:
        raise ModelPressError(f"{where}: the graph has no dynamic axis; an engine for it needs no profile.")
    shapes = {kind: _shapes(given[kind], dynamic, inputs, f"{where}.{kind}") for kind in KINDS}
    for value in dynamic:
        _check_order(value, {kind: shapes[kind][value.name] for kind in KINDS}, where)
    return Profile(shapes["min"], shapes["opt"], shapes["max"])


def _shapes(given: Any, dynamic: Sequence[GraphInput], inputs: Sequence[GraphInput], where: str) -> dict[str, Sizes]:
    if isinstance(given, Mapping):
        known = {value.name: value for value in inputs}
        if unknown := [name for name in given if name not in known]:
            raise ModelPressError(f"{where} names {unknown[0]!r}; the graph's inputs are {', '.join(known)}.")
        if missing := [value.name for value in dynamic if value.name not in given]:
            raise ModelPressError(f"{where} lacks input {missing[0]!r}, whose shape is {_dims(known[missing[0]])}.")
        return {value.name: _own(value, sizes_of(given[value.name], where), where) for value in dynamic}
    sizes = sizes_of(given, where)
    axes = axes_of(dynamic)
    if len(sizes) == len(axes):
        chosen = dict(zip(axes, sizes, strict=True))
        return {
            value.name: tuple(size if isinstance(size, int) else chosen[key] for key, size in _keys(value))
            for value in dynamic
        }
    return {value.name: _own(value, sizes, f"{where} is {given!s}:", axes) for value in dynamic}


def _own(value: GraphInput, sizes: Sizes, where: str, axes: Sequence[str] = ()) -> Sizes:
    """Sizes of every axis of one input."""
    if len(sizes) != len(value.shape):
        other = f", or one for each of {', '.join(axes)}" if axes else ""
        raise ModelPressError(
            f"{where} {len(sizes)} sizes for input {value.name!r}, which has {len(value.shape)} axes {_dims(value)}; "
            f"give one for each{other}."
        )
    for axis, (size, fixed) in enumerate(zip(sizes, value.shape, strict=True)):
        if isinstance(fixed, int) and size != fixed:
            raise ModelPressError(f"{where} axis {axis} of input {value.name!r} is fixed at {fixed}, not {size}.")
    return sizes


def _check_order(value: GraphInput, shapes: Mapping[str, Sizes], where: str) -> None:
    for axis, (low, best, high) in enumerate(zip(*(shapes[kind] for kind in KINDS), strict=True)):
        if not 1 <= low <= best <= high:
            raise ModelPressError(
                f"{where}: axis {axis} ({value.shape[axis]}) of input {value.name!r} has min {low}, opt {best}, max "
                f"{high}; it must be 1 <= min <= opt <= max."
            )


def axes_of(inputs: Iterable[GraphInput]) -> list[str]:
    """Names of the dynamic axes in the order in which they first occur; a nameless one is ``input[axis]``."""
    return list(dict.fromkeys(key for value in inputs for key, size in _keys(value) if isinstance(size, str)))


def _keys(value: GraphInput) -> list[tuple[str, int | str]]:
    return [(f"{value.name}[{axis}]" if size == "?" else str(size), size) for axis, size in enumerate(value.shape)]


def sizes_of(given: Any, where: str) -> Sizes:
    """``1x16``, 8 or [1, 16] as sizes."""
    text = "x".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text):
        raise ModelPressError(f"{where} is {text!r}; write sizes joined by x, such as 8x64 or 8x3x224x224.")
    return tuple(int(part) for part in text.split("x"))


def choose(profiles: Sequence[Profile], shapes: Shapes, padding: str) -> tuple[int, dict[str, Sizes]]:
    """Which profile a request runs in, and the shapes it is padded to.

    Of several the one with the smallest largest shape. ``padding``: ``refuse`` a request outside every profile, pad it
    to the next shape if it is ``outside``, or pad every request to the ``edges`` of its profile.

    Raises:
        ModelPressError: no profile takes it; names the allowed ranges.
    """
    fitting = [(_volume(p.max), i) for i, p in enumerate(profiles) if padding != "edges" and p.holds(shapes)]
    if fitting:
        return min(fitting)[1], dict(shapes)
    found = []
    for i, profile in enumerate(profiles if padding != "refuse" else ()):
        if (grown := profile.grown(shapes, edges=padding == "edges")) is not None:
            found.append((_volume(grown), i, {**shapes, **grown}))
    if not found:
        raise ModelPressError(refusal(profiles, shapes, padding))
    _, index, grown = min(found, key=lambda entry: entry[:2])
    return index, grown


def refusal(profiles: Sequence[Profile], shapes: Shapes, padding: str) -> str:
    """Why a request cannot run, with what can."""
    given = ", ".join(f"{name} {spelled(shape)}" for name, shape in shapes.items())
    allowed = "; ".join(map(str, profiles))
    hint = " or pad it (padding=outside)" if padding == "refuse" else ""
    return f"the request has {given}; the engine takes {allowed}. Build it with a profile for this shape{hint}."


def _between(low: int, size: int, high: int) -> bool:
    return low <= size <= high


def _volume(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def spelled(sizes: Sequence[int]) -> str:
    """``8x64``."""
    return "x".join(map(str, sizes))


def _dims(value: GraphInput) -> str:
    return f"[{', '.join(map(str, value.shape))}]"

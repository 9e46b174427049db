"""How many units stay: pure maths on shapes. Which ones is a matter of scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from modelpress.errors import ModelPressError, one_of
from modelpress.pruning.shapes import LayerShape, Shape

UNITS = ("heads", "neurons", "width", "layers")
Cost = Callable[[Shape], float]


def weights(shape: Shape) -> int:
    """Parameters of the encoder's layers and of the dense layer before the head; the head itself is left out."""
    layers = sum(_layer_weights(layer, shape.width) for layer in shape.layers)
    return layers + shape.width * (shape.width + 1)


def _layer_weights(layer: LayerShape, width: int) -> int:
    attention = 4 * width * layer.inner + 3 * layer.inner + width
    return attention + 2 * width * layer.neurons + layer.neurons + width + 4 * width


def macs(shape: Shape, tokens: int) -> int:
    """Multiply-accumulates of the encoder's layers for one text of ``tokens`` tokens, all outputs computed."""
    width = shape.width
    products = [
        tokens * (4 * width * layer.inner + 2 * width * layer.neurons) + 2 * tokens**2 * layer.inner
        for layer in shape.layers
    ]
    return sum(products)


def covered(shape: Shape, remove: Sequence[str]) -> float:
    """Share of :func:`weights` that belongs to units in ``remove``; every weight has a channel and is in a layer."""
    if {"width", "layers"} & set(remove):
        return 1.0
    each = {"heads": 4 * shape.width + 3, "neurons": 2 * shape.width + 1}
    counts = {
        "heads": sum(layer.inner for layer in shape.layers),
        "neurons": sum(layer.neurons for layer in shape.layers),
    }
    return sum(each[unit] * counts[unit] for unit in set(remove)) / weights(shape)


def candidates(shape: Shape, *, remove: Sequence[str], round_to: int, share: float, cost: Cost | None = None) -> Shape:
    """The shape with the largest ``cost`` that is at most ``share`` of that of ``shape``.

    Everything in ``remove`` shrinks by one common factor, rounded down to sizes that are multiples of ``round_to``
    (heads: their width together; whole layers: one by one); what rounding leaves is given back to the neurons.
    With heads and width both removable the heads keep adding up to the width, as in any Hugging Face encoder.

    Args:
        cost: by default :func:`weights`.

    Raises:
        ModelPressError: no shape is that small (the message holds the smallest share), or an argument is wrong.
    """
    _check(remove, round_to)
    cost = cost or weights
    limit = share * cost(shape)
    smallest = scaled(shape, 0.0, remove, round_to)
    if cost(smallest) > limit:
        least = cost(smallest) / cost(shape)
        raise ModelPressError(
            f"Removing {', '.join(remove)} cannot leave {100 * share:.1f} % of the network: the smallest that can be "
            f"reached is {math.ceil(1000 * least) / 10:.1f} % (one head, {round_to} neurons and so on; round_to is "
            f"{round_to}). Ask for less (transform.sparsity up to {math.floor(1000 * (1 - least)) / 1000:g}), or name "
            "more in transform.remove."
        )
    best = _best(shape, remove, round_to, cost, limit)
    if "layers" in remove and len(remove) > 1:  # what rounding to whole layers took is given back to all others
        others = [unit for unit in remove if unit != "layers"]
        best = _best(replace(shape, layers=shape.layers[: len(best.layers)]), others, round_to, cost, limit)
    return _fill(best, shape, cost, limit, round_to) if "neurons" in remove else best


def _best(shape: Shape, remove: Sequence[str], round_to: int, cost: Cost, limit: float) -> Shape:
    return max((found for found in _all(shape, remove, round_to) if cost(found) <= limit), key=cost)


def _all(shape: Shape, remove: Sequence[str], round_to: int) -> Iterable[Shape]:
    """Every shape that some common factor gives, each once."""
    steps = {1.0, 0.0}
    for full in {
        shape.width,
        len(shape.layers),
        *(size for layer in shape.layers for size in (layer.heads, layer.neurons)),
    }:
        steps |= {size / full for size in range(1, full)}
    return dict.fromkeys(scaled(shape, step, remove, round_to) for step in sorted(steps))


def scaled(shape: Shape, factor: float, remove: Sequence[str], round_to: int) -> Shape:
    """``shape`` with everything in ``remove`` at most ``factor`` of what it was, and at least its smallest size."""
    count = _floor(len(shape.layers), factor, 1) if "layers" in remove else len(shape.layers)
    layers = tuple(_scaled_layer(layer, factor, remove, round_to) for layer in shape.layers[:count])
    width = shape.width
    if "width" in remove:
        tied = "heads" in remove and shape.plain
        width = layers[0].inner if tied else _floor(shape.width, factor, round_to)
    return Shape(width, layers)


def _scaled_layer(layer: LayerShape, factor: float, remove: Sequence[str], round_to: int) -> LayerShape:
    if "heads" in remove:
        step = round_to // math.gcd(round_to, layer.head_width)  # heads whose widths add up to a multiple
        layer = replace(layer, heads=_floor(layer.heads, factor, step))
    if "neurons" in remove:
        layer = replace(layer, neurons=_floor(layer.neurons, factor, round_to))
    return layer


def _floor(full: int, factor: float, step: int) -> int:
    """The largest multiple of ``step`` (or ``full`` itself) that is at most ``factor * full``; at least one step."""
    if factor >= 1 or step >= full:
        return full
    return max(step, int(full * factor + 1e-9) // step * step)


def _fill(found: Shape, full: Shape, cost: Cost, limit: float, round_to: int) -> Shape:
    """As many neurons more as the limit allows, the same number in every layer."""
    while True:
        more = tuple(
            replace(layer, neurons=min(layer.neurons + round_to, whole.neurons))
            for layer, whole in zip(found.layers, full.layers, strict=False)
        )
        wider = replace(found, layers=more)
        if wider == found or cost(wider) > limit:
            return found
        found = wider


def between(start: Shape, end: Shape, fraction: float, round_to: int) -> Shape:
    """The shape that lies ``fraction`` of the way from ``start`` to ``end`` (which has as many layers), rounded up.

    >>> one, two = Shape(64, (LayerShape(8, 8, 96),)), Shape(32, (LayerShape(4, 8, 32),))
    >>> between(one, two, 0.5, 16)
    Shape(width=48, layers=(LayerShape(heads=6, head_width=8, neurons=64),))
    """

    def size(old: int, new: int, step: int) -> int:
        return min(old, max(new, math.ceil((old + (new - old) * fraction) / step - 1e-9) * step))

    layers = tuple(
        replace(old, heads=size(old.heads, new.heads, 1), neurons=size(old.neurons, new.neurons, round_to))
        for old, new in zip(start.layers, end.layers, strict=True)
    )
    if start.plain and end.plain:  # and every network on the way
        return Shape(layers[0].inner, layers)
    return Shape(size(start.width, end.width, round_to), layers)


def allocate(
    shape: Shape, full: Shape, heads: Sequence[Sequence[float]], neurons: Sequence[Sequence[float]], round_to: int
) -> Shape:
    """As many heads and neurons as ``shape`` has in all, spread over the layers so that the sum of scores is largest.

    Every layer keeps at least one head and one block of ``round_to`` neurons.

    Args:
        shape: of equal cost.
        full: what there is to choose from; ``heads`` and ``neurons`` hold a score for each, comparable across layers.
    """
    width = full.layers[0].head_width
    step = min(round_to // math.gcd(round_to, width), *(layer.heads for layer in full.layers))
    head_counts = _spread([layer.heads for layer in shape.layers], heads, step)
    neuron_counts = _spread([layer.neurons for layer in shape.layers], neurons, round_to)
    layers = (
        replace(layer, heads=h, neurons=n) for layer, h, n in zip(full.layers, head_counts, neuron_counts, strict=True)
    )
    return Shape(shape.width, tuple(layers))


def _spread(counts: Sequence[int], scores: Sequence[Sequence[float]], block: int) -> list[int]:
    """Units per layer, ``sum(counts)`` in all, taken in blocks from each layer's best; none of them empty."""
    blocks = [_blocks(sorted(layer, reverse=True), block) for layer in scores]
    taken = [1] * len(scores)
    ranked = sorted(
        ((sum(group) / len(group), len(group), i) for i, layer in enumerate(blocks) for group in layer[1:]),
        key=lambda entry: -entry[0],
    )
    left = sum(counts) - sum(len(layer[0]) for layer in blocks)
    for _, size, i in ranked:
        if size <= left:
            taken[i], left = taken[i] + 1, left - size
    return [sum(map(len, layer[:count])) for layer, count in zip(blocks, taken, strict=True)]


def _blocks(ordered: Sequence[float], size: int) -> list[Sequence[float]]:
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _check(remove: Sequence[str], round_to: int) -> None:
    if not remove:
        raise ModelPressError(f"transform.remove names nothing; allowed: {', '.join(UNITS)}.")
    for unit in remove:
        one_of("transform.remove", unit, UNITS)
    if round_to < 1:
        raise ModelPressError(f"transform.round_to is {round_to}; it must be at least 1.")

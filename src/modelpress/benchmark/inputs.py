"""Plausible inputs for an ONNX file about which nothing else is known. They are synthetic and reports say so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelpress.engines.graph import Graph, GraphInput, inspect
from modelpress.errors import ModelPressError

Arrays = dict[str, NDArray[Any]]
FALLBACK_IDS = 1000  # where no embedding table tells how many ids there are
DEFAULT_SEQUENCE = 128


def synthetic(onnx_file: Path, shape: Sequence[int], items: int, seed: int = 0) -> Arrays:
    """``items`` inputs of one ``shape`` ([batch, ...]): ids inside their tables, masks of ones, normal noise.

    Axis 0 of every dynamic input is the item; further dynamic axes take the sizes of ``shape`` in order. Arrays have
    shape (items, ...). Raises ModelPressError where ``shape`` does not fit the graph.
    """
    graph = inspect(onnx_file)
    sizes = embedding_sizes(onnx_file)
    rng = np.random.default_rng(seed)
    rows = {value.name: row_shape(value, shape) for value in graph.inputs}
    return {
        value.name: _values(value, (items, *rows[value.name]), sizes.get(value.name, FALLBACK_IDS), rng)
        for value in graph.inputs
    }


def default_shape(graph: Graph) -> tuple[int, ...]:
    """Batch 1, fixed axes as they are, 128 for every other dynamic axis of the input with most axes."""
    largest = max(graph.inputs, key=lambda value: len(value.shape))
    rest = (size if isinstance(size, int) else DEFAULT_SEQUENCE for size in largest.shape[1:])
    return (1, *rest)


def row_shape(value: GraphInput, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of one item of this input, without the batch axis. Raises ModelPressError if ``shape`` does not fit."""
    text = "x".join(map(str, shape))
    if not value.shape or (isinstance(value.shape[0], int) and value.shape[0] != 1):
        raise ModelPressError(
            f"input {value.name!r} has shape {list(value.shape)}; its first axis must be dynamic or 1, because single "
            "requests are measured. Export the model with a dynamic batch axis."
        )
    sizes = []
    for axis, size in enumerate(value.shape[1:], start=1):
        given = shape[axis] if axis < len(shape) else size
        if isinstance(given, str):
            raise ModelPressError(f"shape {text} has no size for axis {axis} ({size!r}) of input {value.name!r}.")
        if isinstance(size, int) and len(shape) == len(value.shape) and given != size:
            raise ModelPressError(f"shape {text}: axis {axis} of input {value.name!r} is fixed at {size}, not {given}.")
        sizes.append(size if isinstance(size, int) else given)
    return tuple(sizes)


def embedding_sizes(onnx_file: Path) -> dict[str, int]:
    """Graph inputs that index a table (Gather, also behind Cast): name -> rows of the smallest such table."""
    import onnx

    graph = onnx.load(str(onnx_file), load_external_data=False).graph
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type in ("Cast", "Identity")}
    sizes: dict[str, int] = {}
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in rows:
            name = node.input[1]
            while name in source:
                name = source[name]
            sizes[name] = min(sizes.get(name, rows[node.input[0]]), rows[node.input[0]])
    return sizes


def _values(value: GraphInput, shape: tuple[int, ...], rows: int, rng: np.random.Generator) -> NDArray[Any]:
    kind, name = np.dtype(value.dtype), value.name.lower()
    if "mask" in name or kind.kind == "b":
        return np.ones(shape, kind)
    if kind.kind == "f":
        return rng.standard_normal(shape).astype(kind)
    if kind == np.uint8 and len(shape) > 2:  # an image that the graph itself normalises
        return rng.integers(0, 256, shape).astype(kind)
    if "type" in name or "segment" in name:
        return np.zeros(shape, kind)
    if "position" in name:
        return np.broadcast_to(np.arange(shape[-1]), shape).astype(kind)
    return rng.integers(min(1, rows - 1), max(2, rows), shape).astype(kind)

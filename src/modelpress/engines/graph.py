"""What an ONNX file offers: its inputs and the precision of its numbers. Reads the file with ``onnx`` (parent only)."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.engines.precision import NAMES
from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    import onnx

QUANTIZED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
    | {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
)
PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
LONGEST = "modelpress.longest"  # key of the file's metadata


@dataclass(frozen=True)
class GraphInput:
    """One input: NumPy type name and dimensions (int: fixed; str: the name of a dynamic axis)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Graph:
    """Facts of one ONNX file. ``precision``: ``int8`` if it is quantized, else the type of most of its weights."""

    inputs: tuple[GraphInput, ...]
    outputs: tuple[str, ...]
    precision: str
    operators: dict[str, int]
    external: tuple[str, ...]  # files with weights, relative to the ONNX file
    products: dict[str, str] = field(default_factory=dict)  # nodes that multiply matrices and add a bias -> layer
    output_shapes: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    longest: int | None = None  # sequence that the network takes, where the file says so


def inspect(path: Path) -> Graph:
    """Read the structure of an ONNX file, not its external weights. Raises ModelPressError if it is not one."""
    import onnx

    if not path.is_file():
        raise ModelPressError(f"ONNX file {path} does not exist.")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError; protobuf ships no type information
        raise ModelPressError(f"{path} is not an ONNX file: {error}") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_input(value) for value in model.graph.input if value.name not in weights)
    if not inputs or not model.graph.output:
        raise ModelPressError(f"{path} has {len(inputs)} inputs and {len(model.graph.output)} outputs; it needs both.")
    operators = Counter(node.op_type for node in model.graph.node)
    precision = "int8" if operators.keys() & QUANTIZED else _weight_precision(model)
    shapes = {value.name: _input(value).shape for value in model.graph.output}
    longest = next((int(entry.value) for entry in model.metadata_props if entry.key == LONGEST), None)
    return Graph(
        inputs,
        tuple(shapes),
        precision,
        dict(operators),
        _external(model),
        _products(model.graph),
        output_shapes=shapes,
        longest=longest,
    )


def load(path: Path) -> onnx.ModelProto:
    """The whole file, external weights included.

    ``onnx.load`` refuses external weights with several hard links, which is how the folders of engines hold them.
    Raises ModelPressError for weights outside the file's folder.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.raw_data = _external_bytes(path, {entry.key: entry.value for entry in tensor.external_data})
            tensor.data_location = onnx.TensorProto.DEFAULT
            tensor.ClearField("external_data")
    return model


def _external_bytes(path: Path, place: dict[str, str]) -> bytes:
    folder = path.parent.resolve()
    file = folder / place["location"]
    if not Path(os.path.normpath(file)).is_relative_to(folder):
        raise ModelPressError(f"{path} keeps weights in {place['location']!r}; they must lie in the file's own folder.")
    with file.open("rb") as stream:
        stream.seek(int(place.get("offset", 0)))
        return stream.read(int(place["length"]) if "length" in place else -1)


def _products(graph: onnx.GraphProto) -> dict[str, str]:
    """Layers by the names of MatMul, Gemm and Conv, of what these compute, and of the Add of their bias.

    Runtimes keep now one and now the other name of a fused product.
    """
    constants = {tensor.name for tensor in graph.initializer}
    made: dict[str, str] = {}
    named: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in PRODUCTS:
            made[node.output[0]] = named[node.output[0]] = named[node.name or node.output[0]] = _layer(node)
        elif node.op_type == "Add" and (sources := made.keys() & set(node.input)) and constants & set(node.input):
            named[node.name or node.output[0]] = made[sources.pop()]
    return named


def _layer(node: onnx.NodeProto) -> str:
    """The module that a node comes from, if torch wrote it down (``encoder.layer.0.attention.self/matmul_3``)."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"), "")
    return "/".join(filter(None, re.findall(r"'([^']*)'", scopes)[-2:])) or node.name or node.output[0]


def _input(value: Any) -> GraphInput:
    import onnx

    tensor = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]
    return GraphInput(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, tuple(dims))


def _external(model: Any) -> tuple[str, ...]:
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    return tuple(sorted({entry.value for entry in entries if entry.key == "location"}))


def _weight_precision(model: Any) -> str:
    """Type of most scalar weights, by count of elements."""
    import math

    import onnx

    elements: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        name = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        if name in NAMES:
            elements[NAMES[name]] += math.prod(tensor.dims)
    return elements.most_common(1)[0][0] if elements else "fp32"

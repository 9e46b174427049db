"""What an ONNX file offers: its inputs and the precision of its numbers. Reads the file with ``onnx`` (parent only)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelpress.engines.precision import NAMES
from modelpress.errors import ModelPressError

QUANTIZED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearMatMul", "QLinearConv"}
)


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
    return Graph(
        inputs, tuple(value.name for value in model.graph.output), precision, dict(operators), _external(model)
    )


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

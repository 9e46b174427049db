"""Which products of a quantized graph really run in INT8, from counts and from ONNX Runtime's optimized graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

FLOAT_WORK = frozenset(
    {"Attention", "Conv", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul", "MultiHeadAttention"}
)
INT8_WORK = frozenset(
    {"ConvInteger", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits", "QAttention"}
    | {"QGemm", "QLinearConv", "QLinearMatMul"}
)
NAMED = 20  # so many float products are named in a report


def summary(integer: int, floating: Sequence[str]) -> dict[str, Any]:
    """``int8_matmuls`` of a report: how many products run in INT8 and in floating point, and which are the latter."""
    return {"int8": integer, "float": len(floating), "float_names": list(floating[:NAMED])}


def executed_matmuls(graph: GraphProto, layers: Mapping[str, str]) -> dict[str, Any]:
    """:func:`summary` of ONNX Runtime's optimized graph; ``layers`` gives readable names to nodes."""
    floating = [_name(node, layers) for node in graph.node if node.op_type in FLOAT_WORK]
    return summary(sum(node.op_type in INT8_WORK for node in graph.node), floating)


def _name(node: NodeProto, layers: Mapping[str, str]) -> str:
    name = (node.name or node.output[0]).partition("/MatMulScaleFusion")[0]  # a name that ONNX Runtime lengthens
    return layers.get(name, name)


def unfused(graph: GraphProto, layers: Mapping[str, str]) -> list[str]:
    """What ONNX Runtime left beside its INT8 kernels: DequantizeLinear before products that then run as FP32."""
    makers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    left: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        if node.op_type in FLOAT_WORK and (what := _dequantized(node, makers, constants)):
            left[what].append(_name(node, layers))
    return [f"DequantizeLinear left before {named(names)}: {what} multiplied as FP32" for what, names in left.items()]


def _dequantized(node: NodeProto, makers: Mapping[str, NodeProto], constants: set[str]) -> str:
    """Which inputs of a float product come from 8-bit numbers."""
    pairs = [makers[name] for name in node.input[:2] if name in makers and makers[name].op_type == "DequantizeLinear"]
    weights = any(pair.input[0] in constants for pair in pairs)
    activations = any(pair.input[0] not in constants for pair in pairs)
    if weights:
        return "its INT8 weights are" if not activations else "its INT8 weights and inputs are"
    return "its INT8 inputs are" if activations else ""


def named(names: Sequence[str], most: int = 3) -> str:
    """``a, b, c and 5 more``."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")

"""Find the quantized products of a portable graph: MatMul or Gemm whose weights are INT8 behind a DequantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from modelpress.export.graph_view import OURS, GraphView, attributes, is_zero


@dataclass(frozen=True)
class Linear:
    """``y = x @ W + bias``. Names are those of the graph; ``weight`` is (in, out) INT8 with scale () or (out,)."""

    node: NodeProto
    x: str  # float input; the output of a DequantizeLinear where the activations are quantized
    weight: NDArray[Any]
    weight_name: str
    scale_name: str
    bias: str | None
    y: str
    absorbed: tuple[NodeProto, ...]  # nodes that computing ``y`` in one step makes needless


def linears(view: GraphView) -> list[Linear]:
    """All of them, in the order of the graph. Products of any other form are left out."""
    found = (_matmul(view, n) if n.op_type == "MatMul" else _gemm(view, n) for n in view.graph.node if not n.domain)
    return [linear for linear in found if linear is not None]


def _matmul(view: GraphView, node: NodeProto) -> Linear | None:
    if node.op_type != "MatMul" or (weight := _weight(view, node.input[1], axis=1)) is None:
        return None
    bias, add = _bias(view, node.output[0], weight[0].shape[1])
    absorbed = () if add is None else (add,)
    return Linear(node, node.input[0], *weight, bias, node.output[0] if add is None else add.output[0], absorbed)


def _gemm(view: GraphView, node: NodeProto) -> Linear | None:
    if node.op_type != "Gemm":
        return None
    given = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | attributes(node)
    transposed = bool(given["transB"])
    weight = _weight(view, node.input[1], axis=0 if transposed else 1)
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    if weight is None or given["alpha"] != 1 or given["transA"] or (bias and given["beta"] != 1):
        return None
    matrix, name, scale_name = weight
    if transposed:
        matrix, name = np.ascontiguousarray(matrix.T), f"{OURS}{name}/transposed"
    if bias and not _is_row(view.array(bias), matrix.shape[1]):
        return None
    return Linear(node, node.input[0], matrix, name, scale_name, bias, node.output[0], ())


def _weight(view: GraphView, name: str, axis: int) -> tuple[NDArray[Any], str, str] | None:
    """Symmetric INT8 weights of two axes, their name and that of their scale along ``axis`` (or for all)."""
    node = view.made_by(name, "DequantizeLinear")
    if node is None or (values := view.array(node.input[0])) is None or (scale := view.array(node.input[1])) is None:
        return None
    zero = view.array(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    if values.dtype != np.int8 or values.ndim != 2 or scale.dtype != np.float32 or not is_zero(zero):
        return None
    along = attributes(node).get("axis", 1) % 2
    if scale.ndim and (scale.shape != (values.shape[axis],) or along != axis):
        return None
    return values, node.input[0], node.input[1]


def _bias(view: GraphView, product: str, width: int) -> tuple[str | None, NodeProto | None]:
    """The constant row that is added to a product and nothing else, and the Add."""
    add = view.only_reader(product)
    if add is None or add.op_type != "Add":
        return None, None
    other = add.input[1] if add.input[0] == product else add.input[0]
    return (other, add) if _is_row(view.array(other), width) else (None, None)


def _is_row(array: NDArray[Any] | None, width: int) -> bool:
    return array is not None and array.shape == (width,) and array.dtype == np.float32

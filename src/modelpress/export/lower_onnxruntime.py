"""The portable quantized graph as ONNX Runtime's CPU kernels want it. Every step keeps the numbers.

What ONNX Runtime 1.31 does with the portable spelling itself, seen in its optimized graphs on x86:

* S8 activations that several products share are multiplied as FP32, and so is every Gemm with a float bias;
* products with INT8 weights and float inputs become MatMulNBits, which for many tokens is no faster than FP32;
* a Conv is INT8 only if its output is quantized next, which a Relu in between prevents;
* DequantizeLinear along the last axis walks number by number.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from modelpress.export.graph_view import MICROSOFT, OURS, GraphView, attributes, is_zero, rewrite
from modelpress.export.linears import Linear, linears

UNSIGNED_ZERO = np.uint8(128)  # INT8 q and UINT8 q + 128 stand for the same number
Constants = dict[str, NDArray[Any]]


def lower(proto: onnx.ModelProto, *, dynamic: bool, x86: bool) -> None:
    """Rewrite ``proto`` in place; ``dynamic``: quantize the inputs of its INT8 weights at run time."""
    if x86:
        unsigned_activations(proto)
    relu_behind_quantization(proto)
    cast_rows(proto)
    integer_products(proto)
    if dynamic:
        dynamic_products(proto)


def unsigned_activations(proto: onnx.ModelProto) -> None:
    """S8 pairs with zero point 0 become U8 pairs with zero point 128: bit-equal; the kernels on x86 want U8 x S8."""
    view = GraphView(proto)
    replaced: dict[int, list[NodeProto]] = {}
    constants: Constants = {}
    for node in proto.graph.node:
        if node.op_type != "QuantizeLinear" or not _signed_pair(view, node):
            continue
        zero = view.array(node.input[2])
        assert zero is not None
        name = f"{OURS}{node.output[0]}/zero"
        constants[name] = np.full(zero.shape, UNSIGNED_ZERO)
        replaced |= {id(n): [_with_zero(n, name)] for n in (node, *view.readers[node.output[0]])}
    rewrite(proto, replaced, constants=constants)


def _signed_pair(view: GraphView, quantize: NodeProto) -> bool:
    """Whether a QuantizeLinear is S8 with zero point 0 and read by DequantizeLinear only."""
    zero = view.array(quantize.input[2]) if len(quantize.input) > 2 else None
    readers = view.readers.get(quantize.output[0], [])
    pairs = bool(readers) and all(n.op_type == "DequantizeLinear" for n in readers)
    given = attributes(quantize)
    free = not given.get("output_dtype") and not given.get("block_size")  # an output type would contradict U8
    return zero is not None and zero.dtype == np.int8 and is_zero(zero) and pairs and free


def _with_zero(node: NodeProto, zero: str) -> NodeProto:
    return _like(node, [*node.input[:2], zero])


def _like(node: NodeProto, inputs: list[str]) -> NodeProto:
    """The node with other inputs."""
    result = NodeProto()
    result.CopyFrom(node)
    del result.input[:]
    result.input.extend(inputs)
    return result


def relu_behind_quantization(proto: onnx.ModelProto) -> None:
    """Conv, Relu, Quantize become Conv, Quantize, Clip at the zero point, so that Conv fuses into QLinearConv.

    Equal because rounding keeps order and maps 0 to the zero point.
    """
    view = GraphView(proto)
    replaced: dict[int, list[NodeProto]] = {}
    removed: list[NodeProto] = []
    for conv in proto.graph.node:
        quantized = conv.op_type == "Conv" and view.made_by(conv.input[1], "DequantizeLinear") is not None
        relu = view.only_reader(conv.output[0]) if quantized else None
        if relu is None or relu.op_type != "Relu" or (quantize := view.only_reader(relu.output[0])) is None:
            continue
        if quantize.op_type != "QuantizeLinear" or len(quantize.input) < 3 or quantize.output[0] in view.outputs:
            continue
        early = _like(quantize, [conv.output[0], *quantize.input[1:]])
        early.output[0] = f"{OURS}{quantize.output[0]}/before_relu"
        clip = helper.make_node("Clip", [early.output[0], quantize.input[2]], list(quantize.output), name=relu.name)
        replaced[id(quantize)] = [early, clip]
        removed.append(relu)
    rewrite(proto, replaced, removed)


def cast_rows(proto: onnx.ModelProto) -> None:
    """Rows gathered from an INT8 table: DequantizeLinear per column becomes Cast and Mul, bit-equal and much faster."""
    view = GraphView(proto)
    replaced: dict[int, list[NodeProto]] = {}
    for node in proto.graph.node:
        if node.op_type != "DequantizeLinear" or not _gathered(view, node):
            continue
        real = f"{OURS}{node.output[0]}/real"
        replaced[id(node)] = [
            helper.make_node("Cast", [node.input[0]], [real], to=TensorProto.FLOAT, name=f"{node.name}/Cast"),
            helper.make_node("Mul", [real, node.input[1]], list(node.output), name=node.name),
        ]
    rewrite(proto, replaced)


def _gathered(view: GraphView, node: NodeProto) -> bool:
    """INT8 rows with zero point 0, one float scale or one per column."""
    gather, scale = view.made_by(node.input[0], "Gather"), view.array(node.input[1])
    if gather is None or scale is None or scale.dtype != np.float32 or attributes(node).get("axis", 1) != -1:
        return False
    zero = view.array(node.input[2]) if len(node.input) > 2 else None
    return scale.ndim <= 1 and zero is not None and zero.dtype == np.int8 and is_zero(zero)


def integer_products(proto: onnx.ModelProto) -> None:
    """Products of quantized activations and INT8 weights, with their bias, become one MatMulIntegerToFloat each."""
    view = GraphView(proto)
    replaced: dict[int, list[NodeProto]] = {}
    removed: list[NodeProto] = []
    constants: Constants = {}
    for linear in linears(view):
        pair = view.made_by(linear.x, "DequantizeLinear")
        if pair is None or not _per_tensor(view, pair):
            continue
        q, scale, zero = pair.input
        constants |= _new_weight(view, linear)
        inputs = [q, linear.weight_name, scale, linear.scale_name, zero, "", linear.bias or ""]
        node = helper.make_node(
            "MatMulIntegerToFloat",
            inputs[: 7 if linear.bias else 5],
            [linear.y],
            name=linear.node.name or linear.y,
            domain=MICROSOFT,
        )
        replaced[id(linear.node)] = [node]
        removed += linear.absorbed
    rewrite(proto, replaced, removed, constants)


def _per_tensor(view: GraphView, pair: NodeProto) -> bool:
    """A DequantizeLinear of computed 8-bit numbers with one scale and one zero point."""
    if len(pair.input) < 3 or pair.input[0] in view.tensors:
        return False
    scale, zero = (view.array(name) for name in pair.input[1:])
    if scale is None or zero is None:
        return False
    return scale.size == zero.size == 1 and scale.dtype == np.float32 and zero.dtype in (np.int8, np.uint8)


def _new_weight(view: GraphView, linear: Linear) -> Constants:
    return {} if linear.weight_name in view.tensors else {linear.weight_name: linear.weight}


def dynamic_products(proto: onnx.ModelProto) -> None:
    """Products of float activations and INT8 weights quantize them at run time, once for all that share them.

    The operators are ONNX's own; ONNX Runtime fuses them into DynamicQuantizeMatMul, or into MatMulIntegerToFloat where
    several share one DynamicQuantizeLinear.
    """
    view = GraphView(proto)
    replaced: dict[int, list[NodeProto]] = {}
    removed: list[NodeProto] = []
    constants: Constants = {}
    order = {id(node): position for position, node in enumerate(proto.graph.node)}
    found = sorted(linears(view), key=lambda linear: (linear.x, order[id(linear.node)]))
    for x, group in groupby(found, key=lambda linear: linear.x):
        nodes = [helper.make_node("DynamicQuantizeLinear", [x], _dynamic(x), name=f"{x}/DynamicQuantizeLinear")]
        for linear in group:
            constants |= _new_weight(view, linear)
            replaced[id(linear.node)] = [*nodes, *_integer(linear)]
            removed += linear.absorbed
            nodes = []
    rewrite(proto, replaced, removed, constants)


def _dynamic(x: str) -> list[str]:
    return [f"{OURS}{x}/{part}" for part in ("quantized", "scale", "zero")]


def _integer(linear: Linear) -> list[NodeProto]:
    """Product, scales and bias in the form that ONNX Runtime's fusion looks for."""
    q, scale, zero = _dynamic(linear.x)
    name = linear.node.name or linear.y
    total, real, factor, scaled = (f"{OURS}{linear.y}/{part}" for part in ("total", "real", "factor", "scaled"))
    last = scaled if linear.bias else linear.y
    nodes = [
        helper.make_node("MatMulInteger", [q, linear.weight_name, zero], [total], name=name),
        helper.make_node("Cast", [total], [real], to=TensorProto.FLOAT, name=f"{name}/Cast"),
        helper.make_node("Mul", [scale, linear.scale_name], [factor], name=f"{name}/Factor"),
        helper.make_node("Mul", [real, factor], [last], name=f"{name}/Mul"),
    ]
    if linear.bias:
        nodes.append(helper.make_node("Add", [scaled, linear.bias], [linear.y], name=f"{name}/Add"))
    return nodes

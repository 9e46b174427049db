"""Checks of quantized graphs before any engine is built. Every sentence names the node and says how to mend it.

:func:`check_quantized` holds what a runtime really refuses, so that foreign files are not turned away for taste;
:func:`check_portable` holds ModelPress's own contract, one graph for all runtimes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from modelpress.errors import one_of
from modelpress.export.graph_view import GraphView, attributes, called, is_zero, opset
from modelpress.export.lower import ENGINES

OPSETS = range(17, 26)  # what TensorRT's parser reads; ONNX Runtime 1.31 reads up to 26
PAIR = ("QuantizeLinear", "DequantizeLinear")
INTEGER_OPERATORS = frozenset({"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"})


def check_quantized(proto: onnx.ModelProto, engine: str) -> list[str]:
    """What ``engine`` (``onnxruntime``, ``openvino`` or ``tensorrt``) refuses in this graph; empty if nothing."""
    one_of("engine", engine, ENGINES)
    view = GraphView(proto)
    found = [sentence for node in _nodes(view, PAIR) for sentence in _axis(view, node)]
    if engine == "onnxruntime":
        from modelpress.export import quantized_onnxruntime

        return [*quantized_onnxruntime.refused(proto), *found]
    if engine == "tensorrt":
        return [*_opset(proto), *_tensorrt(view), *found]
    return found


def check_portable(proto: onnx.ModelProto) -> list[str]:
    """Where a graph breaks ModelPress's contract: explicit symmetric INT8 Q/DQ that every runtime takes."""
    view = GraphView(proto)
    found = [*_opset(proto), *_operators(view)]
    for node in _nodes(view, PAIR):
        found += [*_scale(view, node), *_zero(view, node), *_axis(view, node)]
    for node in _nodes(view, PAIR[:1]):
        found += _partner(view, node)
    for node in _nodes(view, PAIR[1:]):
        found += _source(view, node)
    return list(dict.fromkeys(found))


def _nodes(view: GraphView, kinds: tuple[str, ...]) -> list[NodeProto]:
    return [node for node in view.graph.node if node.op_type in kinds]


def _opset(proto: onnx.ModelProto) -> Iterator[str]:
    if opset(proto) not in OPSETS:
        yield f"The file has opset {opset(proto)}; export it with {OPSETS.start} to {OPSETS.stop - 1}."


def _operators(view: GraphView) -> Iterator[str]:
    for node in view.graph.node:
        if node.op_type in INTEGER_OPERATORS or node.domain not in ("", "ai.onnx"):
            full = f" of {node.domain}" if node.domain else ""
            how = " with stored scales (technique=ptq)" if node.op_type in INTEGER_OPERATORS else ""
            fix = f"write it as QuantizeLinear and DequantizeLinear{how}"
            yield f"{called(node)}{full} runs in ONNX Runtime only: {fix}."


def _scale(view: GraphView, node: NodeProto) -> Iterator[str]:
    scale = view.array(node.input[1])
    if scale is None:
        yield f"{called(node)}: its scale {node.input[1]!r} is computed; calibrate it and store a constant."
    elif bad := _first_bad(scale):
        yield f"{called(node)}: a scale is {bad}; scales are positive and finite. Calibrate on data that reaches it."


def _first_bad(scale: NDArray[Any]) -> str:
    values = np.atleast_1d(scale.astype(np.float64)).ravel()
    bad = values[~(np.isfinite(values) & (values > 0))]
    return str(float(bad[0])) if bad.size else ""


def _zero(view: GraphView, node: NodeProto) -> Iterator[str]:
    if len(node.input) < 3 or not node.input[2]:
        meant = "UINT8" if node.op_type == "QuantizeLinear" else "the type of its input"
        yield f"{called(node)} has no zero point, which means {meant}; give an INT8 zero point of 0."
        return
    tensor, zero = view.tensors.get(node.input[2]), view.array(node.input[2])
    if tensor is None or zero is None:
        yield f"{called(node)}: its zero point {node.input[2]!r} is computed; store an INT8 constant 0."
    elif tensor.data_type != TensorProto.INT8:
        yield f"{called(node)} has {_type(tensor)} numbers; quantize symmetrically to INT8 (8 bits)."
    elif not is_zero(zero):
        yield f"{called(node)} has zero point {int(zero.ravel()[zero.ravel() != 0][0])}; quantize symmetrically (0)."


def _type(tensor: TensorProto) -> str:
    return str(TensorProto.DataType.Name(tensor.data_type))


def _axis(view: GraphView, node: NodeProto) -> Iterator[str]:
    """One scale per value of an axis must meet that axis; known for constants only."""
    values, scale = view.tensors.get(node.input[0]), view.tensors.get(node.input[1])
    given = attributes(node)
    if values is None or scale is None or given.get("block_size") or list(scale.dims) in ([], [1]):
        return
    axis, rank = given.get("axis", 1), len(values.dims)
    if not -rank <= axis < rank:
        yield f"{called(node)}: axis {axis} is outside its {rank} axes; give one from {-rank} to {rank - 1}."
    elif list(scale.dims) != [values.dims[axis]]:
        yield (
            f"{called(node)}: axis {axis} has {values.dims[axis]} channels, its scale has shape {list(scale.dims)}; "
            "give one scale per channel, or the axis that the scale belongs to."
        )


def _partner(view: GraphView, quantize: NodeProto) -> Iterator[str]:
    """Every QuantizeLinear is read by DequantizeLinear with the same numbers."""
    name = quantize.output[0]
    readers = view.readers.get(name, [])
    strangers = [node for node in readers if node.op_type != "DequantizeLinear"]
    if strangers or name in view.outputs or not readers:
        where = called(strangers[0]) if strangers else "an output of the graph" if readers else "nothing"
        yield f"{called(quantize)} goes to {where}; put a DequantizeLinear right behind it."
    for node in (n for n in readers if n.op_type == "DequantizeLinear"):
        if not _same(view, quantize, node):
            yield f"{called(node)} has another scale or zero point than {called(quantize)}; give both the same."


def _same(view: GraphView, one: NodeProto, other: NodeProto) -> bool:
    pairs = [(view.array(a), view.array(b)) for a, b in zip(one.input[1:], other.input[1:], strict=False)]
    return len(one.input) == len(other.input) and all(
        a is not None and b is not None and np.array_equal(a, b, equal_nan=True) for a, b in pairs
    )


def _source(view: GraphView, node: NodeProto) -> Iterator[str]:
    """A DequantizeLinear reads INT8 weights, a QuantizeLinear, or rows gathered from an INT8 table."""
    tensor = view.tensors.get(node.input[0])
    if tensor is not None:
        if tensor.data_type == TensorProto.INT32:
            yield f"{called(node)} makes an INT32 bias; store the bias as FLOAT."
        elif tensor.data_type != TensorProto.INT8:
            yield f"{called(node)} reads {_type(tensor)} weights; store them as INT8 (8 bits)."
        for reader in view.readers.get(node.output[0], []):
            if reader.op_type == "Gather" and reader.input[0] == node.output[0]:
                yield f"{called(node)} turns a whole table into floats; put it behind {called(reader)}."
        return
    maker = view.producer.get(node.input[0])
    gathered = maker is not None and maker.op_type == "Gather" and maker.input[0] in view.tensors
    if not gathered and (maker is None or maker.op_type != "QuantizeLinear"):
        where = called(maker) if maker is not None else f"input {node.input[0]!r}"
        yield f"{called(node)} reads {where}; put a QuantizeLinear before it."


def _tensorrt(view: GraphView) -> Iterator[str]:
    """Non-zero zero points, INT32 biases, 16-bit numbers and integer operators (TensorRT 10.12 to 11.4)."""
    yield from _operators(view)
    for node in _nodes(view, PAIR):
        zero = view.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if zero is not None and not is_zero(zero):
            yield from _zero(view, node) if zero.dtype == np.int8 else (_shifted(node, zero),)
        tensor = view.tensors.get(node.input[0])
        if tensor is not None and tensor.data_type == TensorProto.INT32:
            yield f"{called(node)} makes an INT32 bias; store the bias as FLOAT."
        if zero is not None and zero.dtype in (np.int16, np.uint16):
            yield f"{called(node)} has 16-bit numbers; quantize to INT8 (8 bits)."


def _shifted(node: NodeProto, zero: NDArray[Any]) -> str:
    return f"{called(node)} has zero point {int(zero.max())}; quantize symmetrically to INT8 (zero point 0)."

"""Quantized graphs in exactly the portable spelling, made by hand, and the same arithmetic in NumPy integers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class Graph:
    """Nodes and constants, added one by one. Every method returns the name of what it computes."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}_{kind}", **attributes))
        return output

    def quantized(self, x: str, scale: float) -> str:
        """Q and DQ with one S8 scale."""
        pair = [self.constant(f"{x}_scale", np.float32(scale)), self.constant(f"{x}_zero", np.int8(0))]
        return self.add("DequantizeLinear", [self.add("QuantizeLinear", [x, *pair], f"{x}_q"), *pair], f"{x}_dq")

    def weight(self, name: str, shape: tuple[int, ...], axis: int) -> str:
        """INT8 weights behind a DequantizeLinear along ``axis``."""
        channels = shape[axis]
        self.constant(f"{name}_int8", self.rng.integers(-127, 128, shape).astype(np.int8))
        self.constant(f"{name}_scale", (0.001 + 0.01 * self.rng.random(channels)).astype(np.float32))
        self.constant(f"{name}_zero", np.zeros(channels, np.int8))
        parts = [f"{name}_{part}" for part in ("int8", "scale", "zero")]
        return self.add("DequantizeLinear", parts, f"{name}_dq", axis=axis)

    def bias(self, name: str, width: int) -> str:
        return self.constant(f"{name}_bias", self.rng.standard_normal(width).astype(np.float32))

    def linear(self, x: str, name: str, rows: int, columns: int) -> str:
        """MatMul and Add. ``x`` is what the product reads: a DQ for static, a float for dynamic activations."""
        product = self.add("MatMul", [x, self.weight(name, (rows, columns), 1)], f"{name}_product")
        return self.add("Add", [product, self.bias(name, columns)], name)

    def gemm(self, x: str, name: str, rows: int, columns: int, *, transposed: bool = True) -> str:
        shape, axis = ((columns, rows), 0) if transposed else ((rows, columns), 1)
        inputs = [x, self.weight(name, shape, axis), self.bias(name, columns)]
        return self.add("Gemm", inputs, name, transB=int(transposed))

    def conv(self, x: str, name: str, channels: int, filters: int, kernel: int = 3) -> str:
        inputs = [x, self.weight(name, (filters, channels, kernel, kernel), 0), self.bias(name, filters)]
        return self.add("Conv", inputs, name, kernel_shape=[kernel, kernel], pads=[kernel // 2] * 4)

    def embedding(self, ids: str, name: str, rows: int, columns: int) -> str:
        """Gather from an INT8 table, then DequantizeLinear per column."""
        self.constant(f"{name}_int8", self.rng.integers(-127, 128, (rows, columns)).astype(np.int8))
        self.constant(f"{name}_scale", (0.01 + 0.01 * self.rng.random(columns)).astype(np.float32))
        self.constant(f"{name}_zero", np.zeros(columns, np.int8))
        taken = self.add("Gather", [f"{name}_int8", ids], f"{name}_taken", axis=0)
        return self.add("DequantizeLinear", [taken, f"{name}_scale", f"{name}_zero"], name, axis=-1)

    def model(
        self,
        inputs: Mapping[str, Sequence[Any]],
        outputs: Sequence[str],
        activations: str | None = "static",
        opset: int = 20,
    ) -> onnx.ModelProto:
        """The checked file; ``activations=None`` leaves out ModelPress's mark, as in a foreign file."""
        shapes = [
            helper.make_tensor_value_info(name, INT64 if name.endswith("ids") else FLOAT, list(shape))
            for name, shape in inputs.items()
        ]
        results = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
        tensors = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "portable", shapes, results, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        if activations is not None:
            record = {"kind": "int8", "activations": activations, "float_layers": []}
            model.metadata_props.add(key="modelpress.numerics", value=json.dumps(record))
        model = onnx.shape_inference.infer_shapes(model)  # fills in the shapes of the outputs
        model.graph.ClearField("value_info")
        onnx.checker.check_model(model)
        return model


def quantize(x: Array, scale: float) -> Array:
    """INT8 of float32, as int64."""
    return np.clip(np.rint(x.astype(np.float32) / np.float32(scale)), -128, 127).astype(np.int64)


def integer_linear(x: Array, scale: float, constants: Mapping[str, Array], name: str) -> Array:
    """``y = s_x s_w (q_x @ W) + bias`` with an exact sum of integers; ``W`` is (in, out)."""
    weight = constants[f"{name}_int8"].astype(np.int64)
    total = quantize(x, scale) @ weight
    bias = constants.get(f"{name}_bias", np.float32(0))
    return total * (np.float64(np.float32(scale)) * constants[f"{name}_scale"]) + bias


def dynamic_linear(x: Array, constants: Mapping[str, Array], name: str) -> Array:
    """The same with one asymmetric U8 scale found from ``x``, as ONNX defines DynamicQuantizeLinear."""
    low, high = np.float32(min(x.min(), 0)), np.float32(max(x.max(), 0))
    scale = np.float32((high - low) / np.float32(255))
    zero = int(np.clip(np.rint(-low / scale), 0, 255))
    total = (np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.int64) - zero) @ constants[f"{name}_int8"].astype(int)
    return total * (np.float64(scale) * constants[f"{name}_scale"]) + constants.get(f"{name}_bias", np.float32(0))


def integer_conv(x: Array, scale: float, constants: Mapping[str, Array], name: str) -> Array:
    """Same padding, stride 1, by shifting the padded image; (B, C, H, W) -> (B, O, H, W)."""
    weight = constants[f"{name}_int8"].astype(np.int64)
    kernel, (height, width) = weight.shape[-1], x.shape[2:]
    padded = np.pad(quantize(x, scale), ((0, 0), (0, 0), *(((kernel // 2,) * 2,) * 2)))
    total = sum(
        np.einsum("bchw,oc->bohw", padded[:, :, i : i + height, j : j + width], weight[:, :, i, j])
        for i in range(kernel)
        for j in range(kernel)
    )
    scales = np.float64(np.float32(scale)) * constants[f"{name}_scale"]
    return np.asarray(total * scales[:, None, None] + constants[f"{name}_bias"][:, None, None])


def shared() -> Graph:
    """q, k and v read one activation pair."""
    graph = Graph()
    x = graph.quantized("x", 0.02)
    for name in ("q", "k", "v"):
        graph.linear(x, name, 24, 16)
    return graph


def encoder(seed: int = 0, activations: str = "static", width: int = 32) -> onnx.ModelProto:
    """A block such as a text network has: table, shared q/k/v, attention, feed-forward with balance, head."""
    static = activations == "static"
    graph = Graph(seed)

    def taken(x: str, scale: float) -> str:
        return graph.quantized(x, scale) if static else x

    offset = graph.constant("offset", graph.rng.standard_normal(width).astype(np.float32) / 4)
    x = graph.add("Add", [graph.embedding("input_ids", "rows", 50, width), offset], "hidden")
    shared = taken(x, 0.03)
    q, k, v = (graph.linear(shared, name, width, width) for name in ("query", "key", "value"))
    keys = graph.add("Transpose", [k], "keys", perm=[0, 2, 1])
    weights = graph.add("Softmax", [graph.add("MatMul", [q, keys], "scores")], "attention", axis=-1)
    context = graph.add("MatMul", [weights, v], "context")
    summed = graph.add("Add", [graph.linear(taken(context, 0.05), "output", width, width), x], "summed")
    balance = graph.constant("balance", (0.5 + graph.rng.random(width)).astype(np.float32))
    balanced = graph.add("Mul", [summed, balance], "balanced")
    wide = graph.add("Gelu", [graph.linear(taken(balanced, 0.1), "intermediate", width, 2 * width)], "wide")
    deep = graph.linear(taken(wide, 0.1), "deep", 2 * width, width)
    first = graph.add("Gather", [deep, graph.constant("zero", np.int64(0))], "first", axis=1)
    graph.gemm(taken(first, 0.2), "logits", width, 3)
    return graph.model({"input_ids": ["batch", "sequence"]}, ["logits"], activations)

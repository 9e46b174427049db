"""Tiny ONNX graphs with dynamic axes: ids -> embedding -> MatMul -> mean -> MatMul -> logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

VOCABULARY, WIDTH, CLASSES = 50, 64, 3


def weights() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    shapes = {"table": (VOCABULARY, WIDTH), "w": (WIDTH, WIDTH), "head": (WIDTH, CLASSES)}
    return {name: (rng.standard_normal(shape) / 4).astype(np.float32) for name, shape in shapes.items()}


def reference(ids: NDArray[Any], mask: NDArray[Any]) -> NDArray[Any]:
    """The graph in NumPy: (B, S) ids and mask -> (B, CLASSES) logits."""
    w = weights()
    hidden = w["table"][ids] @ w["w"] * mask[..., None]
    return hidden.mean(axis=1) @ w["head"]


def write(path: Path, *, quantized: bool = False, static: bool = False) -> Path:
    """An ONNX file with inputs input_ids and attention_mask (B, S) and output logits (B, 3)."""
    dims: list[Any] = [1, 16] if static else ["batch", "sequence"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, dims) for name in ("input_ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [dims[0], CLASSES])]
    arrays: dict[str, NDArray[Any]] = {**weights(), "axis1": np.array([1]), "axis2": np.array([2])}
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["embedded"])]
    left, right = "embedded", "w"
    if quantized:
        arrays |= {"ws": np.float32(1 / 64), "as": np.float32(1 / 64), "zp": np.uint8(128), "wz": np.int8(0)}
        arrays["w"] = np.clip(np.round(arrays["w"] * 64), -127, 127).astype(np.int8)
        nodes += [
            helper.make_node("QuantizeLinear", ["embedded", "as", "zp"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "as", "zp"], ["dq"]),
            helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wdq"]),
        ]
        left, right = "dq", "wdq"
    nodes += [
        helper.make_node("MatMul", [left, right], ["hidden"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axis2"], ["mask3"]),
        helper.make_node("Mul", ["hidden", "mask3"], ["masked"]),
        helper.make_node("ReduceMean", ["masked", "axis1"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "head"], ["logits"]),
    ]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def batch(items: int, length: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    mask = np.ones((items, length), np.int64)
    return {"input_ids": rng.integers(1, VOCABULARY, (items, length)), "attention_mask": mask}

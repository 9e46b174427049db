"""One fault each for a small portable graph, and the runtimes' own opinion of the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from modelpress.engines.openvino_core import core
from tests.export.qdq_graphs import Graph


def linear_model(activations: str | None = "static", opset: int = 20) -> onnx.ModelProto:
    graph = Graph()
    graph.linear(graph.quantized("x", 0.02), "y", 8, 4)
    return graph.model({"x": ["batch", 8]}, ["y"], activations, opset)


def put(model: onnx.ModelProto, name: str, value: Any) -> None:
    """Replace a constant."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def set_axis(model: onnx.ModelProto, axis: int) -> None:
    node(model, "y_dq_DequantizeLinear").attribute[0].i = axis


def shift_activations(model: onnx.ModelProto) -> None:
    put(model, "x_zero", np.int8(3))


def shift_weights(model: onnx.ModelProto) -> None:
    put(model, "y_zero", np.array([0, 0, -5, 0], np.int8))


def unsigned(model: onnx.ModelProto) -> None:
    put(model, "x_zero", np.uint8(128))


def integer_bias(model: onnx.ModelProto) -> None:
    put(model, "y_bias", np.ones(4, np.int32))
    model.graph.initializer.append(numpy_helper.from_array(np.full(4, 0.1, np.float32), "bias_scale"))
    pair = helper.make_node("DequantizeLinear", ["y_bias", "bias_scale"], ["bias_dq"], name="bias_dq", axis=0)
    model.graph.node.insert(0, pair)
    node(model, "y_Add").input[1] = "bias_dq"


def without_partner(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Cast", ["x_q"], ["raw"], name="cast", to=TensorProto.FLOAT))
    model.graph.output.append(helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["batch", 8]))


def without_quantize(model: onnx.ModelProto) -> None:
    node(model, "x_dq_DequantizeLinear").input[0] = "y_taken"
    model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["y_taken"], name="cast", to=TensorProto.INT8))


def other_scale(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "other"))
    node(model, "x_dq_DequantizeLinear").input[1] = "other"


def computed_scale(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("ReduceMax", ["x"], ["max"], keepdims=0))
    node(model, "x_q_QuantizeLinear").input[1] = "max"


def without_zero(model: onnx.ModelProto) -> None:
    del node(model, "x_q_QuantizeLinear").input[2:]


def sixteen_bits(model: onnx.ModelProto) -> None:
    put(model, "x_zero", np.int16(0))


def integer_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["a", "b", "c"], name="dynamic"))


def foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("BiasGelu", ["y", "y_bias"], ["g"], name="gelu", domain="com.microsoft"))
    model.opset_import.add(domain="com.microsoft", version=1)


def unknown(model: onnx.ModelProto) -> None:
    node(model, "y_Add").op_type = "NoSuchOperator"


def unlike(model: onnx.ModelProto) -> None:
    put(model, "y_zero", np.zeros(4, np.uint8))


def onnxruntime_runs(model: onnx.ModelProto) -> bool:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    feeds = {value.name: np.ones((2, 8), np.float32) for value in model.graph.input}
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)
    except Exception:  # its exceptions share no public base class
        return False
    return True


def openvino_runs(model: onnx.ModelProto, folder: Any) -> bool:
    onnx.save(model, str(folder / "m.onnx"))
    try:
        compiled = core().compile_model(str(folder / "m.onnx"), "CPU", {"INFERENCE_NUM_THREADS": 1})
        compiled({"x": np.ones((2, 8), np.float32)})
    except RuntimeError:
        return False
    return True

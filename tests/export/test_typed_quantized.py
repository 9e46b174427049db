"""Mixed precision: an INT8 graph whose other layers compute in fp16."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from modelpress.errors import ModelPressError
from modelpress.export.lower import lower
from modelpress.export.typed import convert
from tests.export.qdq_graphs import Graph, encoder
from tests.export.running import run

IDS = {"input_ids": np.random.default_rng(3).integers(0, 50, (4, 9))}


def mixed(model: onnx.ModelProto) -> onnx.ModelProto:
    return convert(model, "fp16", quantized=True)


def types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output, *graph.input)}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_products_read_fp16_and_the_head_and_softmax_float32() -> None:
    model = mixed(lower(encoder(), "tensorrt"))
    kinds = types(model)
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    heads = [node for node in products if kinds[node.output[0]] == TensorProto.FLOAT]
    assert [node.output[0] for node in heads] == ["logits"]
    assert {kinds[node.output[0]] for node in products if node not in heads} == {TensorProto.FLOAT16}
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    assert kinds[softmax.output[0]] == TensorProto.FLOAT
    assert (
        sum(tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2 for tensor in model.graph.initializer) == 8
    )


def test_no_cast_stands_between_a_dequantized_tensor_and_its_product() -> None:
    """It would keep TensorRT from fusing both into one INT8 product."""
    model = mixed(lower(encoder(), "tensorrt"))
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    assert casts
    assert "DequantizeLinear" not in {makers.get(node.input[0]) for node in casts}


@pytest.mark.parametrize("activations", ["static", "dynamic"])
def test_answers_are_those_of_the_int8_graph(activations: str) -> None:
    model = lower(encoder(0, activations), "tensorrt")
    exact, found = (run(graph, IDS, plain=True)[0] for graph in (model, mixed(model)))
    assert 0 < np.abs(found - exact).max() < 0.02 * np.abs(exact).max()


def test_a_scale_that_fp16_cannot_hold_stays_float32() -> None:
    graph = Graph()
    x = graph.quantized("x", 0.02)
    for number, scale in enumerate((3e-7, 0.02, 0.02)):
        x = graph.quantized(graph.add("Relu", [graph.linear(x, f"layer{number}", 8, 8)], f"relu{number}"), scale)
    graph.linear(x, "y", 8, 8)
    model = mixed(graph.model({"x": ["batch", 8]}, ["y"]))
    kept = {t.name: t for t in model.graph.initializer}
    assert numpy_helper.to_array(kept["relu0_scale"]) == np.float32(3e-7)
    scales = {node.input[0]: types(model)[node.input[1]] for node in model.graph.node if node.op_type[:2] == "De"}
    assert scales["relu0_q"] == TensorProto.FLOAT
    assert scales["relu1_q"] == scales["layer0_int8"] == TensorProto.FLOAT16


def test_it_is_fp16_only_and_asked_for() -> None:
    with pytest.raises(ModelPressError, match="kind is 'bf16'; allowed: 'fp16'"):
        convert(encoder(), "bf16", quantized=True)
    with pytest.raises(ModelPressError, match=r"The graph is quantized \(DequantizeLinear\); fp16 wants a float32 one"):
        convert(encoder(), "fp16")

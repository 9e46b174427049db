from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from modelpress.errors import ModelPressError
from modelpress.export.lower import lower, numerics, quantized_here
from tests.export.qdq_graphs import encoder, shared
from tests.export.running import executed, floats, run, x86


@pytest.mark.parametrize("activations", ["static", "dynamic"])
@pytest.mark.parametrize("shape", [(1, 2), (4, 9)])
def test_a_whole_block_keeps_its_answers(activations: str, shape: tuple[int, int]) -> None:
    model = encoder(3, activations)
    feeds = {"input_ids": np.random.default_rng(5).integers(0, 50, shape)}
    exact = run(model, feeds, plain=True)[0]
    # a sum that rounds otherwise in its last bit may move one activation by one step
    tolerance = 0.05 if activations == "static" else 0.2
    np.testing.assert_allclose(run(x86(model), feeds)[0], exact, atol=tolerance * np.abs(exact).max())


@pytest.mark.parametrize("activations", ["static", "dynamic"])
def test_every_product_with_int8_weights_runs_in_int8(activations: str, tmp_path: Path) -> None:
    operators = executed(x86(encoder(3, activations)), tmp_path)
    assert sum(operators[kind] for kind in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul")) == 7
    assert operators["MatMul"] + operators["FusedMatMul"] == 2  # attention, float in this graph
    assert operators["DequantizeLinear"] == 0
    assert operators["Gemm"] == operators["MatMulNBits"] == 0


@pytest.mark.parametrize("activations", ["static", "dynamic"])
def test_lowering_is_pure_and_smaller_than_floats(activations: str) -> None:
    model = encoder(0, activations)
    before = model.SerializeToString()
    lowered = x86(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(lowered)
    weights = [t for t in lowered.graph.initializer if len(t.dims) == 2]
    assert {t.data_type for t in weights} == {TensorProto.INT8}
    assert len(weights) == 8
    assert lowered == x86(model)
    assert x86(lowered) == lowered  # nothing is left to do


def test_openvino_takes_the_portable_spelling() -> None:
    model = encoder()
    assert lower(model, "openvino") == model
    assert lower(model, "openvino") is not model


def test_a_foreign_file_is_left_as_it_is() -> None:
    graph = shared()
    model = graph.model({"x": ["batch", "sequence", 24]}, ["q", "k", "v"], None)
    assert not quantized_here(model)
    assert x86(model) == model


def test_a_branch_that_reads_an_activation_keeps_it() -> None:
    """What only a branch of an If reads is not dropped."""
    graph = shared()
    model = graph.model({"x": ["batch", "sequence", 24], "flag": [1]}, ["q"])
    value = onnx.helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    branches = [
        onnx.helper.make_graph([onnx.helper.make_node(kind, [name], ["inner"])], kind, [], [value])
        for kind, name in (("Neg", "x_dq"), ("Abs", "k"))
    ]
    cast = onnx.helper.make_node("Cast", ["flag"], ["yes"], to=TensorProto.BOOL)
    chosen = onnx.helper.make_node("If", ["yes"], ["chosen"], then_branch=branches[0], else_branch=branches[1])
    model.graph.node.extend([cast, chosen])
    model.graph.output.append(onnx.helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None))
    lowered = x86(model)
    x = floats(1, 2, 24)
    for flag in (0, 1):
        feeds = {"x": x, "flag": np.array([flag], np.float32)}
        np.testing.assert_allclose(run(lowered, feeds)[1], run(model, feeds)[1], atol=1e-5)


def test_errors() -> None:
    model = encoder()
    with pytest.raises(ModelPressError, match="engine is 'onnx'"):
        lower(model, "onnx")
    assert numerics(model) == {"kind": "int8", "activations": "static", "float_layers": []}
    for text, message in (("{", "is not JSON"), ("[]", "needs a kind")):
        model.metadata_props[0].value = text
        with pytest.raises(ModelPressError, match=message):
            lower(model, "onnxruntime")

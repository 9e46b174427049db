"""Each step of the lowering for ONNX Runtime, run for real and compared with NumPy's integers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from modelpress.export.lower import lower
from modelpress.export.lower_onnxruntime import relu_behind_quantization, unsigned_activations
from tests.export.qdq_graphs import Graph, dynamic_linear, encoder, integer_conv, integer_linear, quantize, shared
from tests.export.running import executed, floats, on_x86, run, x86

# --- unsigned activations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_unsigned_activations_are_bit_equal(seed: int) -> None:
    model = encoder(seed)
    unsigned = onnx.ModelProto()
    unsigned.CopyFrom(model)
    unsigned_activations(unsigned)
    feeds = {"input_ids": np.random.default_rng(seed).integers(0, 50, (3, 7))}
    np.testing.assert_array_equal(run(unsigned, feeds, plain=True)[0], run(model, feeds, plain=True)[0])
    zeros = {t.name: t for t in unsigned.graph.initializer if t.name.startswith("modelpress/")}
    assert len(zeros) == 5
    assert {t.data_type for t in zeros.values()} == {TensorProto.UINT8}
    assert all(t.data_type == TensorProto.INT8 for t in unsigned.graph.initializer if t.name.endswith("_int8"))


def test_numbers_that_saturate_are_bit_equal_too() -> None:
    graph = Graph()
    graph.quantized("x", 0.01)
    model = graph.model({"x": ["n"]}, ["x_dq"])
    unsigned = onnx.ModelProto()
    unsigned.CopyFrom(model)
    unsigned_activations(unsigned)
    x = np.array([-9, -1.285, -1.28, -1.275, -0.005, 0, 0.005, 0.015, 1.265, 1.27, 9], np.float32)
    np.testing.assert_array_equal(run(unsigned, {"x": x}, plain=True)[0], run(model, {"x": x}, plain=True)[0])
    np.testing.assert_array_equal(
        run(unsigned, {"x": x}, plain=True)[0], np.float32(quantize(x, 0.01)) * np.float32(0.01)
    )


def test_signed_numbers_that_something_else_reads_stay() -> None:
    graph = Graph()
    graph.quantized("x", 0.1)
    graph.add("Cast", ["x_q"], "raw", to=TensorProto.FLOAT)
    model = graph.model({"x": ["n"]}, ["x_dq", "raw"])
    before = model.SerializeToString()
    unsigned_activations(model)
    assert model.SerializeToString() == before


# --- static products --------------------------------------------------------------------------------------------------


def test_shared_activations_give_three_integer_products(tmp_path: Path) -> None:
    graph = shared()
    lowered = x86(graph.model({"x": ["batch", "sequence", 24]}, ["q", "k", "v"]))
    x = floats(2, 5, 24)
    for name, y in zip(("q", "k", "v"), run(lowered, {"x": x}), strict=True):
        np.testing.assert_allclose(y, integer_linear(x, 0.02, graph.constants, name), rtol=1e-6, atol=1e-6)
    assert executed(lowered, tmp_path) == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 3}


@on_x86
def test_without_lowering_shared_signed_activations_are_multiplied_as_floats(tmp_path: Path) -> None:
    """The fault that lowering is for; if this fails, ONNX Runtime has learned it and the lowering can go."""
    model = shared().model({"x": ["batch", "sequence", 24]}, ["q", "k", "v"])
    assert executed(model, tmp_path)["MatMul"] == 3


@pytest.mark.parametrize("transposed", [True, False])
def test_gemm(transposed: bool, tmp_path: Path) -> None:
    graph = Graph()
    graph.gemm(graph.quantized("x", 0.02), "y", 24, 16, transposed=transposed)
    lowered = x86(graph.model({"x": ["batch", 24]}, ["y"]))
    x = floats(3, 24)
    constants = dict(graph.constants)
    if transposed:
        constants["y_int8"] = constants["y_int8"].T
    np.testing.assert_allclose(run(lowered, {"x": x})[0], integer_linear(x, 0.02, constants, "y"), rtol=1e-6, atol=1e-6)
    assert executed(lowered, tmp_path) == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1}


def test_gemm_that_scales_is_left_alone() -> None:
    graph = Graph()
    graph.gemm(graph.quantized("x", 0.02), "y", 24, 16)
    graph.nodes[-1].attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT, f=0.5)
    model = graph.model({"x": ["batch", 24]}, ["y"])
    lowered = x86(model)
    assert [node.op_type for node in lowered.graph.node][-1] == "Gemm"
    np.testing.assert_allclose(run(lowered, {"x": floats(3, 24)})[0], run(model, {"x": floats(3, 24)})[0], atol=1e-5)


def test_a_product_without_bias_and_one_whose_sum_is_read_twice(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.quantized("x", 0.02)
    graph.add("MatMul", [x, graph.weight("bare", (24, 16), 1)], "bare")
    graph.linear(x, "twice", 24, 16)
    graph.add("Neg", ["twice_product"], "raw")
    lowered = x86(graph.model({"x": ["batch", 24]}, ["bare", "twice", "raw"]))
    x_value = floats(3, 24)
    bare, twice, raw = run(lowered, {"x": x_value})
    expected = integer_linear(x_value, 0.02, graph.constants, "twice")
    np.testing.assert_allclose(bare, integer_linear(x_value, 0.02, graph.constants, "bare"), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(twice, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(raw, graph.constants["twice_bias"] - expected, rtol=1e-5, atol=1e-5)
    assert executed(lowered, tmp_path)["MatMulIntegerToFloat"] == 2


def test_balanced_activations_and_one_scale_for_all_channels() -> None:
    graph = Graph()
    graph.constant("balance", np.linspace(0.5, 2, 24, dtype=np.float32))
    graph.linear(graph.quantized(graph.add("Mul", ["x", "balance"], "balanced"), 0.02), "y", 24, 16)
    graph.constants |= {"y_scale": np.float32(0.005), "y_zero": np.int8(0)}
    lowered = x86(graph.model({"x": ["batch", 24]}, ["y"]))
    x = floats(3, 24)
    expected = integer_linear(x * graph.constants["balance"], 0.02, graph.constants, "y")
    np.testing.assert_allclose(run(lowered, {"x": x})[0], expected, rtol=1e-6, atol=1e-6)
    assert [node.op_type for node in lowered.graph.node] == ["Mul", "QuantizeLinear", "MatMulIntegerToFloat"]


def test_attention_products_run_in_int8(tmp_path: Path) -> None:
    graph = Graph()
    graph.add("MatMul", [graph.quantized("x", 0.02), graph.quantized("y", 0.03)], "z")
    lowered = x86(graph.model({"x": ["batch", 2, "n", 8], "y": ["batch", 2, 8, "n"]}, ["z"]))
    x, y = floats(1, 2, 5, 8), floats(1, 2, 8, 5, seed=2)
    expected = quantize(x, 0.02) @ quantize(y, 0.03) * (np.float64(np.float32(0.02)) * np.float32(0.03))
    np.testing.assert_allclose(run(lowered, {"x": x, "y": y})[0], expected, rtol=1e-6, atol=1e-6)
    assert executed(lowered, tmp_path) == {"QuantizeLinear": 2, "MatMulIntegerToFloat": 1}


def test_on_arm_activations_stay_signed_and_the_numbers_are_the_same() -> None:
    graph = shared()
    model = graph.model({"x": ["batch", "sequence", 24]}, ["q", "k", "v"])
    arm = lower(model, "onnxruntime", machine="aarch64")
    assert TensorProto.UINT8 not in {tensor.data_type for tensor in arm.graph.initializer}
    assert Counter(node.op_type for node in arm.graph.node)["MatMulIntegerToFloat"] == 3
    feeds = {"x": floats(2, 5, 24)}
    for ours, theirs in zip(run(arm, feeds), run(x86(model), feeds), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# --- convolutions -----------------------------------------------------------------------------------------------------


def two_convolutions() -> Graph:
    graph = Graph()
    hidden = graph.add("Relu", [graph.conv(graph.quantized("x", 0.02), "first", 3, 8)], "hidden")
    graph.conv(graph.quantized(hidden, 0.05), "second", 8, 4)
    return graph


def test_relu_moves_behind_quantization_bit_equal_and_lets_conv_fuse(tmp_path: Path) -> None:
    graph = two_convolutions()
    model = graph.model({"x": ["batch", 3, 6, 6]}, ["second"])
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    relu_behind_quantization(moved)
    feeds = {"x": floats(2, 3, 6, 6)}
    np.testing.assert_array_equal(run(moved, feeds, plain=True)[0], run(model, feeds, plain=True)[0])
    hidden = np.maximum(integer_conv(feeds["x"], 0.02, graph.constants, "first"), 0)
    expected = integer_conv(hidden, 0.05, graph.constants, "second")
    np.testing.assert_allclose(run(x86(model), feeds)[0], expected, rtol=1e-5, atol=1e-4)
    assert executed(model, tmp_path)["QLinearConv"] == 0
    assert executed(x86(model), tmp_path)["QLinearConv"] == 1


def test_a_float_convolution_keeps_its_relu() -> None:
    graph = Graph()
    graph.constant("w", floats(4, 3, 1, 1))
    graph.add("Relu", [graph.add("Conv", ["x", "w"], "conv")], "hidden")
    graph.quantized("hidden", 0.1)
    lowered = x86(graph.model({"x": ["batch", 3, 4, 4]}, ["hidden_dq"]))
    assert [node.op_type for node in lowered.graph.node][:2] == ["Conv", "Relu"]


# --- dynamic products -------------------------------------------------------------------------------------------------


def test_dynamic_products_equal_numpy_and_fuse(tmp_path: Path) -> None:
    graph = Graph()
    graph.linear("x", "y", 24, 16)
    lowered = x86(graph.model({"x": ["batch", "sequence", 24]}, ["y"], "dynamic"))
    for scale in (1, 100):
        x = floats(2, 5, 24) * scale
        expected = dynamic_linear(x, graph.constants, "y")
        np.testing.assert_allclose(run(lowered, {"x": x})[0], expected, rtol=1e-5, atol=1e-5 * scale)
    assert executed(lowered, tmp_path) == {"DynamicQuantizeMatMul": 1}


def test_dynamic_products_of_one_input_quantize_it_once(tmp_path: Path) -> None:
    graph = Graph()
    for name in ("q", "k", "v"):
        graph.linear("x", name, 24, 16)
    graph.add("MatMul", ["q", graph.weight("bare", (16, 8), 1)], "bare")
    graph.gemm("row", "z", 24, 16)
    inputs = {"x": ["batch", "sequence", 24], "row": ["batch", 24]}
    lowered = x86(graph.model(inputs, ["bare", "k", "v", "z"], "dynamic"))
    x, row = floats(2, 5, 24), floats(2, 24, seed=4)
    bare, k, v, z = run(lowered, {"x": x, "row": row})
    for name, y in (("k", k), ("v", v)):
        np.testing.assert_allclose(y, dynamic_linear(x, graph.constants, name), rtol=1e-5, atol=1e-5)
    q = dynamic_linear(x, graph.constants, "q").astype(np.float32)
    np.testing.assert_allclose(bare, dynamic_linear(q, graph.constants, "bare"), rtol=1e-4, atol=2e-2)
    constants = {**graph.constants, "z_int8": graph.constants["z_int8"].T}
    np.testing.assert_allclose(z, dynamic_linear(row, constants, "z"), rtol=1e-5, atol=1e-5)
    operators = {"DynamicQuantizeLinear": 1, "MatMulIntegerToFloat": 3, "DynamicQuantizeMatMul": 2}
    assert executed(lowered, tmp_path) == operators


# --- tables -----------------------------------------------------------------------------------------------------------


def test_embeddings_take_rows_first_and_are_bit_equal() -> None:
    graph = Graph()
    graph.embedding("ids", "rows", 10, 8)
    lowered = x86(graph.model({"ids": ["batch", "sequence"]}, ["rows"], "dynamic"))
    assert [node.op_type for node in lowered.graph.node] == ["Gather", "Cast", "Mul"]
    ids = np.array([[3, 9, 0]])
    expected = graph.constants["rows_int8"][ids] * graph.constants["rows_scale"]
    np.testing.assert_array_equal(run(lowered, {"ids": ids})[0], expected)

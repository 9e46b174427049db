from __future__ import annotations

from onnx import GraphProto, TensorProto, helper

from modelpress.engines.int8 import executed_matmuls, named, summary, unfused


def graph() -> GraphProto:
    """One INT8 kernel, a float product of weights, one of weights and inputs, one of inputs, one of plain floats."""
    weight = helper.make_tensor("w", TensorProto.INT8, [1], [1])
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["w_dq"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["x_dq"]),
        helper.make_node("QLinearMatMul", ["q", "w"], ["a"], name="integer"),
        helper.make_node("MatMul", ["x", "w_dq"], ["b"], name="weights"),
        helper.make_node("Gemm", ["x_dq", "w_dq"], ["c"], name="both"),
        helper.make_node("MatMul", ["x_dq", "y"], ["d"], name="inputs"),
        helper.make_node("FusedMatMul", ["x", "y"], ["e"], name="scores/MatMulScaleFusion/"),
        helper.make_node("Add", ["d", "e"], ["f"]),
    ]
    return helper.make_graph(nodes, "optimized", [], [], [weight])


def test_products_are_counted_and_named_after_their_layers() -> None:
    assert executed_matmuls(graph(), {"scores": "attention/scores", "both": "head"}) == {
        "int8": 1,
        "float": 4,
        "float_names": ["weights", "head", "inputs", "attention/scores"],
    }


def test_every_pattern_left_unfused_is_one_sentence() -> None:
    assert unfused(graph(), {"both": "head"}) == [
        "DequantizeLinear left before weights: its INT8 weights are multiplied as FP32",
        "DequantizeLinear left before head: its INT8 weights and inputs are multiplied as FP32",
        "DequantizeLinear left before inputs: its INT8 inputs are multiplied as FP32",
    ]


def test_long_lists_are_cut() -> None:
    assert named(["a", "b"]) == "a, b"
    assert named([*"abcdef"]) == "a, b, c and 3 more"
    assert len(summary(0, [str(i) for i in range(50)])["float_names"]) == 20
    assert summary(2, [str(i) for i in range(50)])["float"] == 50

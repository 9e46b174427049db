from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from modelpress.errors import ModelPressError
from modelpress.export.lower import lower
from modelpress.export.quantized import check_portable, check_quantized
from tests.export.damage import (
    computed_scale,
    foreign_operator,
    integer_bias,
    integer_operator,
    linear_model,
    onnxruntime_runs,
    openvino_runs,
    other_scale,
    put,
    set_axis,
    shift_activations,
    shift_weights,
    sixteen_bits,
    unknown,
    unlike,
    unsigned,
    without_partner,
    without_quantize,
    without_zero,
)
from tests.export.qdq_graphs import Graph, encoder

ENGINES = ("onnxruntime", "openvino", "tensorrt")
Q, DQ, W = "QuantizeLinear 'x_q_QuantizeLinear'", "DequantizeLinear 'x_dq_DequantizeLinear'", "DequantizeLinear 'y_dq"
PORTABLE: list[tuple[Callable[[onnx.ModelProto], object], str, str]] = [
    (shift_activations, Q, "has zero point 3; quantize symmetrically"),
    (shift_weights, W, "has zero point -5; quantize symmetrically"),
    (unsigned, Q, "has UINT8 numbers; quantize symmetrically to INT8"),
    (sixteen_bits, Q, "has INT16 numbers; quantize symmetrically to INT8 (8 bits)"),
    (lambda model: put(model, "y_int8", np.ones((8, 4), np.uint8)), W, "UINT8 weights; store them as INT8"),
    (integer_bias, "DequantizeLinear 'bias_dq'", "INT32 bias; store the bias as FLOAT"),
    (lambda model: put(model, "x_scale", np.float32(0)), Q, "a scale is 0.0; scales are positive"),
    (lambda model: put(model, "x_scale", np.float32(np.nan)), Q, "a scale is nan"),
    (lambda model: put(model, "y_scale", np.array([1, 1, -2, np.inf], np.float32)), W, "a scale is -2.0"),
    (lambda model: put(model, "y_scale", np.array([1, 1, 1, np.inf], np.float32)), W, "a scale is inf"),
    (computed_scale, Q, "its scale 'max' is computed; calibrate it"),
    (lambda model: set_axis(model, 0), W, "axis 0 has 8 channels, its scale has shape [4]"),
    (lambda model: set_axis(model, 2), W, "axis 2 is outside its 2 axes; give one from -2 to 1"),
    (without_partner, Q, "goes to Cast 'cast'; put a DequantizeLinear right behind it"),
    (without_quantize, DQ, "reads Cast 'cast'; put a QuantizeLinear before it"),
    (other_scale, DQ, "has another scale or zero point than QuantizeLinear"),
    (without_zero, Q, "has no zero point, which means UINT8; give an INT8 zero point of 0"),
    (integer_operator, "DynamicQuantizeLinear 'dynamic'", "runs in ONNX Runtime only"),
    (foreign_operator, "BiasGelu 'gelu' of com.microsoft", "runs in ONNX Runtime only"),
    (lambda model: setattr(model.opset_import[0], "version", 13), "opset 13", "export it with 17 to 25"),
]


@pytest.mark.parametrize(("damage", "where", "what"), PORTABLE, ids=[str(i) for i in range(len(PORTABLE))])
def test_a_breach_of_the_contract_names_the_node_and_the_fix(
    damage: Callable[[onnx.ModelProto], object], where: str, what: str
) -> None:
    model = linear_model()
    assert check_portable(model) == []
    damage(model)
    assert any(where in sentence and what in sentence for sentence in check_portable(model)), check_portable(model)


def test_all_breaches_are_listed() -> None:
    model = linear_model()
    for damage in (shift_activations, shift_weights, integer_bias):
        damage(model)
    found = check_portable(model)
    assert len(found) == len(set(found))
    for what in ("zero point 3", "zero point -5", "INT32 bias"):
        assert any(what in sentence for sentence in found), what


def test_a_table_that_is_dequantized_whole_is_found() -> None:
    graph = Graph()
    graph.add("Gather", [graph.weight("table", (10, 4), 1), "ids"], "rows", axis=0)
    [sentence] = check_portable(graph.model({"ids": ["n"]}, ["rows"]))
    assert sentence == (
        "DequantizeLinear 'table_dq_DequantizeLinear' turns a whole table into floats; put it behind "
        "Gather 'rows_Gather'."
    )


@pytest.mark.parametrize("activations", ["static", "dynamic"])
def test_portable_graphs_pass_everywhere(activations: str) -> None:
    model = encoder(0, activations)
    assert check_portable(model) == []
    assert [check_quantized(model, engine) for engine in ENGINES] == [[], [], []]
    assert check_quantized(lower(model, "onnxruntime"), "onnxruntime") == []


def test_engine_must_be_known() -> None:
    with pytest.raises(ModelPressError, match="Did you mean 'tensorrt'"):
        check_quantized(encoder(), "tensort")


# --- what a runtime refuses, and nothing more -------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [damage for damage, _, _ in PORTABLE] + [unknown, unlike])
def test_the_check_for_openvino_refuses_nothing_that_it_runs(
    damage: Callable[[onnx.ModelProto], object], tmp_path: Path
) -> None:
    model = linear_model(None)
    damage(model)
    assert not (check_quantized(model, "openvino") and openvino_runs(model, tmp_path))


@pytest.mark.parametrize("damage", [damage for damage, _, _ in PORTABLE] + [unknown, unlike])
def test_the_check_for_onnxruntime_refuses_nothing_that_it_runs(damage: Callable[[onnx.ModelProto], object]) -> None:
    model = linear_model(None)
    damage(model)
    assert not (check_quantized(model, "onnxruntime") and onnxruntime_runs(model))


@pytest.mark.parametrize("axis", [0, 2])
def test_what_openvino_refuses(axis: int, tmp_path: Path) -> None:
    model = linear_model(None)
    assert openvino_runs(model, tmp_path)
    set_axis(model, axis)
    assert not openvino_runs(model, tmp_path)
    assert [s for s in check_quantized(model, "openvino") if W in s and f"axis {axis}" in s]


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (shift_activations, "has zero point 3"),
        (shift_weights, "has zero point -5"),
        (unsigned, "has zero point 128; quantize symmetrically to INT8"),
        (integer_bias, "INT32 bias"),
        (integer_operator, "runs in ONNX Runtime only"),
        (sixteen_bits, "16-bit numbers"),
        (lambda model: setattr(model.opset_import[0], "version", 26), "opset 26"),
    ],
)
def test_what_tensorrt_refuses(damage: Callable[[onnx.ModelProto], object], what: str) -> None:
    """As recorded with TensorRT's own parser: zero points, INT32 biases, operators that it lacks."""
    model = linear_model(None)
    assert check_quantized(model, "tensorrt") == []
    damage(model)
    assert any(what in sentence for sentence in check_quantized(model, "tensorrt"))

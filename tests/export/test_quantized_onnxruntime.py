from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
from onnx import helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

from modelpress.export import quantized_onnxruntime
from modelpress.export.quantized import check_quantized
from tests.export.damage import linear_model, onnxruntime_runs, set_axis, unknown, unlike

W = "DequantizeLinear 'y_dq"


@pytest.mark.parametrize(
    ("damage", "where", "what"),
    [
        (unknown, "NoSuchOperator 'y_Add'", "has no NoSuchOperator of ai.onnx 20; export with another opset"),
        (unlike, W, "values are INT8, the zero point is UINT8; give both the same type"),
        (lambda model: set_axis(model, 0), W, "axis 0 has 8 channels"),
        (lambda model: set_axis(model, 2), W, "axis 2 is outside its 2 axes"),
        (lambda model: setattr(model.opset_import[0], "version", 99), "opset ai.onnx 99", "or older"),
        (lambda model: setattr(model, "ir_version", 99), "IR version 99", "save the file with IR version "),
    ],
)
def test_what_onnxruntime_refuses(damage: Callable[[onnx.ModelProto], object], where: str, what: str) -> None:
    model = linear_model(None)
    assert onnxruntime_runs(model)
    damage(model)
    assert not onnxruntime_runs(model)
    assert any(where in sentence and what in sentence for sentence in check_quantized(model, "onnxruntime"))


def test_operators_that_onnx_defines_by_others_need_no_kernel() -> None:
    model = linear_model(None)
    model.graph.node.append(helper.make_node("HardSwish", ["y"], ["z"], name="swish"))
    model.graph.output[0].name = "z"
    assert onnxruntime_runs(model)
    assert check_quantized(model, "onnxruntime") == []


def test_kernels_of_other_providers_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-gpu crashes the process when it cannot load one of them."""

    def crash() -> None:
        raise AssertionError("the process would be gone")

    monkeypatch.setattr(state, "get_all_opkernel_def", crash)
    quantized_onnxruntime._known.cache_clear()
    assert check_quantized(linear_model(None), "onnxruntime") == []
    assert {("", "MatMul"), ("com.microsoft", "QAttention")} <= quantized_onnxruntime._known()

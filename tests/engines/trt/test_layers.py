"""What the engine inspector's JSON says about products; the spellings are those of TensorRT 10 and 11."""

from __future__ import annotations

import json

import pytest

from modelpress.engines.trt.layers import Layer, counts, int8_matmuls, precision_of, read

PRODUCTS = {"node_q": "attn/q", "node_k": "attn/k", "node_up": "mlp/up", "node_head": "head"}
INFORMATION = json.dumps(
    {
        "Layers": [
            "a layer of an engine without details",
            {
                "Name": "qk_gemm",
                "LayerType": "gemm",
                "Metadata": "[ONNX Layer: node_q]\x1e[ONNX Layer: node_k]\x1e[ONNX Layer: bias]",
                "Inputs": [{"Name": "x", "Format/Datatype": "Int8"}, {"Name": "b", "Format/Datatype": "Float"}],
                "Outputs": [{"Name": "y", "Format/Datatype": "Half"}],
            },
            {
                "Name": "up",
                "LayerType": "gemm",
                "Metadata": "[ONNX Layer: node_up]",
                "Inputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format (kLINEAR)"}],
            },
            {"Name": "norm", "LayerType": "kgen", "Metadata": "[ONNX Layer: norm]", "Inputs": []},
            {
                "Name": "head",
                "Metadata": "[ONNX Layer: node_head]",
                "Inputs": [{"Name": "z", "Format/Datatype": "Float"}],
            },
        ]
    }
)


def test_products_are_found_through_their_nodes() -> None:
    found = read(INFORMATION, PRODUCTS)
    assert found == [Layer(("attn/q", "attn/k"), "int8"), Layer(("mlp/up",), "fp16"), Layer(("head",), "fp32")]
    assert counts(found) == {"int8": 2, "fp16": 1, "fp32": 1}
    assert int8_matmuls(found) == {"int8": 2, "float": 2, "float_names": ["mlp/up", "head"]}


@pytest.mark.parametrize(
    ("spelling", "kind"),
    [("BFloat16", "bf16"), ("Half", "fp16"), ("FP32", "fp32"), ("Int8", "int8"), ("Int64", None), ("", None)],
)
def test_spellings_of_types(spelling: str, kind: str | None) -> None:
    assert precision_of({"Inputs": [{"Format/Datatype": spelling}]}) == kind


def test_names_only_say_nothing() -> None:
    assert read(json.dumps({"Layers": ["a", "b"], "Bindings": []}), PRODUCTS) == []

from __future__ import annotations

from typing import Any

import pytest

from modelpress.engines.openvino_layers import WORK, Layer, counts, int8_matmuls, layers, sparse_weights, unfused


class Node:
    """What a node of OpenVINO's runtime model offers."""

    def __init__(self, name: str, **facts: str) -> None:
        self.name, self.facts = name, facts

    def get_rt_info(self) -> dict[str, str]:
        return self.facts

    def get_friendly_name(self) -> str:
        return self.name


class Compiled:
    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes

    def get_runtime_model(self) -> Any:
        return self

    def get_ordered_ops(self) -> list[Node]:
        return list(self.nodes)


def node(kind: str, stored: str, primitive: str, name: str, made_of: str = "") -> Node:
    facts = {"layerType": kind, "runtimePrecision": stored, "primitiveType": primitive, "originalLayersNames": made_of}
    return Node(name, **facts)


@pytest.fixture
def found() -> list[Layer]:
    return layers(
        Compiled(
            node("Const", "i8", "unknown_i8", "w"),
            node("FullyConnected", "i8", "brgemm_avx512_amx_i8", "query/DequantizationMultiply", "query/x,bias,"),
            node("FullyConnected", "i8", "undef_bf16", "key_bias", "key_bias,"),
            node("FullyConnected", "bf16", "undef_bf16", "head", "head,"),
            node("Subgraph", "bf16", "jit_avx512_bf16", "fused", "scores,mask,softmax,context,"),
            node("Eltwise", "f32", "unknown", "sum"),
        )
    )


def test_precision_is_that_of_the_kernel_not_of_the_weights(found: list[Layer]) -> None:
    assert [layer.precision for layer in found] == ["int8", "int8", "bf16", "bf16", "bf16", "fp32"]
    assert found[1].name == "query"
    assert counts(found, WORK) == {"bf16": 2, "int8": 1}
    assert counts(found, None) == {"bf16": 3, "int8": 1, "fp32": 1}


def test_products_are_named_after_their_layers_also_inside_fused_ones(found: list[Layer]) -> None:
    products = {"key_bias": "key", "context": "attention/context"} | dict.fromkeys(
        ("scores", "mask"), "attention/scores"
    )
    assert int8_matmuls(found, products) == {
        "int8": 1,
        "float": 4,
        "float_names": ["key", "head", "attention/scores", "attention/context"],
    }


def test_int8_weights_in_float_kernels_are_said(found: list[Layer]) -> None:
    [sentence] = unfused(found, {"key_bias": "key"})
    assert sentence == (
        "1 with INT8 weights (key) have inputs that the graph does not quantize: OpenVINO reports BF16 kernels for them"
    )


def test_layers_with_packed_weights_are_counted() -> None:
    kernels = ("brgemm_sparse_avx512_amx_i8", "brgemm_avx512_amx_i8", "brgemm_sparse_avx512_amx_i8")
    found = layers(Compiled(*(node("FullyConnected", "i8", kernel, str(i)) for i, kernel in enumerate(kernels))))
    assert [layer.precision for layer in found] == ["int8"] * 3
    assert sparse_weights(found, 0.8, amx=True) == {"asked": 0.8, "layers": 2}
    ignored = sparse_weights(found[1:2], 0.8, amx=False)
    assert ignored["layers"] == 0
    assert ignored["why"].endswith("80 % or more are zero; this processor has no AMX")
    assert "no AMX" not in sparse_weights(found[1:2], 0.8, amx=True)["why"]

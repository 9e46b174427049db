from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from modelpress.export.graph_view import GraphView
from modelpress.export.linears import Linear, linears
from tests.export.qdq_graphs import Graph, shared


def found(graph: Graph, shape: list[object], output: str) -> list[Linear]:
    return linears(GraphView(graph.model({"x": shape}, [output])))


def test_products_with_int8_weights_are_found_with_their_bias() -> None:
    graph = shared()
    products = found(graph, ["batch", 24], "q")
    assert [linear.y for linear in products] == ["q", "k", "v"]
    assert {linear.x for linear in products} == {"x_dq"}
    assert [linear.bias for linear in products] == ["q_bias", "k_bias", "v_bias"]
    assert [linear.absorbed[0].output[0] for linear in products] == ["q", "k", "v"]


def test_a_transposed_gemm_is_turned() -> None:
    graph = Graph()
    graph.gemm("x", "y", 24, 16)
    [linear] = found(graph, ["batch", 24], "y")
    np.testing.assert_array_equal(linear.weight, graph.constants["y_int8"].T)
    assert (linear.weight_name, linear.bias, linear.absorbed) == ("modelpress/y_int8/transposed", "y_bias", ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("y_zero", np.full(16, 3, np.int8)),
        ("y_int8", np.ones((24, 16), np.uint8)),
        ("y_scale", np.ones(24, np.float32)),
        ("y_scale", np.ones(16, np.float16)),
    ],
)
def test_other_weights_are_left_out(name: str, value: np.ndarray) -> None:
    graph = Graph()
    graph.linear("x", "y", 24, 16)
    model = graph.model({"x": ["batch", 24]}, ["y"])
    assert len(linears(GraphView(model))) == 1
    next(t for t in model.graph.initializer if t.name == name).CopyFrom(numpy_helper.from_array(value, name))
    assert linears(GraphView(model)) == []


def test_an_add_that_is_no_bias_stays() -> None:
    graph = Graph()
    product = graph.add("MatMul", ["x", graph.weight("y", (24, 16), 1)], "product")
    graph.add("Add", [product, graph.constant("offset", np.ones((1, 16), np.float32))], "y")
    [linear] = found(graph, ["batch", 24], "y")
    assert (linear.bias, linear.y, linear.absorbed) == (None, "product", ())

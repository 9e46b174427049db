from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from modelpress.export.graph_view import MICROSOFT, GraphView, attributes, called, opset, rewrite
from tests.export.qdq_graphs import shared


def model() -> onnx.ModelProto:
    return shared().model({"x": ["batch", "sequence", 24]}, ["q", "k", "v"])


def test_names_lead_to_constants_makers_and_readers() -> None:
    view = GraphView(model())
    assert view.array("q_int8") is not None
    assert view.array("x_dq") is None
    assert view.made_by("x_dq", "DequantizeLinear") is not None
    assert view.made_by("x_dq", "MatMul") is None
    assert len(view.readers["x_dq"]) == 3
    assert view.only_reader("x_dq") is None
    add = view.only_reader("q_product")
    assert add is not None
    assert called(add) == "Add 'q_Add'"
    assert view.only_reader("q") is None  # an output of the graph has readers outside


def test_constant_nodes_are_constants_too() -> None:
    proto = model()
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["two"], value=two))
    np.testing.assert_array_equal(GraphView(proto).array("two"), [2])


def test_what_nothing_reads_any_more_is_dropped() -> None:
    proto = model()
    view = GraphView(proto)
    node = view.producer["q_product"]
    other = helper.make_node("Foo", ["x", "new"], ["q_product"], domain=MICROSOFT)
    rewrite(proto, {id(node): [other]}, constants={"new": np.ones(1)})
    names = {tensor.name for tensor in proto.graph.initializer}
    assert "new" in names
    assert {"q_int8", "q_scale", "q_zero"}.isdisjoint(names)
    assert {"k_int8", "x_scale"} <= names
    assert "q_dq" not in {name for node in proto.graph.node for name in node.output}
    assert [entry.domain for entry in proto.opset_import] == ["", MICROSOFT]


def test_small_readers() -> None:
    proto = model()
    assert opset(proto) == 20
    assert opset(onnx.ModelProto()) == 0
    assert attributes(next(n for n in proto.graph.node if n.output[0] == "q_dq")) == {"axis": 1}
    assert called(helper.make_node("Relu", ["x"], ["y"])) == "Relu 'y'"

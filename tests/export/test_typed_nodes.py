"""The rules that choose an operator's type, on hand-made graphs; which module a node belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from modelpress.errors import ModelPressError
from modelpress.export.typed_nodes import KEEP, SCOPES, Typing, fits, float_tensors, inside, scopes, shared


def graph(body: str, inputs: str = "float[n,4] x", output: str = "float[n,4] y", **weights: Any) -> onnx.ModelProto:
    """A graph from ONNX's text form; ``weights`` become float32 initializers (int64 stays)."""
    proto = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> g ({inputs}) => ({output}) {{ {body} }}'.replace("'", '"')
    )
    for name, value in weights.items():
        array = np.asarray(value)
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        proto.graph.initializer.append(numpy_helper.from_array(array.astype(kind), name))
    return proto


def low(proto: onnx.ModelProto, kind: str = "fp16", pinned: tuple[str, ...] = ()) -> list[str]:
    typing = Typing(proto, kind, KEEP, pinned)
    return [typing.nodes[i].output[0] for i in typing.low]


SQUARE = np.eye(4) / 3


def test_products_are_low_and_what_follows_them_follows() -> None:
    proto = graph("a = MatMul(x, w)  b = Relu(a)  c = Add(b, v)  y = MatMul(c, w)", w=SQUARE, v=np.ones(4))
    assert low(proto) == ["a", "b", "c"]


def test_a_float32_input_wins_over_a_low_one() -> None:
    proto = graph("a = MatMul(x, w)  b = Add(a, x)  y = MatMul(b, w)", w=SQUARE)
    assert low(proto) == ["a"]


@pytest.mark.parametrize("kept", ["Softmax", "Sqrt", "Exp", "LogSoftmax"])
def test_sums_and_steep_functions_stay(kept: str) -> None:
    proto = graph(f"a = MatMul(x, w)  b = {kept}(a)  c = MatMul(b, w)  d = Relu(c)  y = MatMul(d, w)", w=SQUARE)
    assert low(proto) == ["a", "c", "d"]


def test_what_leaves_the_graph_stays_up_to_its_product() -> None:
    proto = graph("a = MatMul(x, w)  b = MatMul(a, w)  c = Relu(b)  y = Mul(c, s)", w=SQUARE, s=2.0)
    assert low(proto) == ["a"]


def test_two_outputs_have_two_heads() -> None:
    proto = graph("a = MatMul(x, w)  y = MatMul(a, w)  z = MatMul(a, w)", output="float[n,4] y, float[n,4] z", w=SQUARE)
    assert low(proto) == ["a"]


def test_tables_are_low_and_gathered_activations_follow() -> None:
    proto = graph(
        "a = Gather(t, i)  b = Relu(a)  c = Gather<axis=1>(b, o)  y = MatMul(c, w)",
        "int64[n,s] i", "float[n,4] y", t=np.ones((9, 4)), o=0, w=SQUARE,
    )  # fmt: skip
    assert low(proto) == ["a", "b", "c"]


def test_integers_are_nobodys_business() -> None:
    proto = graph("a = Gather(t, i)  b = Cast<to=1>(a)  c = MatMul(b, w)  y = MatMul(c, w)",
                  "int64[n,4] i", t=np.arange(9), w=SQUARE)  # fmt: skip
    assert low(proto) == ["c"]


LOWEST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_a_mask_that_does_not_fit_keeps_its_sums(kind: str) -> None:
    body = "a = MatMul(x, w)  m = Mul(k, lowest)  b = Add(a, m)  c = Softmax(b)  d = MatMul(c, w)  y = MatMul(d, w)"
    proto = graph(body, "float[n,4] x, float[n,4] k", w=SQUARE, lowest=LOWEST)
    assert low(proto, kind) == ["a", "d"]
    chosen = graph("a = MatMul(x, w)  b = Where(k, a, lowest)  c = Relu(b)  y = MatMul(c, w)",
                   "float[n,4] x, bool[n,4] k", w=SQUARE, lowest=LOWEST)  # fmt: skip
    assert low(chosen, kind) == ["a"]


def test_weights_that_do_not_fit_keep_their_product_only() -> None:
    proto = graph(
        "a = MatMul(x, w)  b = MatMul(a, big)  c = MatMul(b, w)  y = MatMul(c, w)", w=SQUARE, big=SQUARE * 1e6
    )
    assert low(proto, "fp16") == ["a", "c"]
    assert low(proto, "bf16") == ["a", "b", "c"]


def test_operators_that_lack_the_type_stay() -> None:
    body = "a = MatMul(x, w)  b = HardSwish(a)  c = MatMul(b, w)  y = MatMul(c, w)"
    assert low(graph(body, w=SQUARE), "fp16") == ["a", "b", "c"]
    assert low(graph(body, w=SQUARE), "bf16") == ["a", "c"]


def test_only_parameters_of_the_same_type_variable_are_low() -> None:
    proto = graph(
        "a = Conv(x, w)  b = Resize<mode='nearest'>(a, , f)  y = Conv(b, w)",
        "float[n,2,4,4] x", "float[n,2,p,q] y", w=np.ones((2, 2, 1, 1)), f=np.asarray([1.0, 1.0, 2.0, 2.0]),
    )  # fmt: skip
    typing = Typing(proto, "fp16", KEEP, ())
    assert {typing.nodes[i].op_type: slots.inputs for i, slots in typing.low.items()} == {
        "Conv": frozenset({0, 1}),
        "Resize": frozenset({0}),
    }


def test_pinned_nodes_stay_by_name() -> None:
    proto = graph("a = MatMul(x, w)  b = MatMul(a, w)  y = MatMul(b, w)", w=SQUARE)
    for node, name in zip(proto.graph.node, ("one", "one_more", "last"), strict=True):
        node.name = name
    assert low(proto, pinned=("one",)) == ["b"]


def test_nodes_without_a_module_belong_where_their_sources_meet() -> None:
    proto = graph(
        "q = MatMul(x, w)  k = MatMul(x, w)  m = Neg(x)  s = Mul(q, k)  b = Add(s, m)  y = MatMul(b, w)", w=SQUARE
    )
    names = {"q": "layer.1.attention.query", "k": "layer.1.attention.key", "y": "head"}
    for node in proto.graph.node:
        modules = ["", names.get(node.output[0], ""), node.output[0]]
        node.metadata_props.add(key=SCOPES, value=str(modules))
    found = dict(zip((node.output[0] for node in proto.graph.node), scopes(proto), strict=True))
    assert found == names | {"m": "", "s": "layer.1.attention", "b": "layer.1.attention"}
    assert low(proto, pinned=("layer.1.attention",)) == []
    assert low(proto, pinned=("layer.1.attention.key",)) == ["q"]


def test_names_are_compared_by_their_parts() -> None:
    assert shared(["a.b.c", "", "a.b.d.e"]) == "a.b"
    assert (shared([]), shared(["a", "b"]), shared(["a.b"])) == ("", "", "a.b")
    assert inside("layer.1.output", ["layer.1"])
    assert not inside("layer.10.output", ["layer.1"])
    assert not inside("anything", [""])


@pytest.mark.parametrize(("kind", "largest"), [("fp16", 65504.0), ("bf16", 3.3895314e38)])
def test_what_fits(kind: str, largest: float) -> None:
    assert fits(numpy_helper.from_array(np.asarray([largest, -largest, 0, 1e-30], np.float32)), kind)
    for value in (largest * 1.003, -np.inf, np.nan):
        assert not fits(numpy_helper.from_array(np.asarray([1, value], np.float32)), kind)


def test_an_unknown_type_is_named() -> None:
    proto = graph("a = MatMul(x, w)  y = MatMul(a, w)", w=SQUARE)
    proto.graph.node.insert(1, helper.make_node("Odd", ["a"], ["odd"], name="odd_one", domain="mine"))
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    with pytest.raises(ModelPressError, match=r"type of odd \(Odd odd_one\)"):
        float_tensors(proto)
    proto.graph.value_info.append(helper.make_tensor_value_info("odd", TensorProto.FLOAT, ["n", 4]))
    proto.graph.node[2].input[0] = "odd"
    assert low(proto) == ["a"]

"""The written graph: each tensor has one type, casts only where types meet, half the file, the same answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from modelpress.engines.openvino_core import core
from modelpress.errors import ModelPressError
from modelpress.export.check import probe_batches
from modelpress.export.onnx import evaluation
from modelpress.export.typed import convert
from modelpress.export.typed_run import run
from tests.export.test_typed_nodes import SQUARE, graph

Exported = Callable[..., tuple[Any, Path]]
TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
HALVES = frozenset(TYPES.values())
FLOATS = HALVES | {TensorProto.FLOAT}


def types_of(proto: onnx.ModelProto) -> dict[str, int]:
    """Tensor -> type, as ONNX itself infers it in strict mode."""
    inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return found | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def of(proto: onnx.ModelProto, *operators: str) -> list[onnx.NodeProto]:
    return [node for node in proto.graph.node if node.op_type in operators]


@pytest.fixture(params=["fp16", "bf16"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_products_in_16_bits_norms_softmax_and_logits_in_32(kind: str, family: str, exported: Exported) -> None:
    proto = convert(onnx.load(exported(family)[1]), kind)
    types = types_of(proto)
    *products, head = of(proto, "MatMul", "Gemm")
    assert len(products) > 12
    assert {types[name] for node in products for name in (*node.input, *node.output)} == {TYPES[kind]}
    assert {types[name] for name in head.input} == {TensorProto.FLOAT}
    for node in of(proto, "LayerNormalization", "Softmax"):
        assert {types[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT}
    tables = [node.input[0] for node in of(proto, "Gather") if node.input[0] in stored(proto)]
    assert {types[name] for name in tables} <= {TYPES[kind], TensorProto.INT64}
    assert types["logits"] == TensorProto.FLOAT


def stored(proto: onnx.ModelProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in proto.graph.initializer}


def test_casts_only_where_types_meet(kind: str, exported: Exported) -> None:
    proto = convert(onnx.load(exported("bert")[1]), kind)
    types, constants = types_of(proto), stored(proto)
    casts = of(proto, "Cast")
    sources = {node.output[0]: node.input[0] for node in casts}
    assert all(types[node.input[0]] != types[node.output[0]] for node in casts)
    assert not any(node.input[0] in constants for node in casts)
    assert not any(source in sources for source in sources.values())
    assert len({(node.input[0], types[node.output[0]]) for node in casts}) == len(casts)
    # the mask 1, embeddings 1, each layer 6 (two residual sums, two norms, scores, weights), the head 1, its norm less
    assert len(casts) <= 1 + 1 + 6 * 2 + 1 + 2


def test_nothing_is_left_over(kind: str, exported: Exported) -> None:
    proto = convert(onnx.load(exported("bert")[1]), kind)
    read = {name for node in proto.graph.node for name in node.input}
    assert set(stored(proto)) <= read
    names = [tensor.name for tensor in proto.graph.initializer]
    assert len(names) == len(set(names))


def test_outside_nothing_changes(kind: str, exported: Exported) -> None:
    before = onnx.load(exported("bert")[1])
    untouched = before.SerializeToString()
    after = convert(before, kind)
    assert before.SerializeToString() == untouched
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert list(after.metadata_props) == list(before.metadata_props)
    assert after.opset_import == before.opset_import


def test_weights_take_half(kind: str, exported: Exported) -> None:
    before = onnx.load(exported("bert")[1])
    after = convert(before, kind)
    old, new = (sum(len(t.raw_data) for t in p.graph.initializer if t.data_type in FLOATS) for p in (before, after))
    assert 0.5 < new / old < 0.56  # this network is so small that its norms are 2 %


LIMITS = {"fp16": 0.004, "bf16": 0.03}


def exact(model: Any, batch: dict[str, torch.Tensor]) -> Any:
    with evaluation(model), torch.no_grad():
        return model(batch).logits.numpy()


def test_padded_batches_of_many_sizes_agree(kind: str, exported: Exported) -> None:
    model, path = exported("bert")
    proto = convert(onnx.load(path), kind)
    for batch in probe_batches(model.towers()[0]):
        inputs = {name: tensor.numpy() for name, tensor in batch.items()}
        given = run(proto, inputs)["logits"]
        assert given.dtype == np.float32
        assert 0 < np.abs(given - exact(model, batch)).max() < LIMITS[kind]


def test_onnx_runtime_widens_fp16_and_has_no_bf16(exported: Exported) -> None:
    """What its engine row has to say; should either change, the engine must too."""
    model, path = exported("bert")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    proto = convert(onnx.load(path), "fp16")
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for batch in probe_batches(model.towers()[0]):
        given = session.run(["logits"], {name: tensor.numpy() for name, tensor in batch.items()})[0]
        assert np.abs(given - exact(model, batch)).max() < LIMITS["fp16"]
    proto = convert(onnx.load(path), "bf16")
    with pytest.raises(Exception, match="NOT_IMPLEMENTED : Could not find an implementation for Add"):
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("hint", ["f32", "bf16"])
def test_openvino_runs_both(kind: str, hint: str, exported: Exported, tmp_path: Path) -> None:
    model, path = exported("bert")
    onnx.save(convert(onnx.load(path), kind), tmp_path / "typed.onnx")
    config = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1}
    compiled = core().compile_model(core().read_model(tmp_path / "typed.onnx"), "CPU", config)
    for batch in probe_batches(model.towers()[0]):
        (given,) = compiled({name: tensor.numpy() for name, tensor in batch.items()}).values()
        assert np.abs(given - exact(model, batch)).max() < LIMITS["bf16"]


def test_pinned_modules_stay_with_their_attention(kind: str, exported: Exported) -> None:
    """The last layer's attention is spelled outside all modules; its scores still belong to it."""
    layer = "network.bert.encoder.layer.1.attention.self"
    free, held = (convert(onnx.load(exported("bert")[1]), kind, pinned=pins) for pins in ((), (layer,)))
    low = [{node.output[0] for node in of(p, "MatMul") if types_of(p)[node.output[0]] != 1} for p in (free, held)]
    assert len(low[0] - low[1]) == 3 + 2  # query, key, value; scores and their sum
    assert low[1] < low[0]


def test_shared_constants_are_stored_in_both_types() -> None:
    proto = graph(
        "a = MatMul(x, w)  b = Add(a, v)  c = Softmax(b)  d = Add(c, v)  y = MatMul(d, w)", w=SQUARE, v=np.ones(4)
    )
    constants = stored(convert(proto, "fp16"))
    assert {name: tensor.data_type for name, tensor in constants.items()} == {
        "w": TensorProto.FLOAT,
        "w.fp16": TensorProto.FLOAT16,
        "v": TensorProto.FLOAT,
        "v.fp16": TensorProto.FLOAT16,
    }
    assert np.array_equal(numpy_helper.to_array(constants["w.fp16"]), SQUARE.astype(np.float16))


def test_constant_nodes_are_stored_as_weights() -> None:
    body = "s = Constant<value_float = 0.5>()  t = Constant<value = float[4] {1, 2, 3, 4}>()"
    body += "  i = Constant<value_int = 3>()  a = MatMul(x, w)  b = Mul(a, s)  c = Add(b, t)  d = MatMul(c, w)"
    body += "  e = Cast<to=1>(i)  y = Add(d, e)"
    proto = convert(graph(body, w=SQUARE), "fp16")
    found = {name: tensor.data_type for name, tensor in stored(proto).items()}
    assert {found["s"], found["t"]} == {TensorProto.FLOAT16}
    x = np.ones((2, 4), np.float32)
    expected = (x @ SQUARE * 0.5 + [1, 2, 3, 4]) @ SQUARE + 3
    assert run(proto, {"x": x})["y"] == pytest.approx(expected, abs=1e-2)


def test_an_integer_is_cast_once() -> None:
    proto = convert(graph("f = Cast<to=1>(i)  a = MatMul(f, w)  y = MatMul(a, w)", "int64[n,4] i", w=SQUARE), "bf16")
    (cast, back) = of(proto, "Cast")
    assert (cast.input[0], types_of(proto)[cast.output[0]]) == ("i", TensorProto.BFLOAT16)
    assert types_of(proto)[back.output[0]] == TensorProto.FLOAT


def test_shapes_are_asked_of_any_type() -> None:
    body = "a = MatMul(x, w)  n = Shape(a)  b = Relu(a)  c = Reshape(b, n)  y = MatMul(c, w)"
    proto = convert(graph(body, w=SQUARE), "bf16")
    assert len(of(proto, "Cast")) == 2
    assert types_of(proto)[of(proto, "Shape")[0].input[0]] == TensorProto.BFLOAT16


def test_local_functions_are_inlined() -> None:
    twice = helper.make_function("mine", "Twice", ["p", "q"], ["r"], [
        helper.make_node("MatMul", ["p", "q"], ["m"]), helper.make_node("MatMul", ["m", "q"], ["r"]),
    ], [helper.make_opsetid("", 20)])  # fmt: skip
    nodes = [helper.make_node("Twice", ["x", "w"], ["a"], domain="mine"), helper.make_node("MatMul", ["a", "w"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    weight = numpy_helper.from_array(SQUARE.astype(np.float32), "w")
    whole = helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("mine", 1)]
    proto = convert(helper.make_model(whole, functions=[twice], opset_imports=imports, ir_version=10), "fp16")
    assert len(of(proto, "MatMul")) == 3
    assert not proto.functions


@pytest.mark.parametrize(("numbers", "opset"), [("fp16", 20), ("bf16", 22)])
def test_convolutions(numbers: str, opset: int, tmp_path: Path) -> None:
    """bf16 Conv exists from opset 22 on."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(2, 2, 3, 3)) / 4 for name in ("u", "v")}
    body = "a = Conv(x, u)  b = Relu(a)  c = Conv(b, v)  y = ReduceMean<keepdims=0>(c, axes)"
    proto = graph(body, "float[n,2,p,q] x", "float[n,2] y", axes=[2, 3], **weights)
    typed = convert(proto, numbers)
    assert typed.opset_import[0].version == opset
    types = types_of(typed)
    assert [types[node.output[0]] for node in of(typed, "Conv", "Relu")] == [TYPES[numbers]] * 3
    onnx.save(typed, tmp_path / "conv.onnx")
    x = rng.normal(size=(3, 2, 9, 9)).astype(np.float32)
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    (given,) = core().compile_model(str(tmp_path / "conv.onnx"), "CPU", config)({"x": x}).values()
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.abs(given - session.run(None, {"x": x})[0]).max() < 0.02


def test_what_to_keep_is_a_choice() -> None:
    proto = graph("a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, w)  y = MatMul(c, w)", w=SQUARE)
    assert types_of(convert(proto, "fp16", keep=["Relu"]))["b"] == TensorProto.FLOAT
    assert types_of(convert(proto, "fp16", keep=[]))["b"] == TensorProto.FLOAT16


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("a = MatMul(x, w)  y = MatMul(a, w)", r"kind is 'fp8'; allowed: 'fp16', 'bf16'"),
        ("y = MatMul(x, w)", "no product that can compute in fp16"),
        ("q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  y = MatMul(d, w)", "graph is quantized"),
        ("y = If<then_branch = g1 () => (float[n,4] t) { t = Relu(x) }, else_branch = g2 () => (float[n,4] e)"
         " { e = Neg(x) }>(k)", "graph branches"),
    ],
)  # fmt: skip
def test_refusals(body: str, message: str) -> None:
    inputs = "float[n,4] x, bool k" if "If" in body else "float[n,4] x"
    proto = graph(body, inputs, w=SQUARE, s=0.1)
    proto.graph.initializer.append(numpy_helper.from_array(np.asarray(0, np.int8), "z"))
    with pytest.raises(ModelPressError, match=message):
        convert(proto, "fp8" if "fp8" in message else "fp16")

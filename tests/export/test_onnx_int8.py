"""The INT8 graph: explicit Q/DQ with dynamic axes, integer weights, and the numbers of the network in torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import NodeProto, TensorProto, numpy_helper
from torch import Tensor

from modelpress.export.lower_onnxruntime import lower
from modelpress.export.onnx import export
from modelpress.export.quantized import check_portable
from modelpress.models.classifier import TextClassifier
from modelpress.quantization.attach import quantizers_of, set_mode, twins_of
from modelpress.quantization.quantizers import InputQuantizer
from modelpress.transforms.base import Context
from modelpress.transforms.quantize import Quantize
from tests.models.conftest import tiny
from tests.quantization import small
from tests.quantization.small import rounded

OPTIONS: dict[str, dict[str, Any]] = {
    "static": {},
    "dynamic": {"activations": "dynamic"},
    "attention": {"attention": True},
    "convolutions": {},
    "shared": {},
}
BERT = ("static", "dynamic", "attention")
SIZES = [(1, 2), (1, 40), (4, 7), (3, 33), (8, 16)]
LAYER = "network.bert.encoder.layer"
Quantized = Callable[[str], tuple[Any, Path]]


def texts(items: int, length: int, seed: int, padded: bool = True) -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 600, (items, length), generator=numbers)
    mask = torch.ones_like(ids)
    if padded and items > 1:
        mask[-1, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}


def network(name: str, tokenizer_folder: Path) -> tuple[Any, list[dict[str, Tensor]]]:
    """A model and its calibration batches."""
    kinds: dict[str, Any] = {"convolutions": small.Convolutions, "shared": small.Shared}
    if name in kinds:
        return small.model(kinds[name]), small.batches(kinds[name])
    widths = {"hidden_size": 96, "intermediate_size": 384, "vocab_size": 600, "num_hidden_layers": 2}
    model = TextClassifier(tiny("bert", labels=2, **widths), ["bad", "good"], tokenizer_folder)
    return model, [texts(8, 8 + 5 * seed, seed, padded=False) for seed in range(6)]


def inputs(name: str) -> list[dict[str, Tensor]]:
    """Of several shapes."""
    if name in BERT:
        return [texts(*size, seed=50) for size in SIZES]
    kind = small.Convolutions if name == "convolutions" else small.Shared
    return [small.batches(kind, 1, items, seed=50)[0] for items in (1, 3, 17)]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Quantized:
    """A calibrated model and its file, each made once."""
    made: dict[str, tuple[Any, Path]] = {}

    def get(name: str) -> tuple[Any, Path]:
        if name not in made:
            model, batches = network(name, tokenizer_folder)
            transform = Quantize(samples=48, **OPTIONS[name])
            transform.finalize(transform.prepare(model, Context(model.example(), lambda samples, draw: batches, list)))
            made[name] = model, export(model, tmp_path_factory.mktemp("int8"))["main"]
        return made[name]

    return get


def session(proto: onnx.ModelProto, *, optimize: bool = True) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def answer(session: onnxruntime.InferenceSession, batch: dict[str, Tensor]) -> Any:
    names = [value.name for value in session.get_inputs()]
    return session.run(None, {name: batch[name].numpy() for name in names})[0]


@torch.no_grad()
def torch_answer(model: Any, batch: dict[str, Tensor], mode: str = "int8") -> Any:
    set_mode(model.eval(), mode)
    try:
        return model(batch).logits.numpy()
    finally:
        set_mode(model, "int8")


@pytest.mark.parametrize("name", ["static", "attention", "convolutions", "shared"])
@pytest.mark.parametrize("optimize", [True, False], ids=["optimized", "as written"])
def test_onnxruntime_computes_what_torch_computes(name: str, optimize: bool, quantized: Quantized) -> None:
    """At every shape, to a few values near a tie that fall on the other side: 5 % of the logits' spread at most."""
    model, path = quantized(name)
    opened = session(onnx.load(path), optimize=optimize)
    batches = inputs(name)
    found = np.concatenate([answer(opened, batch) for batch in batches])
    ours = np.concatenate([torch_answer(model, batch) for batch in batches])
    plain = np.concatenate([torch_answer(model, batch, "float") for batch in batches])
    difference = np.abs(found - ours)
    assert difference.max() < 0.05 * ours.std()
    assert np.median(difference) < 0.1 * np.median(np.abs(found - plain))  # INT8 it is, and the same INT8
    assert (found.argmax(1) == ours.argmax(1)).mean() >= 0.95


def test_dynamic_int8_in_onnxruntime_is_that_of_torch(quantized: Quantized) -> None:
    """Compared with the tower, since ranges at run time depend on the tokens that a layer sees. Scales that differ in
    their last bit bring more values over a tie than fixed ones do.
    """
    model, path = quantized("dynamic")
    proto = onnx.load(path)
    lower(proto, dynamic=True, x86=True)
    opened, tower = session(proto), model.towers()[0].module
    found, ours, plain = [], [], []
    for batch in inputs("dynamic"):
        found.append(answer(opened, batch))
        with torch.no_grad():
            ours.append(tower(*batch.values()).numpy())
        plain.append(torch_answer(model, batch, "float"))
    together, expected, floats = (np.concatenate(parts) for parts in (found, ours, plain))
    assert np.abs(together - expected).max() < 0.05 * expected.std()
    assert np.median(np.abs(together - expected)) < 0.3 * np.median(np.abs(together - floats))


@pytest.mark.parametrize("name", OPTIONS)
def test_the_graph_keeps_the_contract(name: str, quantized: Quantized) -> None:
    _, path = quantized(name)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert check_portable(proto) == []
    assert {node.domain for node in proto.graph.node} == {""}
    assert not {"Reciprocal", "Div", "Round", "Clip", "Abs"} & {node.op_type for node in proto.graph.node}
    assert TensorProto.INT32 not in {tensor.data_type for tensor in proto.graph.initializer}
    dims = {value.name: [d.dim_param for d in value.type.tensor_type.shape.dim] for value in proto.graph.input}
    expected = ["batch", "sequence"] if name in BERT else ["batch"]
    assert all([d for d in found if d] == expected for found in dims.values())


@pytest.mark.parametrize("name", OPTIONS)
def test_weights_are_integers_and_no_float_copy_is_left(name: str, quantized: Quantized) -> None:
    model, path = quantized(name)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    heads = [array for array in stored.values() if array.dtype == np.float32 and array.ndim >= 2]
    head = model.network.classifier if name in BERT else model.network.head
    assert [sorted(array.shape) for array in heads] == [sorted(head.weight.shape)]
    for key, twin in twins_of(model).items():
        weight = twin.full_weight().detach().numpy()
        axis, q = twin.channels, stored[f"{key}.integers"]
        assert q.dtype == np.int8
        expected = rounded(weight, axis)
        scale = np.abs(weight).max(tuple(a for a in range(weight.ndim) if a != axis), keepdims=True) / 127
        found = (q.T if isinstance(twin, torch.nn.Linear) else q) * scale
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def readers(proto: onnx.ModelProto, name: str) -> list[NodeProto]:
    return [node for node in proto.graph.node if name in node.input]


@pytest.mark.parametrize("name", ["static", "attention", "convolutions", "shared"])
def test_one_pair_for_each_input_however_many_read_it(name: str, quantized: Quantized) -> None:
    model, path = quantized(name)
    proto = onnx.load(path)
    counts = Counter(node.op_type for node in proto.graph.node)
    extra = name in BERT  # the last layer's queries read the first token alone
    assert counts["QuantizeLinear"] == len(quantizers_of(model)) + extra
    assert counts["DequantizeLinear"] == counts["QuantizeLinear"] + len(twins_of(model))
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    shared = 0
    for node in (node for node in proto.graph.node if node.op_type == "QuantizeLinear"):
        (pair,) = readers(proto, node.output[0])
        assert pair.op_type == "DequantizeLinear"
        assert list(pair.input[1:]) == list(node.input[1:])
        assert scales[node.input[1]].shape == ()
        shared += len(readers(proto, pair.output[0])) > 1
    assert shared == {"static": 2, "attention": 2, "convolutions": 0, "shared": 1}[name]


@pytest.mark.parametrize("name", BERT)
def test_rows_are_gathered_before_they_become_floats(name: str, quantized: Quantized) -> None:
    _, path = quantized(name)
    proto = onnx.load(path)
    tables = {t.name: t for t in proto.graph.initializer if "embeddings" in t.name and t.name.endswith(".integers")}
    assert len(tables) == 3
    for table in tables:
        (gather,) = readers(proto, table)
        (real,) = readers(proto, gather.output[0])
        assert (gather.op_type, real.op_type) == ("Gather", "DequantizeLinear")
        assert [attribute.i for attribute in real.attribute if attribute.name == "axis"] == [-1]


def test_both_operands_of_attention_come_from_pairs(quantized: Quantized) -> None:
    """Directly: nothing lies between a pair and the product that reads it."""
    proto = onnx.load(quantized("attention")[1])
    made = {output: node for node in proto.graph.node for output in node.output}

    def quantizes(name: str) -> bool:
        pair = made.get(name)
        if pair is None or pair.op_type != "DequantizeLinear" or pair.input[0] not in made:
            return False
        return made[pair.input[0]].op_type == "QuantizeLinear"

    products = [node for node in proto.graph.node if node.op_type == "MatMul"]
    assert sum(all(quantizes(name) for name in node.input) for node in products) == 2 * 2
    assert sum(quantizes(node.input[0]) for node in products) == len(products)


def test_activations_of_a_dynamic_graph_are_left_to_the_runtime(quantized: Quantized) -> None:
    model, path = quantized("dynamic")
    proto = onnx.load(path)
    counts = Counter(node.op_type for node in proto.graph.node)
    assert (counts["QuantizeLinear"], counts["DequantizeLinear"]) == (0, len(twins_of(model)))
    record = json.loads(next(p.value for p in proto.metadata_props if p.key == "modelpress.numerics"))
    assert (record["kind"], record["activations"]) == ("int8", "dynamic")
    assert record["float_layers"] == ["network.classifier"]


@pytest.mark.parametrize("name", BERT)
def test_the_weights_take_a_quarter_of_their_space(name: str, quantized: Quantized) -> None:
    """The 27 % of the whole file hold where names and nodes weigh little; here they are a third of it."""
    model, path = quantized(name)
    stored = sum(tensor.ByteSize() for tensor in onnx.load(path).graph.initializer)
    assert stored < 0.27 * sum(4 * p.numel() for p in model.parameters()) + 6000
    assert path.stat().st_size < 0.45 * sum(4 * p.numel() for p in model.parameters())


def test_an_export_quantizes_once_and_leaves_the_model_as_it_was(
    quantized: Quantized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, first = quantized("shared")
    runs: list[int] = []
    original = InputQuantizer.quantized

    def counted(self: InputQuantizer, x: Tensor) -> Tensor:
        runs.append(self.readers)
        return original(self, x)

    batch = inputs("shared")[1]
    before = torch_answer(model, batch)
    monkeypatch.setattr(InputQuantizer, "quantized", counted)
    again = export(model.train(), tmp_path)["main"]
    assert sorted(runs) == [1, 3]
    assert model.training
    assert again.read_bytes() == first.read_bytes()
    monkeypatch.undo()
    assert np.array_equal(torch_answer(model, batch), before)

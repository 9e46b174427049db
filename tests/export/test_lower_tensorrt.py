"""The spelling for TensorRT: the same numbers, and no INT8 constant but before a DequantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from modelpress.export.lower import lower
from modelpress.export.quantized import check_quantized
from tests.export.qdq_graphs import Graph, encoder, shared
from tests.export.running import run

IDS = {"input_ids": np.random.default_rng(3).integers(0, 50, (3, 7))}


@pytest.mark.parametrize("activations", ["static", "dynamic"])
def test_tables_are_dequantized_before_rows_are_taken(activations: str) -> None:
    model = encoder(0, activations)
    lowered = lower(model, "tensorrt")
    onnx.checker.check_model(lowered, full_check=True)
    assert check_quantized(lowered, "tensorrt") == []
    integers = {tensor.name for tensor in lowered.graph.initializer if tensor.data_type == TensorProto.INT8}
    readers = {node.op_type for node in lowered.graph.node if node.input[0] in integers}
    assert readers == {"DequantizeLinear"}
    assert {node.op_type for node in model.graph.node if node.input[0] in integers} == {"DequantizeLinear", "Gather"}
    assert np.array_equal(run(lowered, IDS, plain=True)[0], run(model, IDS, plain=True)[0])


def test_it_is_pure_and_finished_after_one_pass() -> None:
    model = encoder()
    before = model.SerializeToString()
    lowered = lower(model, "tensorrt")
    assert model.SerializeToString() == before
    assert lower(lowered, "tensorrt") == lowered


def test_graphs_without_tables_and_foreign_files_stay() -> None:
    ours = shared().model({"x": ["batch", "sequence", 24]}, ["q", "k", "v"])
    foreign = encoder()
    del foreign.metadata_props[:]
    for model in (ours, foreign):
        assert lower(model, "tensorrt") == model


def test_rows_that_something_else_reads_too_stay() -> None:
    graph = Graph()
    graph.embedding("input_ids", "rows", 50, 8)
    graph.add("Cast", ["rows_taken"], "others", to=TensorProto.FLOAT)
    model = graph.model({"input_ids": ["batch", "sequence"]}, ["rows", "others"])
    assert lower(model, "tensorrt") == model

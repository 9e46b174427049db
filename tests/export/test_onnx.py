from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from modelpress.engines.openvino_core import core
from modelpress.export.check import inspect, parity, probe_batches
from modelpress.export.onnx import dynamic_shapes, save_atomic

Exported = Callable[..., tuple[Any, Path]]
SIZES = [(1, 2), (1, 40), (4, 7), (3, 33)]


@pytest.mark.parametrize(
    ("model_type", "cls_only"),
    [("bert", True), ("bert", False), ("distilbert", True), ("roberta", True), ("albert", True)],
)
def test_answers_like_the_network_at_every_size(model_type: str, cls_only: bool, exported: Exported) -> None:
    model, path = exported(model_type, cls_only)
    assert parity(model, path, probe_batches(model.towers()[0], SIZES)) < 1e-5


def test_openvino_reads_it_too(exported: Exported) -> None:
    model, path = exported()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core().compile_model(str(path), "CPU", settings)
    model.eval()
    for batch in probe_batches(model.towers()[0], SIZES):
        found = compiled({name: tensor.numpy() for name, tensor in batch.items()})["logits"]
        with torch.no_grad():
            np.testing.assert_allclose(found, model(batch).logits.numpy(), atol=1e-4)


def test_the_graph_holds_no_detours(exported: Exported) -> None:
    """Per layer: six products of the network and two of attention; no mask is expanded, no NaN looked for."""
    _, path = exported("bert")
    ops = inspect(path)["ops"]
    assert ops["MatMul"] == 2 * 8
    assert ops["Gemm"] == 2
    assert ops["Softmax"] == ops["Gelu"] == 2
    assert not {"Expand", "Where", "IsNaN", "GatherND", "Range"} & set(ops)


def test_the_file_says_what_it_is(exported: Exported) -> None:
    _, path = exported()
    proto = onnx.load(path)
    facts = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert facts["modelpress.labels"] == ["bad", "good"]
    assert facts["modelpress.opset"] == 20
    assert facts["modelpress.longest"] == 40  # rows of its position table
    assert facts["modelpress.ir_version"] == proto.ir_version
    assert not proto.graph.value_info
    assert path.name == "model.onnx"
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(proto, full_check=True)


def test_the_model_stays_in_its_mode(exported: Exported) -> None:
    model, _ = exported("electra")
    assert model.training
    assert model.network.config._attn_implementation == "sdpa"


def test_axes_of_one_name_are_one_dimension(exported: Exported) -> None:
    model, _ = exported()
    shapes = dynamic_shapes(model.towers()[0])
    assert len(shapes) == 3
    assert all(shape == shapes[0] for shape in shapes)
    assert shapes[0][1].max == 40


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    class Broken:
        def SerializeToString(self) -> bytes:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_atomic(Broken(), tmp_path / "model.onnx")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []

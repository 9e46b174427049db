from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from modelpress.export.check import inspect, macs_g, parity, probe_batches

Exported = Callable[..., tuple[Any, Path]]


def bert_macs(layers: int, d: int, f: int, s: int, labels: int, cls_only: bool) -> int:
    """By hand: projections 4·d², feed-forward 2·d·f, scores and sums 2·s·d for each token; pooler and head once."""
    whole = layers - 1 if cls_only else layers
    macs = whole * s * (4 * d * d + 2 * d * f + 2 * s * d) + d * d + d * labels
    if cls_only:  # keys and values for all tokens, the rest for one
        macs += s * 2 * d * d + 2 * d * d + 2 * d * f + 2 * s * d
    return macs


@pytest.mark.parametrize("cls_only", [True, False])
@pytest.mark.parametrize("length", [128 // 4, 7])
def test_macs_equal_the_formula(cls_only: bool, length: int, exported: Exported) -> None:
    _, path = exported("bert", cls_only)
    expected = bert_macs(2, 24, 48, length, 2, cls_only)
    assert macs_g(path, {"batch": 1, "sequence": length}) == pytest.approx(expected / 1e9, rel=1e-9)
    assert macs_g(path, {"batch": 3, "sequence": length}) == pytest.approx(3 * expected / 1e9, rel=1e-9)


def test_macs_equal_pytorchs_own_count(exported: Exported) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model, path = exported("distilbert")
    (batch,) = probe_batches(model.towers()[0], [(2, 20)])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.towers()[0].module(*(batch[name] for name in model.inputs))
    assert macs_g(path, {"batch": 2, "sequence": 20}) == pytest.approx(counter.get_total_flops() / 2e9, rel=1e-9)


def test_macs_of_a_grouped_convolution(tmp_path: Path) -> None:
    """8 channels of 5x5 out of 4 in 2 groups with a 3x3 kernel: 8 · 25 · 2 · 9."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], group=2)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 7, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, 5, 5])],
        [numpy_helper.from_array(np.ones((8, 2, 3, 3), np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "c.onnx")
    assert macs_g(tmp_path / "c.onnx") == pytest.approx(8 * 25 * 2 * 9 / 1e9)


def test_inspect_counts_what_lies_in_the_file(exported: Exported) -> None:
    model, path = exported("bert")
    facts = inspect(path)
    parameters = sum(p.numel() for p in model.parameters())
    assert facts["params_m"] == pytest.approx(parameters / 1e6, rel=0.02)
    assert facts["size_mb"] == path.stat().st_size / 1e6
    assert facts["inputs"] == {name: ["batch", "sequence"] for name in model.inputs}
    assert facts["outputs"] == {"logits": ["batch", 2]}
    assert facts["dynamic_axes"] == ["batch", "sequence"]
    assert facts["sparsity"] == pytest.approx(0, abs=0.01)


def test_inspect_measures_zeros_of_matrices_only(tmp_path: Path) -> None:
    weight = np.ones((4, 5), np.float32)
    weight[:2] = 0
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.zeros(5, np.float32), "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "z.onnx")
    facts = inspect(tmp_path / "z.onnx")
    assert facts["sparsity"] == 0.5
    assert facts["params_m"] == 25 / 1e6
    assert facts["ops"] == {"MatMul": 1, "Add": 1}


def test_parity_sees_a_changed_weight(exported: Exported, tmp_path: Path) -> None:
    model, path = exported("bert")
    proto = onnx.load(path)
    head = next(tensor for tensor in proto.graph.initializer if tensor.name.endswith("classifier.bias"))
    head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head) + 0.5, head.name))
    onnx.save(proto, tmp_path / "changed.onnx")
    assert parity(model, tmp_path / "changed.onnx", probe_batches(model.towers()[0])) == pytest.approx(0.5, abs=1e-4)
    with pytest.raises(ValueError, match="at least one batch"):
        parity(model, path, [])


def test_probe_batches_have_their_sizes_and_padding(exported: Exported) -> None:
    model, _ = exported("bert")
    batches = probe_batches(model.towers()[0], [(1, 2), (3, 30)])
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(1, 2), (3, 30)]
    assert batches[1]["attention_mask"].sum(1).tolist() == [30, 30, 15]


def test_inspecting_needs_no_torch(exported: Exported) -> None:
    _, path = exported("bert")
    code = (
        "import sys; from modelpress.export.check import inspect, macs_g; "
        f"inspect({str(path)!r}); macs_g({str(path)!r}, {{'sequence': 4}}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from modelpress.engines import openvino_core
from modelpress.engines.base import Artifact, Hardware, Plan, Session, Unsupported
from modelpress.engines.openvino import OpenVino
from modelpress.errors import ModelPressError
from tests.engines import graphs

ONE = Hardware(threads=1)


@pytest.fixture(scope="module")
def plans(float_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Plan]:
    folder = tmp_path_factory.mktemp("openvino")
    return {plan.precision: plan for plan in OpenVino().build(Artifact(float_graph), ONE, folder)}


def opened(plan: Plan) -> Session:
    return OpenVino.open(Plan.from_json(plan.to_json()))


def test_one_file_serves_both_precisions(plans: dict[str, Plan]) -> None:
    assert list(plans) == ["fp32", "bf16"]
    assert plans["fp32"].file == plans["bf16"].file
    assert Path(plans["fp32"].file).with_suffix(".bin").is_file()


def test_fp32_equals_numpy_at_changing_shapes(plans: dict[str, Plan]) -> None:
    session = opened(plans["fp32"])
    for items, length in ((1, 5), (4, 9), (2, 3)):
        inputs = graphs.batch(items, length, seed=length)
        logits = session.run({**inputs, "token_type_ids": inputs["input_ids"]})["logits"]
        expected = graphs.reference(inputs["input_ids"], inputs["attention_mask"])
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert session.precision == "fp32"
    assert session.details()["threads"] == 1
    assert session.details()["precision_hint"] == "f32"


def test_outputs_survive_the_next_run_and_inputs_are_converted(plans: dict[str, Plan]) -> None:
    session = opened(plans["fp32"])
    first, second = graphs.batch(2, 6, seed=1), graphs.batch(2, 6, seed=2)
    kept = session.run({name: array.astype(np.int32)[::-1][::-1] for name, array in first.items()})["logits"]
    session.run(second)
    expected = graphs.reference(first["input_ids"], first["attention_mask"])
    np.testing.assert_allclose(kept, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif("BF16" not in openvino_core.capabilities(), reason="OpenVINO offers no bf16 on this processor")
def test_bf16_is_read_back_per_layer(plans: dict[str, Plan]) -> None:
    session = opened(plans["bf16"])
    inputs = graphs.batch(4, 9)
    expected = graphs.reference(inputs["input_ids"], inputs["attention_mask"])
    assert session.precision == "bf16"
    assert session.details()["working_layers"] == {"bf16": 2}
    assert 0 < session.details()["float_layer_share"]["bf16"] <= 1
    difference = np.abs(session.run(inputs)["logits"] - expected).max()
    assert 1e-6 < difference < 0.02


def test_without_bf16_instructions(float_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_core, "capabilities", lambda: ["FP32", "INT8"])
    with pytest.raises(Unsupported, match="no bf16 instructions"):
        OpenVino(["bf16"]).build(Artifact(float_graph), ONE, tmp_path)
    fp32, bf16 = OpenVino().build(Artifact(float_graph), ONE, tmp_path)
    assert opened(fp32).precision == "fp32"
    with pytest.raises(Unsupported, match="it offers FP32, INT8"):
        opened(bf16)


def test_a_quantized_graph_is_one_int8_plan(int8_graph: Path, tmp_path: Path) -> None:
    [plan] = OpenVino().build(Artifact(int8_graph), ONE, tmp_path)
    session = opened(plan)
    inputs = graphs.batch(4, 9)
    logits = session.run(inputs)["logits"]
    assert plan.precision == "int8"
    assert session.details()["working_layers"]["int8"] >= 1
    assert session.precision == "int8"
    np.testing.assert_allclose(logits, graphs.reference(inputs["input_ids"], inputs["attention_mask"]), atol=0.1)


def test_sparse_weights_are_honest(int8_graph: Path, tmp_path: Path) -> None:
    [plan] = OpenVino(sparse_weights=0.8).build(Artifact(int8_graph), ONE, tmp_path)
    session = opened(plan)
    found = session.details()["sparse_weights"]
    assert session.compiled.get_property("CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE") == pytest.approx(0.8)  # type: ignore[attr-defined]
    assert (found["asked"], found["layers"]) == (0.8, 0)  # its weights are dense
    assert "80 % or more are zero" in found["why"]
    [plain] = OpenVino().build(Artifact(int8_graph), ONE, tmp_path)
    assert "sparse_weights" not in opened(plain).details()
    with pytest.raises(ModelPressError, match=r"sparse_weights is 1\.5; allowed"):
        OpenVino(sparse_weights=1.5)


def test_a_missing_input_is_named(plans: dict[str, Plan]) -> None:
    with pytest.raises(KeyError, match="'attention_mask' is missing; given: input_ids"):
        opened(plans["fp32"]).run({"input_ids": np.ones((1, 4), np.int64)})


def test_cache_lies_beside_the_plan(float_graph: Path, tmp_path: Path) -> None:
    [plan] = OpenVino(["fp32"], cache=True).build(Artifact(float_graph), ONE, tmp_path)
    cold = opened(plan).run(graphs.batch(1, 4))["logits"]
    assert list((tmp_path / "cache").glob("*.blob"))
    np.testing.assert_array_equal(opened(plan).run(graphs.batch(1, 4))["logits"], cold)


def test_clear_errors(float_graph: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="Did you mean 'bf16'"):
        OpenVino(["bf61"])
    with pytest.raises(Unsupported, match="hardware.accelerator is 'cuda'"):
        OpenVino().build(Artifact(float_graph), Hardware(accelerator="cuda"), tmp_path)
    model: Any = onnx.load(str(float_graph))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, str(tmp_path / "strange.onnx"))
    with pytest.raises(Unsupported, match=r"cannot read strange\.onnx"):
        OpenVino().build(Artifact(tmp_path / "strange.onnx"), ONE, tmp_path)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from modelpress.engines import onnxruntime as engine
from modelpress.engines.base import Artifact, Hardware, Plan, Unsupported
from modelpress.engines.onnxruntime import OnnxRuntime, saturates
from modelpress.errors import ModelPressError
from tests.engines import graphs

ONE = Hardware(threads=1)


def test_fp32_equals_numpy(float_graph: Path, tmp_path: Path) -> None:
    [plan] = OnnxRuntime().build(Artifact(float_graph), ONE, tmp_path)
    session = OnnxRuntime.open(Plan.from_json(plan.to_json()))
    inputs = graphs.batch(4, 9)
    logits = session.run({**inputs, "token_type_ids": inputs["input_ids"]})["logits"]
    np.testing.assert_allclose(logits, graphs.reference(**_named(inputs)), rtol=1e-4, atol=1e-5)
    assert (plan.precision, session.precision) == ("fp32", "fp32")
    assert session.details()["threads"] == 1
    assert session.details()["providers"] == ["CPUExecutionProvider"]


def test_the_plan_lies_in_the_folder_without_a_second_copy(float_graph: Path, tmp_path: Path) -> None:
    [plan] = OnnxRuntime().build(Artifact(float_graph, tower="text"), ONE, tmp_path)
    assert Path(plan.file) == tmp_path / "text.onnx"
    assert Path(plan.file).samefile(float_graph)
    assert [path.name for path in tmp_path.iterdir()] == ["text.onnx"]


def test_external_weights_travel_along(float_graph: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.onnx"
    model = onnx.load(str(float_graph))
    onnx.save(model, str(split), save_as_external_data=True, location="weights.bin", size_threshold=512)
    [plan] = OnnxRuntime().build(Artifact(split), ONE, tmp_path / "engine")
    inputs = graphs.batch(2, 5)
    logits = OnnxRuntime.open(plan).run(inputs)["logits"]
    np.testing.assert_allclose(logits, graphs.reference(**_named(inputs)), rtol=1e-4, atol=1e-5)


def test_a_quantized_graph_runs_as_int8(int8_graph: Path, tmp_path: Path) -> None:
    [plan] = OnnxRuntime().build(Artifact(int8_graph), ONE, tmp_path)
    session = OnnxRuntime.open(plan)
    inputs = graphs.batch(4, 9)
    logits = session.run(inputs)["logits"]
    assert (plan.precision, session.precision) == ("int8", "int8")
    np.testing.assert_allclose(logits, graphs.reference(**_named(inputs)), atol=0.1)


def test_a_precision_that_the_graph_does_not_have(float_graph: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="graph is fp32"):
        OnnxRuntime(["int8"]).build(Artifact(float_graph), ONE, tmp_path)
    with pytest.raises(ModelPressError, match=r"engine\.onnxruntime\.precisions is 'bf16'"):
        OnnxRuntime(["bf16"])


def test_it_is_the_engine_for_processors(float_graph: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="hardware.accelerator is 'cuda'"):
        OnnxRuntime().build(Artifact(float_graph), Hardware(accelerator="cuda"), tmp_path)


def test_a_graph_that_it_cannot_run(float_graph: Path, tmp_path: Path) -> None:
    model = onnx.load(str(float_graph))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, str(tmp_path / "strange.onnx"))
    with pytest.raises(Unsupported, match=r"cannot open strange\.onnx"):
        OnnxRuntime().build(Artifact(tmp_path / "strange.onnx"), ONE, tmp_path / "engine")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["avx2"], True),
        (["avx2", "avx512f"], True),
        (["avx2", "avx_vnni"], False),
        (["amx_int8", "avx2"], False),
        (["asimd", "i8mm"], False),
        ([], False),
    ],
)
def test_kernels_overflow_without_vnni_only(flags: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "machine", lambda: {"flags": flags})
    assert saturates() is expected


def test_both_kinds_of_kernels_give_the_same_numbers(
    int8_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    for name, flags in (("old", ["avx2"]), ("new", ["avx2", "avx_vnni"])):
        monkeypatch.setattr(engine, "machine", lambda flags=flags: {"flags": flags})
        [plan] = OnnxRuntime().build(Artifact(int8_graph), ONE, tmp_path / name)
        assert plan.settings["u8_weights"] is (name == "old")
        answers.append(OnnxRuntime.open(plan).run(graphs.batch(4, 9))["logits"])
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-2 if saturates() else 1e-6, atol=1e-6)


def _named(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"ids": inputs["input_ids"], "mask": inputs["attention_mask"]}

"""Quantized files through both engines: ours are checked and lowered, foreign ones run as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime import quantization

from modelpress.engines.base import Artifact, Engine, Hardware, Plan, Unsupported
from modelpress.engines.graph import inspect
from modelpress.engines.onnxruntime import OnnxRuntime
from modelpress.engines.openvino import OpenVino
from modelpress.engines.spelling import spelled
from modelpress.errors import ModelPressError
from tests.engines import graphs
from tests.export.qdq_graphs import Graph, encoder, integer_linear
from tests.export.running import on_x86

ONE = Hardware(threads=1)
ENGINES: list[Engine] = [OnnxRuntime(), OpenVino(["fp32"])]


def saved(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    folder.mkdir(exist_ok=True)
    onnx.save(model, str(folder / name))
    return folder / name


def built(engine: Engine, file: Path, folder: Path) -> tuple[Plan, Any]:
    [plan] = engine.build(Artifact(file), ONE, folder)
    plan = Plan.from_json(plan.to_json())
    return plan, engine.open(plan)


def linear() -> Graph:
    graph = Graph()
    graph.linear(graph.quantized("x", 0.02), "y", 64, 32)
    return graph


# --- our own files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_a_static_product_equals_numpy_integers(engine: Engine, tmp_path: Path) -> None:
    graph = linear()
    file = saved(graph.model({"x": ["batch", "sequence", 64]}, ["y"]), tmp_path)
    plan, session = built(engine, file, tmp_path / "engine")
    x = np.random.default_rng(0).standard_normal((2, 5, 64)).astype(np.float32)
    expected = integer_linear(x, 0.02, graph.constants, "y")
    np.testing.assert_allclose(session.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5)
    assert (plan.precision, session.precision) == ("int8", "int8")
    assert session.details()["int8_matmuls"] == {"int8": 1, "float": 0, "float_names": []}
    assert session.details()["unfused"] == []


@pytest.mark.parametrize("activations", ["static", "dynamic"])
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_a_whole_block_answers_like_the_portable_graph(engine: Engine, activations: str, tmp_path: Path) -> None:
    model = encoder(3, activations)
    _, session = built(engine, saved(model, tmp_path), tmp_path / "engine")
    ids = np.random.default_rng(5).integers(0, 50, (3, 9))
    [exact] = onnx.reference.ReferenceEvaluator(model).run(None, {"input_ids": ids})
    difference = np.abs(session.run({"input_ids": ids})["logits"] - exact).max()
    assert difference <= 0.05 * np.abs(exact).max()


@on_x86
def test_onnxruntime_writes_the_lowered_file_and_openvino_reads_the_portable_one(tmp_path: Path) -> None:
    file = saved(encoder(), tmp_path)
    before = file.read_bytes()
    plan, session = built(OnnxRuntime(), file, tmp_path / "ort")
    lowered = [node.op_type for node in onnx.load(plan.file).graph.node]
    assert lowered.count("MatMulIntegerToFloat") == 7
    assert not Path(plan.file).samefile(file)
    assert [path.name for path in (tmp_path / "ort").iterdir()] == ["main.onnx"]
    assert session.details()["int8_matmuls"]["int8"] == 7
    assert len(session.details()["int8_matmuls"]["float_names"]) == 2
    assert session.details()["unfused"] == []
    plan, _ = built(OpenVino(["fp32"]), file, tmp_path / "ov")
    assert sorted(path.name for path in (tmp_path / "ov").iterdir()) == ["main.bin", "main.xml"]
    assert file.read_bytes() == before


@on_x86
def test_dynamic_products_run_in_int8_in_onnxruntime(tmp_path: Path) -> None:
    file = saved(encoder(0, "dynamic"), tmp_path)
    _, session = built(OnnxRuntime(), file, tmp_path / "ort")
    assert session.precision == "int8"
    assert session.details()["int8_matmuls"]["int8"] == 7
    assert session.details()["operators"]["DynamicQuantizeMatMul"] == 4


def test_openvino_says_that_weights_only_products_are_floats(tmp_path: Path) -> None:
    _, session = built(OpenVino(["fp32"]), saved(encoder(0, "dynamic", 64), tmp_path), tmp_path / "ov")
    details = session.details()
    assert details["int8_matmuls"]["int8"] == 0
    assert details["int8_matmuls"]["float"] >= 7
    assert session.precision == "fp32"
    assert "have inputs that the graph does not quantize" in details["unfused"][0]


def test_openvino_finds_products_inside_fused_attention(tmp_path: Path) -> None:
    _, session = built(OpenVino(["fp32"]), saved(encoder(0, "static", 64), tmp_path), tmp_path / "ov")
    matmuls = session.details()["int8_matmuls"]
    assert (matmuls["int8"], matmuls["float"]) == (7, 2)
    assert sorted(matmuls["float_names"]) == ["context_MatMul", "scores_MatMul"]


def test_a_broken_file_of_ours_stops_with_all_violations(tmp_path: Path) -> None:
    model = linear().model({"x": ["batch", 64]}, ["y"])
    for tensor in model.graph.initializer:
        if tensor.name in ("x_zero", "x_scale"):
            wrong: Any = np.int8(3) if tensor.name == "x_zero" else np.float32(0)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(wrong), tensor.name))
    for engine in ENGINES:
        with pytest.raises(
            ModelPressError, match=r"no portable quantized graph:(.|\n)*scale is 0.0(.|\n)*zero point 3"
        ):
            engine.build(Artifact(saved(model, tmp_path)), ONE, tmp_path / engine.name)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_a_foreign_file_that_the_runtime_refuses_is_unsupported(engine: Engine, tmp_path: Path) -> None:
    model = linear().model({"x": ["batch", 64]}, ["y"], None)
    next(node for node in model.graph.node if node.output[0] == "y_dq").attribute[0].i = 0
    with pytest.raises(Unsupported, match=rf"{engine.name} does not run bad\.onnx:\n  - .*axis 0 has 64 channels"):
        engine.build(Artifact(saved(model, tmp_path, "bad.onnx")), ONE, tmp_path / "engine")


def test_float_files_and_other_devices_are_not_read(float_graph: Path) -> None:
    assert spelled(float_graph, inspect(float_graph), "onnxruntime") is None


@on_x86
def test_what_onnxruntime_leaves_unfused_is_said(tmp_path: Path) -> None:
    """A foreign file with shared S8 activations is not rewritten, so its row explains why it is slow."""
    graph = Graph()
    x = graph.quantized("x", 0.02)
    for name in ("q", "k"):
        graph.linear(x, name, 64, 32)
    model = graph.model({"x": ["batch", "sequence", 64]}, ["q", "k"], None)
    _, session = built(OnnxRuntime(), saved(model, tmp_path), tmp_path / "ort")
    details = session.details()
    assert session.precision == "fp32"
    assert details["int8_matmuls"] == {"int8": 0, "float": 2, "float_names": details["int8_matmuls"]["float_names"]}
    assert sorted(details["int8_matmuls"]["float_names"]) == ["k_product_MatMul", "q_product_MatMul"]
    [sentence] = details["unfused"]
    assert sentence.startswith("DequantizeLinear left before ")
    assert sentence.endswith(": its INT8 weights and inputs are multiplied as FP32")


# --- foreign files ----------------------------------------------------------------------------------------------------


class Requests(quantization.CalibrationDataReader):
    """Three calibration batches."""

    def __init__(self) -> None:
        self.left = iter([graphs.batch(4, 9, seed) for seed in range(3)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.left, None)


def static(activation: quantization.QuantType) -> Callable[[Path, Path], None]:
    def make(source: Path, target: Path) -> None:
        quantization.quantize_static(
            str(source),
            str(target),
            Requests(),
            activation_type=activation,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )

    return make


def dynamic(source: Path, target: Path) -> None:
    quantization.quantize_dynamic(str(source), str(target), weight_type=quantization.QuantType.QInt8, per_channel=True)


FOREIGN = {
    "static S8S8": static(quantization.QuantType.QInt8),
    "static U8S8": static(quantization.QuantType.QUInt8),
    "dynamic": dynamic,
}


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
@pytest.mark.parametrize("kind", FOREIGN)
def test_files_of_onnxruntimes_quantizers_run_as_they_are(
    kind: str, engine: Engine, float_graph: Path, tmp_path: Path
) -> None:
    file = tmp_path / "foreign.onnx"
    FOREIGN[kind](float_graph, file)
    plan, session = built(engine, file, tmp_path / "engine")
    inputs = graphs.batch(4, 9, seed=7)
    exact = graphs.reference(inputs["input_ids"], inputs["attention_mask"])
    np.testing.assert_allclose(session.run(inputs)["logits"], exact, atol=0.05)
    assert plan.precision == "int8"
    assert session.details()["int8_matmuls"]["int8"] + session.details()["int8_matmuls"]["float"] >= 1
    if engine.name == "onnxruntime":
        assert Path(plan.file).samefile(file)
        assert session.precision == "int8"


def test_foreign_files_with_external_weights(float_graph: Path, tmp_path: Path) -> None:
    dynamic(float_graph, tmp_path / "whole.onnx")
    model = onnx.load(str(tmp_path / "whole.onnx"))
    (tmp_path / "split").mkdir()
    split = tmp_path / "split" / "m.onnx"
    onnx.save(model, str(split), save_as_external_data=True, location="weights.bin", size_threshold=64)
    inputs = graphs.batch(4, 9, seed=7)
    for engine in ENGINES:
        _, whole = built(engine, tmp_path / "whole.onnx", tmp_path / "a" / engine.name)
        _, session = built(engine, split, tmp_path / "b" / engine.name)
        np.testing.assert_array_equal(session.run(inputs)["logits"], whole.run(inputs)["logits"])


def test_our_files_with_external_weights_become_one_lowered_file(tmp_path: Path) -> None:
    model = encoder()
    whole = saved(model, tmp_path, "whole.onnx")
    (tmp_path / "split").mkdir()
    split = tmp_path / "split" / "m.onnx"
    onnx.save(model, str(split), save_as_external_data=True, location="weights.bin", size_threshold=0)
    _, one = built(OnnxRuntime(), whole, tmp_path / "a")
    plan, other = built(OnnxRuntime(), split, tmp_path / "b")
    ids = {"input_ids": np.arange(8).reshape(1, 8)}
    np.testing.assert_array_equal(other.run(ids)["logits"], one.run(ids)["logits"])
    assert json.loads(plan.to_json())["precision"] == "int8"

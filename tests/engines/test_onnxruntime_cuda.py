"""ONNX Runtime on a GPU: the bound session runs here on the CPU provider, only the device is another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from modelpress.engines import onnxruntime_cuda as engine
from modelpress.engines.base import Artifact, Hardware, Plan, Unsupported
from modelpress.engines.driver import Device, Driver
from modelpress.engines.graph import Graph, GraphInput, inspect
from modelpress.engines.onnxruntime import CPU
from modelpress.engines.onnxruntime_cuda import (
    ASSIGNMENT,
    CUDA,
    TENSORRT,
    DeviceSession,
    OnnxRuntimeCuda,
    OnnxRuntimeTensorRt,
    assigned,
    executed,
    profile,
    refuse_precision,
    require,
)
from modelpress.errors import ModelPressError
from tests.engines import graphs

GPU = Hardware(name="cuda", accelerator="cuda", threads=1)
H100 = Driver((Device(0, "NVIDIA H100", (9, 0), 81559, "0000:18:00.0"),))
T4 = Driver((Device(0, "Tesla T4", (7, 5), 15360, "0000:00:04.0"),))


def on_cpu(file: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(ASSIGNMENT, "1")
    return onnxruntime.InferenceSession(str(file), options, providers=[CPU])


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver and an onnxruntime-gpu, as far as building asks for them."""
    monkeypatch.setattr(engine, "probe", lambda: H100)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])


def test_bound_inputs_and_outputs_give_the_same_numbers(float_graph: Path) -> None:
    session = DeviceSession(on_cpu(float_graph), Plan("x", "x", "fp32", str(float_graph)), CPU, device="cpu")
    for size, length in ((3, 7), (1, 4)):
        inputs = graphs.batch(size, length)
        logits = session.run({**inputs, "token_type_ids": inputs["input_ids"]})["logits"]
        expected = graphs.reference(inputs["input_ids"], inputs["attention_mask"])
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    parts = session.device_ms()
    assert list(parts) == ["h2d", "compute", "d2h"]
    assert all(value > 0 for value in parts.values())
    assert session.details()["nodes"] == {CPU: 7}


def test_nodes_are_read_back(float_graph: Path) -> None:
    [(name, operators)] = assigned(on_cpu(float_graph)).items()
    assert (name, operators["MatMul"], operators.total()) == (CPU, 2, 7)


def test_products_between_q_and_dq_are_no_int8(int8_graph: Path) -> None:
    operators = assigned(on_cpu(int8_graph))[CPU]
    assert operators["DequantizeLinear"] > 0
    assert executed("int8", operators) == "fp32"
    assert executed("int8", {"QLinearMatMul": 4, "MatMul": 1}) == "int8"
    assert executed("tf32", operators) == "tf32"


def test_a_silent_fallback_is_an_error() -> None:
    with pytest.raises(Unsupported, match=f"asked for {CUDA}, but ONNX Runtime silently fell back to {CPU}"):
        require(CUDA, [CPU], {CPU: 7})
    with pytest.raises(Unsupported, match=f"{CUDA} runs less than half of the nodes.*{CPU} 5"):
        require(CUDA, [CUDA, CPU], {CUDA: 4, CPU: 5})
    require(CUDA, [CUDA, CPU], {CUDA: 40, CPU: 5})


def test_opening_without_the_library_is_that_error(
    float_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel for CPUs has no CUDA provider; that for GPUs drops one that cannot start. Both end here."""
    monkeypatch.setattr(engine, "probe", lambda: H100)
    plan = Plan("onnxruntime_cuda", "x", "fp32", str(float_graph), {"threads": 1, "options": {"device_id": "0"}})
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(Unsupported, match="silently fell"):
        OnnxRuntimeCuda.open(plan)


@pytest.mark.usefixtures("pretended")
def test_a_float_graph_has_a_row_per_precision(float_graph: Path, int8_graph: Path, tmp_path: Path) -> None:
    plans = OnnxRuntimeCuda(["fp32", "tf32"]).build(Artifact(float_graph), GPU, tmp_path / "float")
    assert [(plan.precision, plan.settings["options"]["use_tf32"]) for plan in plans] == [("fp32", "0"), ("tf32", "1")]
    assert {Path(plan.file) for plan in plans} == {tmp_path / "float" / "main.onnx"}
    [plan] = OnnxRuntimeCuda(["fp32", "tf32"]).build(Artifact(int8_graph), GPU, tmp_path / "int8")
    assert plan.precision == "int8"
    assert onnx.load(plan.file) == onnx.load(str(int8_graph))  # symmetric, as it was exported: nothing is lowered


@pytest.mark.usefixtures("pretended")
def test_tensorrt_gets_one_profile_and_the_kernels_of_the_graph(int8_graph: Path, tmp_path: Path) -> None:
    one = OnnxRuntimeTensorRt(batch=[1, 2, 8], sequence=[4, 16, 64])
    [plan] = one.build(Artifact(int8_graph), GPU, tmp_path)
    options = plan.settings["options"]
    assert options["trt_profile_min_shapes"] == "input_ids:1x4,attention_mask:1x4"
    assert options["trt_profile_opt_shapes"] == "input_ids:2x16,attention_mask:2x16"
    assert options["trt_profile_max_shapes"] == "input_ids:8x64,attention_mask:8x64"
    assert options["trt_int8_enable"] == "1"
    assert "trt_fp16_enable" not in options
    assert Path(options["trt_engine_cache_path"]).parent == tmp_path


def test_fixed_inputs_need_no_profile() -> None:
    image = GraphInput("pixel_values", "float32", ("batch", 3, 32, 32))
    fixed = GraphInput("scale", "float32", (1,))
    assert profile(Graph((image, fixed), ("y",), "fp32", {}, ()), 8, 128) == "pixel_values:8x3x32x32"
    assert profile(Graph((fixed,), ("y",), "fp32", {}, ()), 8, 128) == ""


def test_names_of_dynamic_axes_are_those_of_our_exports(float_graph: Path) -> None:
    assert {size for value in inspect(float_graph).inputs for size in value.shape} == {"batch", "sequence"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: OnnxRuntimeCuda(["int8"]), r"engine.onnxruntime_cuda.precisions is 'int8'"),
        (lambda: OnnxRuntimeTensorRt(batch=[4, 2, 8]), r"engine.onnxruntime_tensorrt.batch is \[4, 2, 8\]"),
        (lambda: OnnxRuntimeTensorRt(sequence=[0, 1, 2]), r"sequence is \[0, 1, 2\]; it is \[min, opt, max\]"),
    ],
)
def test_bad_values_are_named(make: Any, words: str) -> None:
    with pytest.raises(ModelPressError, match=words):
        make()


def test_each_thing_that_is_missing_is_named(
    float_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = Artifact(float_graph)
    with pytest.raises(Unsupported, match="hardware.accelerator is 'cpu'"):
        OnnxRuntimeCuda().build(artifact, Hardware(), tmp_path)
    monkeypatch.setattr(engine, "probe", lambda: Driver(reason="no usable NVIDIA driver"))
    with pytest.raises(Unsupported, match="no usable NVIDIA driver"):
        OnnxRuntimeCuda().build(artifact, GPU, tmp_path)
    monkeypatch.setattr(engine, "probe", lambda: T4)
    with pytest.raises(Unsupported, match="no TensorrtExecutionProvider; `make setup-gpu`"):
        OnnxRuntimeTensorRt().build(artifact, GPU, tmp_path)
    with pytest.raises(Unsupported, match="Tesla T4 has no tf32 arithmetic"):
        refuse_precision("tf32")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_answers_of_the_cuda_provider(precision: str, float_graph: Path, tmp_path: Path) -> None:
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is not installed: make setup-gpu")
    [plan] = OnnxRuntimeCuda([precision]).build(Artifact(float_graph), GPU, tmp_path)
    session = OnnxRuntimeCuda.open(plan)
    inputs = graphs.batch(3, 7)
    expected = graphs.reference(inputs["input_ids"], inputs["attention_mask"])
    np.testing.assert_allclose(session.run(inputs)["logits"], expected, atol=1e-5 if precision == "fp32" else 2e-2)
    assert session.precision == precision
    assert session.device_ms()["compute"] > 0

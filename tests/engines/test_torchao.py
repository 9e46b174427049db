from __future__ import annotations

import importlib.util
import os
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from modelpress.benchmark import requests
from modelpress.benchmark.process import WorkerProcess
from modelpress.engines import torch as eager
from modelpress.engines import torchao as engine
from modelpress.engines.base import Artifact, Hardware, Plan, Unsupported
from modelpress.engines.torchao import TorchAo
from modelpress.errors import ModelPressError
from tests.engines import graphs
from tests.engines.linear_network import LinearNetwork

INSTALLED = importlib.util.find_spec("torchao") is not None


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    LinearNetwork().save(tmp_path / "network")
    return Artifact(tmp_path / "no.onnx", tmp_path / "network")


@pytest.fixture
def as_if_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: ModuleSpec(name, None))


def symmetric(values: np.ndarray) -> np.ndarray:
    """What INT8 with one scale per row (amax / 127.5) makes of (n, m) float32 values."""
    scale = np.abs(values).max(axis=1, keepdims=True) / 127.5
    return np.clip(np.round(values / scale), -128, 127) * scale


def expected(ids: np.ndarray, *, quantize: bool) -> np.ndarray:
    network = LinearNetwork()
    arrays = {name: value.detach().numpy() for name, value in network.named_parameters()}
    hidden = arrays["table.weight"][ids].mean(axis=1)
    for name, after in (("hidden", np.tanh), ("head", np.asarray)):
        weight = arrays[f"{name}.weight"]
        left, right = (symmetric(hidden), symmetric(weight)) if quantize else (hidden, weight)
        hidden = after(left @ right.T + arrays[f"{name}.bias"])
    return hidden


def test_without_torchao_the_reason_says_how_to_get_it(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r"torchao is not installed; pip install 'modelpress\[torchao\]'"):
        TorchAo().build(artifact, Hardware(), tmp_path / "engine")


def test_an_import_that_fails_is_a_reason(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engine.os.sys.modules, "torchao.quantization", None)
    plan = Plan("torchao", "", "int8", str(artifact.model), {"threads": 1, "device": "cpu", "compile": False})
    with pytest.raises(Unsupported, match=r"cannot be imported .*modelpress\[torchao\]"):
        TorchAo.open(plan)


@pytest.mark.usefixtures("as_if_installed")
def test_the_plan_is_the_float_network(artifact: Artifact, tmp_path: Path) -> None:
    [plan] = TorchAo().build(artifact, Hardware(threads=2), tmp_path / "engine")
    assert (plan.engine, plan.precision) == ("torchao", "int8")
    assert plan.target == "modelpress.engines.torchao.TorchAo"
    assert plan.settings == {"threads": 2, "device": "cpu", "compile": False}
    assert (Path(plan.file) / "modelpress.json").is_file()


@pytest.mark.usefixtures("as_if_installed")
def test_compile_needs_a_compiler(artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "compiler", lambda: None)
    with pytest.raises(Unsupported, match=r"needs a C\+\+ compiler"):
        TorchAo(compile=True).build(artifact, Hardware(), tmp_path / "engine")
    monkeypatch.setattr(eager, "compiler", lambda: "g++")
    [plan] = TorchAo(compile=True).build(artifact, Hardware(), tmp_path / "engine")
    assert plan.settings["compile"] is True


@pytest.mark.usefixtures("as_if_installed")
def test_clear_errors(artifact: Artifact, tmp_path: Path) -> None:
    assert artifact.model is not None
    with pytest.raises(ModelPressError, match=r"engine\.torchao\.precisions"):
        TorchAo(["int4"])
    with pytest.raises(Unsupported, match="only an ONNX file"):
        TorchAo().build(Artifact(artifact.onnx), Hardware(), tmp_path / "engine")
    (artifact.model / "numerics.json").write_text("{}")
    with pytest.raises(Unsupported, match="numbers of its own already"):
        TorchAo().build(artifact, Hardware(), tmp_path / "engine")


@pytest.mark.skipif(not INSTALLED, reason="torchao is not installed (make peers)")
def test_it_computes_in_int8(artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)  # for tests.engines
    [plan] = TorchAo().build(artifact, Hardware(threads=1), tmp_path / "engine")
    inputs = graphs.batch(4, 7)
    path = requests.write(tmp_path / "requests.npz", inputs)
    worker = WorkerProcess(tmp_path / "log.txt")  # torchao warns when it is imported
    try:
        opened = worker.open(plan, {"data": path}, 120)
        worker.ask("evaluate", 120, path=str(path), batch=4, output=str(tmp_path / "logits.npy"))
    finally:
        worker.kill()
    assert opened["precision"] == "int8"
    assert opened["details"]["working_layers"] == {"int8": 2, "fp32": 0}
    assert opened["details"]["runtime"].startswith("torchao ")
    logits = np.load(tmp_path / "logits.npy")
    quantized, exact = (expected(inputs["input_ids"], quantize=on) for on in (True, False))
    np.testing.assert_allclose(logits, quantized, atol=2e-3)
    assert np.abs(logits - exact).max() > np.abs(logits - quantized).max()

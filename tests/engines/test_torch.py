from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from modelpress.benchmark import requests
from modelpress.benchmark.machine import has_bf16
from modelpress.benchmark.process import WorkerProcess
from modelpress.engines import torch as engine
from modelpress.engines.base import Artifact, Hardware, Unsupported
from modelpress.engines.torch import Torch, TorchCompile, compiler
from modelpress.errors import ModelPressError
from tests.engines import graphs
from tests.engines.tiny_network import TinyNetwork, expected


@pytest.fixture
def artifact(float_graph: Path, tmp_path: Path) -> Artifact:
    TinyNetwork().save(tmp_path / "network")
    return Artifact(float_graph, tmp_path / "network")


@pytest.fixture
def one_thread() -> Hardware:
    return Hardware(threads=torch.get_num_threads())


def test_eager_equals_numpy(artifact: Artifact, one_thread: Hardware, tmp_path: Path) -> None:
    [plan] = Torch().build(artifact, one_thread, tmp_path / "engine")
    session = Torch.open(plan)
    inputs = graphs.batch(3, 7)
    np.testing.assert_allclose(session.run(inputs)["logits"], expected(inputs), rtol=1e-4, atol=1e-5)
    assert session.precision == "fp32"
    assert session.details()["threads"] == one_thread.threads
    assert Path(plan.file).is_relative_to(tmp_path / "engine")


def test_bf16_or_the_reason(
    artifact: Artifact, one_thread: Hardware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [plan] = Torch(["bf16"]).build(artifact, one_thread, tmp_path / "engine")
    if has_bf16():
        logits = Torch.open(plan).run(graphs.batch(3, 7))["logits"]
        assert Torch.open(plan).precision == "bf16"
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected(graphs.batch(3, 7)), atol=0.1)
    monkeypatch.setattr(engine, "has_bf16", lambda: False)
    with pytest.raises(Unsupported, match="no bf16 instructions"):
        Torch.open(plan)


def test_clear_errors(float_graph: Path, one_thread: Hardware, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="only an ONNX file"):
        Torch().build(Artifact(float_graph), one_thread, tmp_path)
    with pytest.raises(ModelPressError, match=r"modelpress\.json is missing"):
        Torch().build(Artifact(float_graph, tmp_path / "nowhere"), one_thread, tmp_path)
    with pytest.raises(ModelPressError, match=r"engine\.torch_compile\.precisions"):
        TorchCompile(["int8"])


def test_compile_needs_a_compiler(
    artifact: Artifact, one_thread: Hardware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(Unsupported, match=r"needs a C\+\+ compiler"):
        TorchCompile().build(artifact, one_thread, tmp_path / "engine")


@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="no C++ compiler on this machine")
def test_compile_in_a_worker(
    artifact: Artifact, one_thread: Hardware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # the worker must find tests.engines.tiny_network
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of compiling processes, each importing torch
    [plan] = TorchCompile().build(artifact, one_thread, tmp_path / "engine")
    path = requests.write(tmp_path / "requests.npz", graphs.batch(3, 7))
    worker = WorkerProcess(tmp_path / "log.txt")
    try:
        assert worker.open(plan, {"data": path}, 240)["precision"] == "fp32"
        worker.ask("evaluate", 240, path=str(path), batch=1, output=str(tmp_path / "logits.npy"))
    finally:
        worker.kill()
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected(graphs.batch(3, 7)), rtol=1e-4, atol=1e-5)
    assert (tmp_path / "engine" / "inductor").is_dir()

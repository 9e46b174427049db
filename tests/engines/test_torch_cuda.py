"""PyTorch on a GPU: what can be said without one, and what only one can say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from modelpress.engines import torch as engine
from modelpress.engines.base import Artifact, Hardware, Unsupported
from modelpress.engines.driver import Driver
from modelpress.engines.torch import Torch, TorchSession, refuse_on_cpu, refuse_on_gpu
from modelpress.engines.torch_cuda import CudaSession, fp32_products, set_fp32_products
from tests.engines import graphs
from tests.engines.tiny_network import TinyNetwork, expected

GPU = Hardware(name="cuda", accelerator="cuda", threads=1)


@pytest.fixture(autouse=True)
def products_as_before() -> Iterator[None]:
    matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matrices.fp32_precision, convolutions.fp32_precision
    yield
    matrices.fp32_precision, convolutions.fp32_precision = before


@pytest.mark.parametrize(("asked", "runs"), [("fp32", "fp32"), ("tf32", "tf32"), ("bf16", "fp32")])
def test_products_are_strict_unless_tf32_is_asked_for(asked: str, runs: str) -> None:
    set_fp32_products(asked)
    assert fp32_products() == runs


def test_products_that_differ_are_no_precision() -> None:
    set_fp32_products("fp32")
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    with pytest.raises(RuntimeError, match="different precisions"):
        fp32_products()


class FakeEvent:
    """A CUDA event that looks at the host's clock."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at_s = 0.0

    def record(self) -> None:
        self.at_s = time.perf_counter()

    def synchronize(self) -> None:
        assert self.at_s > 0

    def elapsed_time(self, end: FakeEvent) -> float:
        return 1e3 * (end.at_s - self.at_s)


class OnCpu(CudaSession):
    """Pinned memory needs a driver."""

    placed = TorchSession.placed


def test_parts_of_a_request_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    set_fp32_products("tf32")
    network = TinyNetwork()

    def slow(batch: dict[str, torch.Tensor]) -> object:
        time.sleep(0.02)
        return network(batch)

    session = OnCpu(slow, network)
    inputs = graphs.batch(3, 7)
    began = time.perf_counter()
    logits = session.run(inputs)["logits"]
    spent_ms = 1e3 * (time.perf_counter() - began)
    assert session.precision == "tf32"
    assert logits.shape == (3, 2)
    parts = session.device_ms()
    assert list(parts) == ["h2d", "compute", "d2h"]
    assert 20 <= parts["compute"] <= sum(parts.values()) <= spent_ms


def test_what_a_processor_cannot_do_is_said() -> None:
    for precision in ("tf32", "fp16"):
        with pytest.raises(Unsupported, match=f"{precision} is for NVIDIA GPUs"):
            refuse_on_cpu(precision)


def test_a_gpu_that_torch_does_not_find_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(engine, "probe", lambda: Driver(reason="no driver"))
    with pytest.raises(Unsupported, match="torch finds no CUDA device: no driver"):
        refuse_on_gpu("fp32")


@pytest.mark.parametrize(("precision", "refused"), [("fp16", False), ("fp32", False), ("bf16", True), ("tf32", True)])
def test_an_older_gpu_lacks_two_precisions(precision: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    if not refused:
        refuse_on_gpu(precision)
        return
    with pytest.raises(Unsupported, match=f"Tesla T4 has no {precision} arithmetic; use fp16"):
        refuse_on_gpu(precision)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "atol"), [("fp32", 1e-5), ("tf32", 2e-2), ("bf16", 0.1), ("fp16", 2e-2)])
def test_answers_on_a_gpu_equal_numpy(precision: str, atol: float, float_graph: Path, tmp_path: Path) -> None:
    TinyNetwork().save(tmp_path / "network")
    [plan] = Torch([precision]).build(Artifact(float_graph, tmp_path / "network"), GPU, tmp_path / "engine")
    session = Torch.open(plan)
    inputs = graphs.batch(3, 7)
    np.testing.assert_allclose(session.run(inputs)["logits"], expected(inputs), atol=atol)
    assert session.precision == precision
    assert all(value >= 0 for value in session.device_ms().values())


@pytest.mark.gpu
def test_strict_products_are_more_exact_than_tf32() -> None:
    left, right = torch.randn(2, 1024, 1024, dtype=torch.float64)
    exact, errors = left @ right, {}
    for precision in ("fp32", "tf32"):
        set_fp32_products(precision)
        answer = (left.float().cuda() @ right.float().cuda()).double().cpu()
        errors[precision] = float((answer - exact).norm() / exact.norm())
    assert errors["fp32"] < 1e-6
    assert 1e-5 < errors["tf32"] < 1e-2

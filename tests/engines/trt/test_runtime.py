"""TensorRT-RTX's kept kernels with a fake of its cache: the real one needs a GPU to compile for."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelpress.engines.driver import Device
from modelpress.engines.trt.runtime import RuntimeCache, cache_path, context_config
from tests.engines.trt.test_session import SIDECAR

RTX = Device(0, "NVIDIA GeForce RTX 4090", (8, 9), 24_000, "0000:01:00.0")
MODULE = SimpleNamespace(CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole"))


class FakeKernels:
    """Takes the kernels of its own driver only, and gets one more for every shape."""

    def __init__(self, driver: bytes) -> None:
        self.driver, self.content = driver, b""

    def deserialize(self, blob: bytes) -> bool:
        taken = blob.startswith(self.driver)
        self.content = blob.removeprefix(self.driver) if taken else b""
        return taken

    def serialize(self) -> memoryview:
        return memoryview(self.driver + self.content)


class FakeConfig:
    cuda_graph_strategy: Any = None

    def __init__(self, driver: bytes = b"580 ", takes: bool = True) -> None:
        self.driver, self.takes = driver, takes
        self.kernels: Any = None

    def create_runtime_cache(self) -> FakeKernels:
        return FakeKernels(self.driver)

    def set_runtime_cache(self, kernels: FakeKernels) -> bool:
        self.kernels = kernels
        return self.takes


def opened(file: Path, compiles: bytes = b"", **config: Any) -> RuntimeCache:
    """An engine is opened, compiles something and is closed."""
    cache, made = RuntimeCache(file), FakeConfig(**config)
    cache.attach(made)
    made.kernels.content += compiles
    cache.save()
    return cache


def test_fake_a_second_opening_gets_the_kernels_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "main.kernels"
    first = opened(file, b"gemm")
    assert (first.state, first.details()) == ("cold", {"state": "cold", "size_mb": 0.0})
    assert file.read_bytes() == b"580 gemm"
    assert opened(file, b"+conv").state == "warm"
    assert file.read_bytes() == b"580 gemm+conv"
    assert list(tmp_path.iterdir()) == [file]


def test_fake_kernels_of_another_driver_are_refused_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "main.kernels"
    opened(file, b"gemm")
    assert opened(file, b"new", driver=b"590 ").state == "refused"
    assert file.read_bytes() == b"590 new"


def test_fake_nothing_new_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / "main.kernels"
    opened(file, b"gemm")
    before = file.stat().st_ino
    opened(file)
    assert file.stat().st_ino == before


def test_fake_a_disk_that_cannot_be_written_is_only_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "main.kernels"
    file.mkdir()
    cache = RuntimeCache(file / "inside" / "main.kernels")
    cache.attach(FakeConfig())
    with caplog.at_level(logging.WARNING):
        cache.save()
    assert "Compiled kernels are not kept in" in caplog.text


def test_fake_a_configuration_that_takes_no_cache_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="runtime_cache=false"):
        opened(tmp_path / "main.kernels", takes=False)


def test_the_key_is_of_version_gpu_and_engine() -> None:
    engine = Path("store") / "main_int8.engine"
    here = cache_path(engine, SIDECAR, RTX)
    assert here.parent == engine.parent
    assert here.name.startswith("main_int8.")
    assert here.suffix == ".kernels"
    assert here == cache_path(engine, replace(SIDECAR, build_seconds=2.0), replace(RTX, memory_mb=1))
    others = [
        cache_path(engine, replace(SIDECAR, version="1.8"), RTX),
        cache_path(engine, replace(SIDECAR, engine_sha256="1"), RTX),
        cache_path(engine, SIDECAR, replace(RTX, name="NVIDIA GeForce RTX 5090", compute_capability=(12, 0))),
    ]
    assert len({here, *others}) == 4


def test_fake_contexts_have_a_configuration_only_where_they_need_one(tmp_path: Path) -> None:
    engine = SimpleNamespace(create_runtime_config=FakeConfig)
    assert context_config(MODULE, engine, None, graphs=False) is None
    assert context_config(SimpleNamespace(), engine, None, graphs=True) is None  # TensorRT: PyTorch captures
    assert context_config(MODULE, engine, None, graphs=True).cuda_graph_strategy == "whole"
    cache = RuntimeCache(tmp_path / "main.kernels")
    config = context_config(MODULE, engine, cache, graphs=False)
    assert config.cuda_graph_strategy is None
    assert config.kernels is cache.compiled

"""Loading, and every way in which TensorRT can be missing. Fakes stand for the modules that are not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelpress.engines import driver
from modelpress.engines.base import Unsupported
from modelpress.engines.trt import load as loading
from modelpress.engines.trt.load import Capabilities, builder, capabilities, gpu, load, logger
from modelpress.errors import ModelPressError

REASON = "no usable NVIDIA driver (libcuda.so.1); install one"


def test_rtx_is_told_by_its_attributes() -> None:
    trt, able = load("tensorrt_rtx")
    assert able == Capabilities(
        builds_without_gpu=True, strong_typing_flag=True, calibrators=False, own_graphs=True, runtime_cache=True
    )
    assert builder(trt, able) is not None


def test_a_fake_of_version_10_has_what_its_attributes_say() -> None:
    ten = SimpleNamespace(
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1), IInt8EntropyCalibrator2=object
    )
    assert capabilities(ten) == Capabilities(
        builds_without_gpu=False, strong_typing_flag=True, calibrators=True, own_graphs=False, runtime_cache=False
    )


def test_a_package_that_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(Unsupported, match=r"tensorrt_rtx is not installed .*pip install 'modelpress\[tensorrt-rtx\]'"):
        load("tensorrt_rtx")


def test_bindings_without_libraries_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text(
        "raise ImportError('libnvinfer.so.11: cannot open shared object file: No such file or directory')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(Unsupported, match=r"tensorrt is installed without its libraries \(libnvinfer.so.11: cannot"):
        load("tensorrt")


def test_flavours_are_two() -> None:
    with pytest.raises(ModelPressError, match="allowed: 'tensorrt', 'tensorrt_rtx'"):
        load("tensorrt_lean")


def test_no_builder_and_no_runtime_is_touched_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT's own would crash the process."""
    monkeypatch.setattr(driver, "probe", lambda: driver.Driver(reason=REASON))
    touched: list[Any] = []
    real = SimpleNamespace(Builder=touched.append)
    with pytest.raises(Unsupported, match="no usable NVIDIA driver"):
        builder(real, Capabilities(False, True, False, False, False))
    with pytest.raises(Unsupported, match="no usable NVIDIA driver"):
        gpu()
    assert touched == []


def test_the_first_gpu_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = tuple(driver.Device(i, f"GPU {i}", (9, 0), 80_000, "0000:01:00.0") for i in range(2))
    monkeypatch.setattr(driver, "probe", lambda: driver.Driver(devices, (13, 0), "580.1"))
    assert gpu().name == "GPU 0"


def test_there_is_one_logger_that_keeps_errors_only() -> None:
    trt, _ = load("tensorrt_rtx")
    log = logger(trt)
    assert logger(trt) is log
    log.taken()
    for severity, line in ((trt.ILogger.ERROR, "bad"), (trt.ILogger.WARNING, "hm"), (trt.ILogger.INTERNAL_ERROR, "x")):
        log.log(severity, line)
    assert log.taken() == ["bad", "x"]
    assert log.taken() == []
    assert loading.log.name == "modelpress.engines.trt.load"

"""The doctor on this machine, and on machines that fakes make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelpress.cli import main
from modelpress.doctor import command, probes
from modelpress.doctor.command import NO_GPU, head, tried, why
from modelpress.doctor.probes import PROBES, Finding
from modelpress.engines.driver import Device, Driver, probe

NO_DRIVER = Driver(reason="no usable NVIDIA driver (libcuda.so.1); install it")


def test_an_engine_of_this_machine_is_really_tried() -> None:
    assert tried("onnxruntime") == Finding()


@pytest.mark.skipif(probe().reason is None, reason="this machine has a GPU")
def test_without_a_gpu_the_cause_and_the_fix_are_named() -> None:
    found = tried("onnxruntime_cuda")
    assert found.no_run is not None
    assert "install NVIDIA's driver" in found.no_run
    if command.version("onnxruntime_cuda") is None:
        assert "make setup-gpu" in found.no_run


@pytest.mark.skipif(command.version("tensorrt") is not None, reason="TensorRT is installed")
def test_without_tensorrt_the_cause_and_the_fix_are_named() -> None:
    found = tried("tensorrt")
    assert found.no_build is not None
    assert "tensorrt is not installed" in found.no_build
    assert "pip install 'modelpress[tensorrt]'" in found.no_build


def test_tensorrt_without_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "libnvinfer.so.11: cannot open shared object file: No such file or directory"
    (tmp_path / "tensorrt.py").write_text(f"raise ImportError({text!r})  # a fake of the bindings alone\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = tried("tensorrt")
    assert found.no_build is not None
    assert "installed without its libraries" in found.no_build
    assert text in found.no_build


@pytest.mark.parametrize("engine", ["onnxruntime", "onnxruntime_cuda", "openvino"])
def test_a_runtime_that_is_gone_is_named_with_the_fix(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime between the two halves of `make setup-gpu`."""
    gone = engine.removesuffix("_cuda")
    code = f"raise ModuleNotFoundError(\"No module named '{gone}'\", name='{gone}')  # a fake of nothing\n"
    (tmp_path / f"{gone}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = tried(engine)
    assert found.no_build is not None
    assert found.no_build.startswith(f"{gone} is not installed, and ModelPress needs it: `make clean setup`")
    assert ("make setup-gpu" in found.no_build) is (gone == "onnxruntime")


def test_a_crash_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As TensorRT's runtime does it without a driver."""
    (tmp_path / "tensorrt.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert tried("tensorrt") == Finding(*2 * ["its process ended (SIGSEGV): it printed nothing"])


def test_a_probe_that_hangs_is_a_finding() -> None:
    found = tried("onnxruntime", timeout_s=0.01)
    assert found.no_run == "no answer within 0.01 s"


def test_the_table_names_every_engine_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name: Finding() for name in PROBES}
    found["torchao"] = Finding(None, "torchao cannot be imported; pip install 'modelpress[torchao]'")
    found["tensorrt"] = Finding(f"not here: {NO_DRIVER.reason}", f"not here: {NO_DRIVER.reason}")
    monkeypatch.setattr(command, "examine", lambda: found)
    monkeypatch.setattr(command, "probe", lambda: NO_DRIVER)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert [row[0] for row in rows if row and row[0] in PROBES] == [name.split()[0] for name in PROBES]
    assert "pip install 'modelpress[torchao]'" in printed
    assert printed.count(str(NO_DRIVER.reason)) == 1
    assert f"not here: {NO_GPU}" in printed


def test_for_programs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "examine", lambda: {"onnxruntime": Finding(None, "why")})
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["engines"]["onnxruntime"]["why_not_run"] == "why"
    assert told["machine"]["cores"] > 0


def test_gpus_are_listed() -> None:
    lines = head(Driver((Device(0, "NVIDIA H100", (9, 0), 81559, ""),), (13, 0), "580.95.05"))
    assert "GPU 0: NVIDIA H100, compute capability 9.0, 81559 MB, driver 580.95.05" in lines
    assert lines[0].startswith("processor: ")


def test_packages_that_exclude_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command.BOTH not in head(NO_DRIVER)
    monkeypatch.setattr(command, "_installed", lambda package: "1.31.1")
    assert command.BOTH in head(NO_DRIVER)


def test_the_same_reason_is_said_once() -> None:
    assert why(Finding("a", "a"), NO_DRIVER) == "a"
    assert why(Finding(None, f"built, not executed: {NO_DRIVER.reason}"), NO_DRIVER) == f"built, not executed: {NO_GPU}"


def test_a_runtime_with_an_error_of_its_own_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path) -> Path:
        raise RuntimeError("disk full\nmore")

    monkeypatch.setattr(probes, "tiny", broken)
    found = probes.of_engine("onnxruntime.OnnxRuntime", probes.CPU)
    assert found.no_build == "RuntimeError: disk full"


@pytest.mark.gpu
def test_a_gpu_runs_what_is_installed() -> None:
    assert tried("torch on cuda") == Finding()
    if command.version("onnxruntime_cuda") is not None:
        assert tried("onnxruntime_cuda") == Finding()

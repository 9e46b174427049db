"""The probe of the NVIDIA driver: against this machine, and against a fake libcuda compiled for each case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelpress.engines import driver
from modelpress.engines.driver import Device, Driver, probe
from tests.fake_library import compiled

Compile = Callable[..., str]


@pytest.fixture
def fake_cuda(tmp_path: Path) -> Compile:
    """The path of a fake libcuda compiled with macros, such as ``fake_cuda("DEVICES=2")``."""
    return lambda *macros: compiled(Path(__file__).parent / "fake_cuda.c", tmp_path, *macros)


def test_names_the_missing_library_and_the_fix() -> None:
    found = probe("libcuda_of_nobody.so.1")
    assert (found.devices, found.version) == ((), None)
    assert found.reason is not None
    assert "libcuda_of_nobody.so.1: cannot open shared object file" in found.reason
    assert "install NVIDIA's driver" in found.reason
    assert "--gpus all" in found.reason


def test_reads_every_device(fake_cuda: Compile) -> None:
    found = probe(fake_cuda("DEVICES=2"))
    assert found.devices == (
        Device(0, "Fake H100", (9, 0), 81920, "0000:18:00.0"),
        Device(1, "Fake T4", (7, 5), 15360, "0000:3b:00.0"),
    )
    assert (found.version, found.reason) == ((13, 2), None)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (100, "CUDA_ERROR_NO_DEVICE; the driver is loaded and finds no GPU"),
        (803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH; .*restart the machine"),
        (34, "error 34; this libcuda is the stub"),
        (7777, "error 7777; on a machine with an NVIDIA GPU"),
    ],
)
def test_explains_what_the_driver_answers(fake_cuda: Compile, code: int, sentence: str) -> None:
    found = probe(fake_cuda(f"INIT={code}"))
    assert found.devices == ()
    with pytest.raises(RuntimeError, match=sentence):
        raise RuntimeError(found.reason)


def test_no_device_is_a_reason_that_names_what_hides_them(fake_cuda: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = probe(fake_cuda("DEVICES=0"))
    assert found.reason is not None
    assert "CUDA_VISIBLE_DEVICES is ''" in found.reason


def test_a_library_that_is_no_driver_is_refused() -> None:
    found = probe("libc.so.6")
    assert found == Driver(reason=found.reason)
    assert "cuInit" in str(found.reason)


def test_a_call_that_fails_later_is_a_reason_too(fake_cuda: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_cuda("DEVICES=1")
    monkeypatch.setattr(driver, "_device", lambda cuda, index: driver._integer(cuda.cuDeviceGet, index + 9))
    assert "cuDeviceGet failed with error 101" in str(probe(library).reason)


def test_release_of_the_kernel_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "version"
    file.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2026\nGCC 12.2\n"
    )
    monkeypatch.setattr(driver, "RELEASE_FILE", file)
    assert driver._release() == "580.95.05"
    monkeypatch.setattr(driver, "RELEASE_FILE", tmp_path / "absent")
    assert driver._release() is None


@pytest.mark.gpu
def test_agrees_with_torch() -> None:
    import torch

    found = probe()
    assert found.reason is None
    assert [device.name for device in found.devices] == [
        torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
    ]
    assert found.devices[0].compute_capability == torch.cuda.get_device_capability(0)

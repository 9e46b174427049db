"""A deployed TensorRT engine: its files, its requirement, and what predict.py says where it cannot run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from modelpress.deploying.files import runtimes
from modelpress.deploying.folder import _engines
from modelpress.engines.base import Plan

ENGINE = {"name": "tensorrt_rtx-fp32", "runtime": "tensorrt_rtx", "requirement": "tensorrt-rtx-cu13==1.7.1.116"}
PROFILES = [
    {"min": {"ids": [1, 2]}, "opt": {"ids": [1, 16]}, "max": {"ids": [8, 16]}},
    {"min": {"ids": [1, 17]}, "opt": {"ids": [1, 64]}, "max": {"ids": [8, 64]}},
]


def test_engine_and_sidecar_travel_together(tmp_path: Path) -> None:
    for name in ("main_fp32.engine", "main_fp32.json"):
        (tmp_path / name).write_text(name)
    plan = Plan("tensorrt_rtx", "", "fp32", str(tmp_path / "main_fp32.engine"), {"threads": 2})
    [found] = _engines(tmp_path / "deploy", {}, [plan])
    assert found == {
        **ENGINE,
        "files": {"main": "engines/tensorrt_rtx/main_fp32.engine"},
        "precision": "fp32",
        "threads": 2,
    }
    assert (tmp_path / "deploy/engines/tensorrt_rtx/main_fp32.json").read_text() == "main_fp32.json"


def test_without_a_gpu_it_says_so_before_the_runtime_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "main.engine").write_bytes(b"")
    with pytest.raises(runtimes.DeployError, match="tensorrt_rtx-fp32 needs an NVIDIA GPU with its driver"):
        runtimes.open_engine(tmp_path, ENGINE, "main.engine", 1)


@pytest.mark.parametrize(("length", "number"), [(2, 0), (16, 0), (17, 1), (64, 1)])
def test_the_range_that_holds_a_request(length: int, number: int) -> None:
    given: Any = {"ids": SimpleNamespace(shape=(1, length))}
    assert runtimes.profile_of(PROFILES, given) == number
    assert runtimes.profile_of([], given) == 0


def test_a_request_outside_is_an_error() -> None:
    with pytest.raises(runtimes.DeployError, match=r"was not built for ids \(1, 65\); its .json lists the shapes"):
        runtimes.profile_of(PROFILES, {"ids": SimpleNamespace(shape=(1, 65))})

"""Rows of engines on an accelerator: a real session with a fake engine and a fake NVML."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelpress.benchmark import gpu
from modelpress.benchmark import measure as module
from modelpress.benchmark.measure import Subject, Workload, load_session, measure
from modelpress.engines.base import Hardware
from modelpress.engines.pair import PairSession
from tests.benchmark.fakes import SleeperSession, plan, settings
from tests.fake_library import compiled

SPLIT = {"h2d": 0.02, "compute": 0.25, "d2h": 0.01}


def test_device_time_memory_and_energy_have_their_own_places(
    fixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [one] = gpu.gpus(compiled(Path(__file__).parent / "fake_nvml.c", tmp_path, "STEP=600"))
    monkeypatch.setattr(one, "idle_w", lambda: 0.5)
    used = iter([500.0, 1300.0, 1300.0, 1350.0])
    monkeypatch.setattr(one, "memory_used_mb", lambda: next(used))
    monkeypatch.setattr(module, "measured_gpu", lambda hardware: one)
    subjects = [Subject("on the device", plan(device_ms=SPLIT)), Subject("elsewhere", plan())]
    measure(subjects, [Workload("1x16", fixed)], {}, settings(), Hardware(accelerator="cuda"), tmp_path)

    first, second = load_session(tmp_path).measurements
    assert first.device_latency_ms is not None
    assert first.latency_ms is not None
    assert (first.device_latency_ms.p50, first.device_latency_ms.n) == (0.25, first.latency_ms.n)
    assert first.latency_ms.min > 0.19  # end to end: it sleeps 0.2 ms
    assert first.details["device_ms"] == SPLIT
    assert first.details["device_round_medians_ms"] == [SPLIT["compute"]] * 4
    assert (first.peak_device_memory_mb, second.peak_device_memory_mb) == (800.0, 50.0)
    watched = first.details["gpu"]
    assert watched["throttled"] == ["hw_slowdown"]
    assert watched["energy_gross_j"] == pytest.approx(0.6 * settings().rounds)
    assert first.energy_j_per_sample is not None
    assert 0 < first.energy_j_per_sample < watched["energy_gross_j"] / first.latency_ms.n
    assert second.device_latency_ms is None
    assert "device_ms" not in second.details


def test_no_gpu_is_watched_on_a_cpu() -> None:
    assert module.measured_gpu(Hardware()) is None


def test_a_pair_adds_up_its_towers() -> None:
    towers = [SleeperSession(plan(device_ms=SPLIT)), SleeperSession(plan(device_ms=SPLIT))]
    assert PairSession(towers, ["image", "text"]).device_ms()["compute"] == 0.5
    assert PairSession([towers[0], SleeperSession(plan())], ["image", "text"]).device_ms() == {}

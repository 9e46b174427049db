"""NVML's counters, through a fake library compiled for each case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelpress.benchmark import gpu
from modelpress.benchmark.gpu import Watch
from tests.fake_library import compiled

Compile = Callable[..., str]


@pytest.fixture
def fake_nvml(tmp_path: Path) -> Compile:
    return lambda *macros: compiled(Path(__file__).parent / "fake_nvml.c", tmp_path, *macros)


def test_nothing_without_the_library() -> None:
    assert gpu.gpus("libnvml_of_nobody.so.1") == ()
    assert gpu.at("0000:18:00.0", "libnvml_of_nobody.so.1") is None
    assert gpu.gpus("libc.so.6") == ()


def test_nothing_when_it_cannot_start(fake_nvml: Compile) -> None:
    assert gpu.gpus(fake_nvml("BROKEN")) == ()


def test_facts_and_state(fake_nvml: Compile) -> None:
    [one] = gpu.gpus(fake_nvml())  # the second handle is refused: no rights
    assert one.facts() == {
        "name": "Fake H100",
        "driver": "580.95.05",
        "memory_mb": 81920,
        "sm_clock_max_mhz": 1980,
        "power_limit_w": None,  # not supported by the fake
    }
    assert one.state() == {
        "sm_clock_mhz": 1755,
        "memory_clock_mhz": 2619,
        "temperature_c": 61,
        "power_w": 123.4,
        "throttled": ["hw_slowdown"],
    }
    assert one.memory_used_mb() == 1024


def test_found_by_its_bus(fake_nvml: Compile) -> None:
    library = fake_nvml()
    found = gpu.at("0000:3b:00.0", library)
    assert found is not None
    assert found.facts()["name"] == "Fake T4"
    assert gpu.at("0000:99:00.0", library) is None


def test_an_older_driver_has_other_names_and_no_energy(fake_nvml: Compile) -> None:
    [one] = gpu.gpus(fake_nvml("OLD"))
    assert one.throttled() == ["power_cap", "hw_thermal_slowdown"]
    assert one.energy_j() is None
    assert one.idle_w(0.0) is None
    watch = Watch(one)
    with watch.turn():
        pass
    assert watch.net_joules(50.0) is None


def test_energy_is_above_idle(fake_nvml: Compile) -> None:
    [one] = gpu.gpus(fake_nvml("STEP=500"))
    watch = Watch(one)
    for _ in range(3):
        with watch.turn():  # asked before and after: 0.5 J in between
            pass
    assert watch.joules == pytest.approx(1.5)
    watch.seconds = 0.01
    assert watch.net_joules(30.0) == pytest.approx(1.5 - 0.3)
    assert watch.net_joules(None) is None
    assert watch.facts(30.0) == {
        "sm_clock_mhz": [1755, 1755],
        "temperature_c": 61,
        "throttled": ["hw_slowdown"],
        "energy_gross_j": pytest.approx(1.5),
        "idle_w": 30.0,
    }


def test_idle_power_is_energy_over_time(fake_nvml: Compile) -> None:
    [one] = gpu.gpus(fake_nvml("STEP=500"))
    power = one.idle_w(0.05)
    assert power is not None
    assert 0.5 / 0.5 < power <= 0.5 / 0.05


@pytest.mark.gpu
def test_a_real_gpu_tells_its_state() -> None:
    from modelpress.engines.driver import probe

    one = gpu.at(probe().devices[0].bus_id)
    assert one is not None
    assert one.facts()["name"] == probe().devices[0].name
    assert one.state()["sm_clock_mhz"] > 0
    first, second = one.energy_j(), one.idle_w(0.5)
    assert first is None or (first > 0 and second is not None and second > 0)

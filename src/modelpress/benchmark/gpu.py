"""What NVIDIA's management library (NVML) knows of GPUs: clocks, temperature, throttling, memory, energy. ctypes only.

``None`` wherever the library, or one of its counters, is not there: NVML makes no CUDA context and needs no rights.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
SM_CLOCK, MEMORY_CLOCK = 1, 2  # nvmlClockType_t
CHIP_TEMPERATURE = 0  # nvmlTemperatureSensors_t
IDLE_S = 2.0
# Bits of nvmlDeviceGetCurrentClocksEventReasons. GPU_IDLE (1) is no reason of a GPU at work.
REASONS = {
    2: "application_clocks", 4: "power_cap", 8: "hw_slowdown", 16: "sync_boost", 32: "thermal_slowdown",
    64: "hw_thermal_slowdown", 128: "power_brake", 256: "display_clocks",
}  # fmt: skip


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Gpu:
    """One GPU. Every method asks the library anew."""

    def __init__(self, nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        self.nvml, self.handle = nvml, handle

    def facts(self) -> dict[str, Any]:
        """What stays the same: name, memory, the driver's release, the limits that hold for it now."""
        name, release = ctypes.create_string_buffer(96), ctypes.create_string_buffer(80)
        self.nvml.nvmlDeviceGetName(self.handle, name, len(name))
        self.nvml.nvmlSystemGetDriverVersion(release, len(release))
        memory, limit_mw = self._memory(), self._number("nvmlDeviceGetEnforcedPowerLimit", ctypes.c_uint)
        return {
            "name": name.value.decode(),
            "driver": release.value.decode(),
            "memory_mb": memory.total // 2**20 if memory is not None else None,
            "sm_clock_max_mhz": self._number("nvmlDeviceGetMaxClockInfo", ctypes.c_uint, SM_CLOCK),
            "power_limit_w": None if limit_mw is None else limit_mw / 1e3,
        }

    def state(self) -> dict[str, Any]:
        """What changes: clocks, temperature, power, why the clocks are not higher."""
        power_mw = self._number("nvmlDeviceGetPowerUsage", ctypes.c_uint)
        return {
            "sm_clock_mhz": self._number("nvmlDeviceGetClockInfo", ctypes.c_uint, SM_CLOCK),
            "memory_clock_mhz": self._number("nvmlDeviceGetClockInfo", ctypes.c_uint, MEMORY_CLOCK),
            "temperature_c": self._number("nvmlDeviceGetTemperature", ctypes.c_uint, CHIP_TEMPERATURE),
            "power_w": None if power_mw is None else power_mw / 1e3,
            "throttled": self.throttled(),
        }

    def throttled(self) -> list[str]:
        """Why the clocks are held down now; empty when nothing does."""
        names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")  # new, old
        bits = next((value for name in names if (value := self._number(name, ctypes.c_ulonglong)) is not None), 0)
        return [reason for bit, reason in REASONS.items() if bits & bit]

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded; ``None`` on GPUs older than Volta and on virtual ones."""
        value = self._number("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
        return None if value is None else value / 1e3

    def memory_used_mb(self) -> float | None:
        """What all processes together hold, contexts included."""
        memory = self._memory()
        return None if memory is None else memory.used / 2**20

    def idle_w(self, seconds: float = IDLE_S) -> float | None:
        """Mean power while nothing of ours runs, W. Takes ``seconds``."""
        before, began = self.energy_j(), time.monotonic()
        time.sleep(seconds)
        after = self.energy_j()
        return None if before is None or after is None else (after - before) / (time.monotonic() - began)

    def _memory(self) -> _Memory | None:
        memory = _Memory()
        return memory if self.nvml.nvmlDeviceGetMemoryInfo(self.handle, ctypes.byref(memory)) == 0 else None

    def _number(self, name: str, kind: type[ctypes.c_uint | ctypes.c_ulonglong], *which: int) -> int | None:
        value = kind()
        try:
            failed = getattr(self.nvml, name)(self.handle, *which, ctypes.byref(value))
        except AttributeError:  # an older driver
            return None
        return None if failed else value.value


@dataclass
class Watch:
    """One engine's turns on a GPU: energy, and the states met right after each turn."""

    gpu: Gpu
    joules: float | None = 0.0
    seconds: float = 0.0
    states: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Around one block."""
        before, began = self.gpu.energy_j(), time.monotonic()
        yield
        after = self.gpu.energy_j()
        self.seconds += time.monotonic() - began
        self.states.append(self.gpu.state())
        known = before is not None and after is not None and self.joules is not None
        self.joules = self.joules + after - before if known else None  # type: ignore[operator]

    def net_joules(self, idle_w: float | None) -> float | None:
        """Energy above what the GPU draws when nothing of ours runs, J."""
        return None if self.joules is None or idle_w is None else self.joules - idle_w * self.seconds

    def facts(self, idle_w: float | None) -> dict[str, Any]:
        """For the row's details: clocks and temperature as extremes, everything that throttled."""
        clocks = [state["sm_clock_mhz"] for state in self.states if state["sm_clock_mhz"] is not None]
        heat = [state["temperature_c"] for state in self.states if state["temperature_c"] is not None]
        return {
            "sm_clock_mhz": [min(clocks), max(clocks)] if clocks else None,
            "temperature_c": max(heat, default=None),
            "throttled": sorted({reason for state in self.states for reason in state["throttled"]}),
            "energy_gross_j": self.joules,
            "idle_w": idle_w,
        }


@cache
def gpus(library: str = LIBRARY) -> tuple[Gpu, ...]:
    """Every GPU of the machine, in the order of the PCI bus; empty without NVIDIA's driver."""
    nvml = _opened(library)
    count = ctypes.c_uint()
    if nvml is None or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return ()
    handles = [ctypes.c_void_p() for _ in range(count.value)]
    found = [nvml.nvmlDeviceGetHandleByIndex_v2(i, ctypes.byref(handle)) for i, handle in enumerate(handles)]
    return tuple(Gpu(nvml, handle) for code, handle in zip(found, handles, strict=True) if code == 0)


def at(bus_id: str, library: str = LIBRARY) -> Gpu | None:
    """The GPU at a PCI bus id, as CUDA names it (:class:`modelpress.engines.driver.Device`)."""
    nvml, handle = _opened(library), ctypes.c_void_p()
    if nvml is None or nvml.nvmlDeviceGetHandleByPciBusId_v2(bus_id.encode(), ctypes.byref(handle)):
        return None
    return Gpu(nvml, handle)


@cache
def _opened(library: str) -> ctypes.CDLL | None:
    try:
        nvml = ctypes.CDLL(library)
        return nvml if nvml.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None

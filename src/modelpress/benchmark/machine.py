"""What a referee must know about the machine. Reads /proc, /sys and package metadata; imports no runtime."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from modelpress.benchmark.gpu import gpus

RUNTIMES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "torch", "torchao")
FLAGS = (
    "amx_bf16", "amx_int8", "amx_tile", "asimd", "avx2", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx512f",
    "avx_ne_convert", "avx_vnni", "bf16", "i8mm", "sve",
)  # fmt: skip
BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "avx_ne_convert", "bf16"})
STABLE = ("cpu", "cores", "flags", "memory_gb", "runtimes", "python", "virtual", "gpus")


def machine() -> dict[str, Any]:
    """Facts about this machine: stable ones (see :data:`STABLE`) and its state now (load, governor, clock)."""
    return {
        "cpu": _cpu_name(),
        "cores": default_threads(),
        "flags": sorted(_flags() & set(FLAGS)),
        "memory_gb": _memory_gb(),
        "runtimes": _versions(RUNTIMES),
        "python": platform.python_version(),
        "virtual": _virtual(),
        "kernel": platform.release(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "turbo": _turbo(),
        "clock_mhz": _clock_mhz(),
        "load_average": _load_average(),
        **_gpus(),
    }


def fingerprint(facts: Mapping[str, Any] | None = None) -> str:
    """sha256 over the stable facts only: two runs with equal fingerprints may be compared."""
    known = machine() if facts is None else facts
    stable = {key: known[key] for key in STABLE if key in known}
    return hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()


def has_bf16() -> bool:
    """Whether the processor has bfloat16 instructions (AVX512_BF16, AMX, AVX-NE-CONVERT or Arm BF16)."""
    return bool(_flags() & BF16_FLAGS)


def default_threads() -> int:
    """Cores this process may use: the smaller of its CPU affinity and its cgroup quota, at least 1."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(usable, math.ceil(quota)) if quota else usable)


def _cgroup_quota() -> float | None:
    """CPU cores granted by cgroup v2 or v1; ``None``: no limit."""
    v2 = _read("/sys/fs/cgroup/cpu.max")
    if v2:
        limit, period = v2.split()
        return None if limit == "max" else int(limit) / int(period)
    limit_us, period_us = (_read(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    if limit_us and period_us and int(limit_us) > 0:
        return int(limit_us) / int(period_us)
    return None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _cpuinfo(key: str) -> str | None:
    """First value of ``key`` in /proc/cpuinfo."""
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _flags() -> set[str]:
    return set((_cpuinfo("flags") or _cpuinfo("Features") or "").split())


def _clock_mhz() -> float | None:
    value = _cpuinfo("cpu MHz")
    return float(value) if value else None


def _memory_gb() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _turbo() -> bool | None:
    intel = _read("/sys/devices/system/cpu/intel_pstate/no_turbo")
    if intel is not None:
        return intel == "0"
    boost = _read("/sys/devices/system/cpu/cpufreq/boost")
    return None if boost is None else boost == "1"


def _load_average() -> list[float] | None:
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def _virtual() -> list[str]:
    """Why timings may be noisy: ``vm`` and/or ``container``."""
    container = os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv")
    return [name for name, found in (("vm", "hypervisor" in _flags()), ("container", container)) if found]


def _gpus() -> dict[str, Any]:
    """NVIDIA GPUs and their state now; nothing on a machine without them."""
    found = gpus()
    return {"gpus": [gpu.facts() for gpu in found], "gpu_state": [gpu.state() for gpu in found]} if found else {}


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    json.dump(machine(), sys.stdout, indent=1)

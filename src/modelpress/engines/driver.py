"""Is there an NVIDIA driver with a GPU? Asks the driver's own library through ctypes: no torch, no TensorRT.

Ask here before a runtime is touched: without a driver, TensorRT's runtime object crashes the process instead of
raising.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "libcuda.so.1"
RELEASE_FILE = Path("/proc/driver/nvidia/version")
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
BF16_FROM = (8, 0)  # compute capability with tensor cores for bf16 and tf32
INSTALL = (
    "on a machine with an NVIDIA GPU install NVIDIA's driver (580 or newer for CUDA 13), and start a container with "
    "its GPUs (docker run --gpus all)"
)
VISIBLE = "CUDA_VISIBLE_DEVICES"
# Codes of cuInit that a user can do something about; the others are shown by CUDA's own name.
FIXES = {
    34: "this libcuda is the stub of the CUDA toolkit: take its folder out of LD_LIBRARY_PATH",
    100: f"the driver is loaded and finds no GPU: {INSTALL}",
    802: "the GPUs are not ready: start nvidia-fabricmanager of the driver's own release, or wait until it has started",
    803: "the driver's library and its kernel module are of different releases: restart the machine after an update",
    804: "a forward-compatibility libcuda covers the driver's own, and this GPU does not support that: update the "
    "driver, or take the compat folder out of LD_LIBRARY_PATH",
    999: "the kernel module is not loaded or was lost in suspend: run nvidia-smi, else restart the machine",
}


@dataclass(frozen=True)
class Device:
    """One GPU as this process sees it; ``index`` is CUDA's own, ``bus_id`` what NVML finds it by."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory_mb: int
    bus_id: str


@dataclass(frozen=True)
class Driver:
    """What :func:`probe` found. ``reason``: why no GPU can be used and what to do; ``None`` where one can."""

    devices: tuple[Device, ...] = ()
    version: tuple[int, int] | None = None  # the newest CUDA it can run
    release: str | None = None  # of the driver itself, such as 580.95.05
    reason: str | None = None


def probe(library: str = LIBRARY) -> Driver:
    """Load the driver's library, initialise it and count the devices. Makes no context and never raises."""
    try:
        cuda = ctypes.CDLL(library)
        code = cuda.cuInit(0)
        version, release = _version(cuda), _release()
        if code:
            return Driver((), version, release, _explain(cuda, code))
        devices = tuple(_device(cuda, index) for index in range(_integer(cuda.cuDeviceGetCount)))
    except (OSError, AttributeError, CudaError) as error:
        return Driver(reason=f"no usable NVIDIA driver ({error}); {INSTALL}")
    return Driver(devices, version, release, None if devices else _explain(cuda, 100))


class CudaError(Exception):
    """A call of the driver's library failed after it had been initialised."""


def _explain(cuda: ctypes.CDLL, code: int) -> str:
    name = ctypes.c_char_p()
    known = cuda.cuGetErrorName(code, ctypes.byref(name)) == 0 and name.value is not None
    shown = name.value.decode() if known and name.value else f"error {code}"
    hidden = f" ({VISIBLE} is {os.environ[VISIBLE]!r})" if VISIBLE in os.environ else ""
    return f"the NVIDIA driver answers {shown}{hidden}; {FIXES.get(code, INSTALL)}"


def _integer(function: Callable[..., int], *arguments: object) -> int:
    """What a call of the form ``f(int *value, …)`` gives."""
    value = ctypes.c_int()
    if code := function(ctypes.byref(value), *arguments):
        raise CudaError(f"{function.__name__} failed with error {code}")
    return value.value


def _version(cuda: ctypes.CDLL) -> tuple[int, int]:
    number = _integer(cuda.cuDriverGetVersion)
    return number // 1000, number % 1000 // 10


def _device(cuda: ctypes.CDLL, index: int) -> Device:
    handle = _integer(cuda.cuDeviceGet, index)
    name, bus_id, size = ctypes.create_string_buffer(96), ctypes.create_string_buffer(32), ctypes.c_size_t()
    cuda.cuDeviceGetName(name, len(name), handle)
    cuda.cuDeviceGetPCIBusId(bus_id, len(bus_id), handle)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(size), handle)
    capability = _integer(cuda.cuDeviceGetAttribute, MAJOR, handle), _integer(cuda.cuDeviceGetAttribute, MINOR, handle)
    return Device(index, name.value.decode(), capability, size.value // 2**20, bus_id.value.decode())


def _release() -> str | None:
    try:
        found = re.search(r"\d{3,}\.\d[\d.]*", RELEASE_FILE.read_text())
    except OSError:
        return None
    return found.group() if found else None

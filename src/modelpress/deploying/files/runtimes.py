"""Opens the engines of this folder, each with the settings it was measured with. Needs numpy and one runtime."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Run = Callable[[dict[str, Any]], Any]


class DeployError(Exception):
    """Something this folder or this machine lacks, and what to do about it."""


def choose(engines: Sequence[dict[str, Any]], wanted: str | None) -> dict[str, Any]:
    """The engine of this name or runtime; ``None``: the first one, which is the best."""
    for engine in engines:
        if wanted in (None, engine["name"], engine["runtime"]):
            return engine
    names = ", ".join(engine["name"] for engine in engines)
    raise DeployError(f"engine {wanted!r} is not in this folder; it has: {names}")


def threads_of(engine: dict[str, Any]) -> int:
    """As many as it was measured with, at most the cores of this machine."""
    return min(int(engine["threads"]), len(os.sched_getaffinity(0)))


def open_engine(folder: Path, engine: dict[str, Any], file: str, threads: int) -> Run:
    """A function from inputs by name to the first output of ``file``."""
    path = folder / file
    if not path.is_file():
        raise DeployError(f"{path} is missing; copy the whole folder (SHA256SUMS lists its files)")
    try:
        run: Run = RUNTIMES[engine["runtime"]](path, engine, threads)
    except ImportError as error:
        raise DeployError(
            f"{engine['name']} needs {engine['requirement']}, which is not installed ({error}): "
            f"pip install {engine['requirement']}"
        ) from None
    return run


def open_onnxruntime(path: Path, engine: dict[str, Any], threads: int) -> Any:
    """A function from inputs to logits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if engine["spinning"] else "0")
    if platform.machine() in ("x86_64", "AMD64") and "vnni" not in _cpu_flags():
        # without VNNI the faster INT8 kernels overflow
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=[engine["provider"]])
    return lambda inputs: session.run(None, inputs)[0]


def open_onnxruntime_cuda(path: Path, engine: dict[str, Any], threads: int) -> Any:
    """A function from inputs to logits, on the first NVIDIA GPU; never silently on the CPU."""
    import onnxruntime

    onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    wanted = "CUDAExecutionProvider"
    providers = [(wanted, engine["options"]), "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    if session.get_providers()[0] != wanted:
        raise DeployError(
            f"{engine['name']} needs an NVIDIA GPU and {engine['requirement']} with CUDA's libraries; ONNX Runtime "
            f"offers {', '.join(session.get_providers())} here"
        )
    return lambda inputs: session.run(None, inputs)[0]


def _cpu_flags() -> str:
    """What Linux says of the processor; empty elsewhere, where the careful kernels are then taken."""
    info = Path("/proc/cpuinfo")
    return info.read_text() if info.is_file() else ""


def open_openvino(path: Path, engine: dict[str, Any], threads: int) -> Any:
    """A function from inputs to logits."""
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    config["INFERENCE_PRECISION_HINT"] = engine["precision_hint"]
    request = openvino_core().compile_model(str(path), "CPU", config).create_infer_request()
    return lambda inputs: request.infer(inputs)[0]


@functools.cache
def openvino_core() -> Any:
    """One core for the process: of several, a dead one's signal stack may stay installed and crash it."""
    import openvino

    return openvino.Core()


RUNTIMES = {
    "onnxruntime": open_onnxruntime,
    "onnxruntime_cuda": open_onnxruntime_cuda,
    "openvino": open_openvino,
}

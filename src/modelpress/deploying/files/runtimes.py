"""Opens the engines of this folder, each with the settings it was measured with. Needs numpy and one runtime."""

from __future__ import annotations

import functools
import importlib
import json
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


def open_tensorrt(path: Path, engine: dict[str, Any], threads: int) -> Any:
    """A function from inputs to logits on the GPU; PyTorch holds the tensors. For either kind of TensorRT."""
    import torch

    if not torch.cuda.is_available():  # without a driver TensorRT's runtime crashes the process
        raise DeployError(f"{engine['name']} needs an NVIDIA GPU with its driver; choose another with --engine")
    trt: Any = importlib.import_module(engine["runtime"])
    facts = json.loads(path.with_suffix(".json").read_text())
    if trt.__version__ != facts["version"]:
        raise DeployError(f"{path} was built by {engine['requirement']}; this is {trt.__version__}")
    plan = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(path.read_bytes())
    if plan is None:
        raise DeployError(f"{path} does not run on this GPU; build it again here (modelpress build model.onnx)")
    context, stream = plan.create_execution_context(), torch.cuda.Stream()

    def run(inputs: dict[str, Any]) -> Any:
        given = {name: torch.from_numpy(inputs[name]).cuda() for name in facts["inputs"]}
        context.set_optimization_profile_async(profile_of(facts["profiles"], given), stream.cuda_stream)
        for name, tensor in given.items():
            context.set_input_shape(name, tuple(tensor.shape))
        made = {name: torch.empty(tuple(context.get_tensor_shape(name)), device="cuda") for name in facts["outputs"]}
        for name, tensor in (given | made).items():
            context.set_tensor_address(name, tensor.data_ptr())
        torch.cuda.current_stream().synchronize()  # the inputs have arrived
        context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return next(iter(made.values())).cpu().numpy()

    return run


def profile_of(profiles: Sequence[dict[str, Any]], given: dict[str, Any]) -> int:
    """The first range of shapes that holds the inputs."""
    for number, profile in enumerate(profiles):
        sides = [(profile["min"][name], given[name].shape, profile["max"][name]) for name in profile["min"]]
        if all(low <= size <= high for side in sides for low, size, high in zip(*side, strict=True)):
            return number
    if not profiles:
        return 0
    shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in given.items())
    raise DeployError(f"the engine was not built for {shapes}; its .json lists the shapes that it takes")


RUNTIMES = {
    "onnxruntime": open_onnxruntime,
    "onnxruntime_cuda": open_onnxruntime_cuda,
    "openvino": open_openvino,
    "tensorrt": open_tensorrt,
    "tensorrt_rtx": open_tensorrt,
}

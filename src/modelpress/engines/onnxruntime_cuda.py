"""ONNX Runtime on an NVIDIA GPU, by its CUDA or its TensorRT provider. Needs onnxruntime-gpu (``make setup-gpu``).

``get_available_providers()`` says what was compiled in, not what works: a provider that cannot start is dropped
without an error. So what a session runs on is read back, from its providers and from the nodes they were given.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from modelpress.benchmark.machine import default_threads
from modelpress.engines.base import Arrays, Artifact, Engine, Hardware, Plan, Session, Unsupported
from modelpress.engines.driver import BF16_FROM, probe
from modelpress.engines.graph import Graph, inspect
from modelpress.engines.int8 import FLOAT_WORK, INT8_WORK
from modelpress.engines.onnxruntime import CPU, OnnxRuntimeSession, place, session_options
from modelpress.engines.precision import effective
from modelpress.errors import ModelPressError, one_of

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
PRECISIONS = ("fp32", "tf32")  # of float32 graphs; every other graph runs in the types of its nodes
PARTS = ("h2d", "compute", "d2h")
ASSIGNMENT = "session.record_ep_graph_assignment_info"
HOW = "`make setup-gpu` puts onnxruntime-gpu in the place of onnxruntime"


class OnnxRuntimeCuda(Engine):
    """Runs the portable graph as it is. A float32 graph has a row for each of ``precisions``."""

    name = "onnxruntime_cuda"
    extension = ".onnx"
    runtimes = ("onnxruntime",)
    code = ("modelpress.engines.onnxruntime", "modelpress.engines.onnxruntime_cuda")
    provider = CUDA

    def __init__(self, precisions: Sequence[str] = ("fp32",)) -> None:
        super().__init__([one_of(f"engine.{self.name}.precisions", given, PRECISIONS) for given in precisions])

    def build(self, artifact: Artifact, hardware: Hardware, folder: Path) -> list[Plan]:
        """The file, linked into ``folder``; ONNX Runtime builds nothing before it is opened.

        Raises:
            Unsupported: no GPU, or an ONNX Runtime without this provider.
        """
        if hardware.accelerator != "cuda":
            raise Unsupported(f"{self.name} runs on GPUs; hardware.accelerator is {hardware.accelerator!r}")
        self._refuse()
        graph = inspect(artifact.onnx)
        file = folder / f"{artifact.tower}{self.extension}"
        place(artifact.onnx, graph, file, on_cpu=False)
        target = f"{__name__}.{type(self).__qualname__}"
        kinds = self.precisions if graph.precision == "fp32" else (graph.precision,)
        threads = hardware.threads or default_threads()
        return [
            Plan(self.name, target, kind, str(file), {"threads": threads, "options": self.options(kind, graph, folder)})
            for kind in kinds
        ]

    def options(self, precision: str, graph: Graph, folder: Path) -> dict[str, str]:
        """Of the provider. TF32 is on by default, which would make FP32 rows wrong."""
        return {"device_id": "0", "use_tf32": "1" if precision == "tf32" else "0"}

    @classmethod
    def _refuse(cls) -> None:
        import onnxruntime as ort

        missing = [why] if (why := probe().reason) is not None else []
        if cls.provider not in ort.get_available_providers():
            missing.append(f"the installed onnxruntime has no {cls.provider}; {HOW}")
        if missing:
            raise Unsupported("; ".join(missing))

    @classmethod
    def open(cls, plan: Plan) -> Session:
        """Open the file. Raises Unsupported for what the GPU lacks, and for a session that fell back to the CPU."""
        import onnxruntime as ort

        refuse_precision(plan.precision)
        ort.preload_dlls()  # CUDA's libraries from the packages that torch brings, where the system has none
        options = session_options({**plan.settings, "spinning": True, "u8_weights": False})
        options.add_session_config_entry(ASSIGNMENT, "1")
        rest = [CUDA, CPU] if cls.provider == TENSORRT else [CPU]
        session = ort.InferenceSession(
            plan.file, options, providers=[(cls.provider, dict(plan.settings["options"])), *rest]
        )
        return DeviceSession(session, plan, cls.provider)


class OnnxRuntimeTensorRt(OnnxRuntimeCuda):
    """The TensorRT provider; what TensorRT does not know goes to CUDA. It links TensorRT 10, not 11.

    ``batch`` and ``sequence`` are min, opt and max of the one optimization profile. TensorRT chooses kernels per layer,
    and ONNX Runtime does not tell which: the precision of a row is that of its graph.
    """

    name = "onnxruntime_tensorrt"
    provider = TENSORRT

    def __init__(
        self,
        precisions: Sequence[str] = ("fp32",),
        batch: Sequence[int] = (1, 1, 32),
        sequence: Sequence[int] = (1, 128, 512),
    ) -> None:
        super().__init__(precisions)
        self.batch, self.sequence = _range(self.name, "batch", batch), _range(self.name, "sequence", sequence)

    def options(self, precision: str, graph: Graph, folder: Path) -> dict[str, str]:
        """Kernels of the graph's own types, engines kept beside the plan, one profile for every dynamic input."""
        flag = {"fp16": "trt_fp16_enable", "bf16": "trt_bf16_enable", "int8": "trt_int8_enable"}.get(precision)
        shapes = [profile(graph, self.batch[i], self.sequence[i]) for i in range(3)]
        names = [f"trt_profile_{kind}_shapes" for kind in ("min", "opt", "max")]
        return {
            "device_id": "0",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder / "engines"),
            "trt_timing_cache_enable": "1",
            **({flag: "1"} if flag else {}),
            **(dict(zip(names, shapes, strict=True)) if shapes[0] else {}),
        }


def refuse_precision(precision: str) -> None:
    """Raise Unsupported for a precision that the GPU has no arithmetic for."""
    device = probe().devices[0]
    if precision in ("tf32", "bf16") and device.compute_capability < BF16_FROM:
        raise Unsupported(f"{device.name} has no {precision} arithmetic")


def profile(graph: Graph, batch: int, sequence: int) -> str:
    """Shapes of the dynamic inputs as ONNX Runtime's TensorRT provider reads them: ``ids:1x128,mask:1x128``."""
    texts = []
    for value in graph.inputs:
        sizes = [size if isinstance(size, int) else batch if size == "batch" else sequence for size in value.shape]
        if any(isinstance(size, str) for size in value.shape):
            texts.append(f"{value.name}:{'x'.join(map(str, sizes))}")
    return ",".join(texts)


def _range(engine: str, name: str, given: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(given)
    if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise ModelPressError(
            f"engine.{engine}.{name} is {list(given)}; it is [min, opt, max], each at least the one before."
        )
    return sizes


class DeviceSession(OnnxRuntimeSession):
    """Inputs and outputs are bound to the device, so that copies and kernels can be timed apart."""

    def __init__(self, session: Any, plan: Plan, provider: str, device: str = "cuda") -> None:
        import onnxruntime as ort

        super().__init__(session, plan)
        operators = assigned(session)
        self.nodes = {name: found.total() for name, found in operators.items()}
        require(provider, session.get_providers(), self.nodes)
        self.precision = plan.precision if provider == TENSORRT else executed(plan.precision, operators[provider])
        self.ort, self.device = ort, device
        self.stamps_ns = [0] * (len(PARTS) + 1)

    def run(self, inputs: Arrays) -> dict[str, Any]:
        """As on the CPU, but copied there and back one after the other."""
        clock, binding = time.perf_counter_ns, self.session.io_binding()
        started = clock()
        for name, array in inputs.items():
            if name in self.inputs:
                binding.bind_ortvalue_input(name, self.ort.OrtValue.ortvalue_from_numpy(array, self.device, 0))
        for name in self.outputs:
            binding.bind_output(name, self.device)
        binding.synchronize_inputs()
        copied = clock()
        self.session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        computed = clock()
        answers = binding.copy_outputs_to_cpu()
        self.stamps_ns = [started, copied, computed, clock()]
        return dict(zip(self.outputs, answers, strict=True))

    def device_ms(self) -> dict[str, float]:
        """By the host's clock around synchronised steps: ONNX Runtime offers no events."""
        spent = [(after - before) / 1e6 for before, after in pairwise(self.stamps_ns)]
        return dict(zip(PARTS, spent, strict=True))

    def details(self) -> dict[str, Any]:
        """Threads, providers, and how many nodes each provider was given."""
        return {
            "runtime": f"onnxruntime {self.ort.__version__}",
            "threads": self.session.get_session_options().intra_op_num_threads,
            "providers": self.session.get_providers(),
            "nodes": self.nodes,
        }


def assigned(session: Any) -> dict[str, Counter[str]]:
    """Operators that each provider was given; a subgraph that it compiles counts with all of its nodes."""
    counts: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        counts.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return counts


def executed(precision: str, operators: Mapping[str, int]) -> str:
    """What the products of a graph run in: those between Q/DQ pairs that no INT8 kernel took over run in fp32."""
    if precision != "int8":
        return precision
    integer, real = (sum(operators.get(name, 0) for name in names) for names in (INT8_WORK, FLOAT_WORK))
    return effective({"int8": integer, "fp32": real})


def require(provider: str, given: Sequence[str], nodes: Mapping[str, int]) -> None:
    """Raise Unsupported unless the session runs on ``provider``, and most of its nodes do.

    The few nodes that compute shapes stay on the CPU by design.
    """
    if given[0] != provider:
        raise Unsupported(
            f"asked for {provider}, but ONNX Runtime silently fell back to {', '.join(given)}: a library of CUDA, "
            "cuDNN or TensorRT 10 (libnvinfer.so.10; 11 does not do) is missing, and the log of this row names it"
        )
    if 2 * nodes.get(provider, 0) < sum(nodes.values()):
        shares = ", ".join(f"{name} {count}" for name, count in nodes.items())
        raise Unsupported(
            f"{provider} runs less than half of the nodes of this graph ({shares}): this would not be its row"
        )

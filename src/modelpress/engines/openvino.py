"""OpenVINO on CPU: one IR file, one plan per precision hint; the effective precision is read back per layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelpress.benchmark.machine import default_threads
from modelpress.engines.base import Arrays, Artifact, Engine, Hardware, Plan, Session, Unsupported
from modelpress.engines.graph import inspect
from modelpress.engines.precision import NAMES, effective, require_cpu
from modelpress.errors import one_of

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}
WORK = frozenset({"FullyConnected", "MatMul", "Convolution", "Deconvolution", "ScaledDotProductAttention", "RNNSeq"})


class OpenVino(Engine):
    """A float graph gives one plan per precision; a quantized one a single ``int8`` plan.

    The layers of a quantized graph that stay in floating point run in the fastest precision asked for. ``cache`` keeps
    compiled models next to the plan: it shortens the load of a second start and is off by default, because a cold
    start is then no longer one.
    """

    name = "openvino"
    extension = ".xml"
    runtimes = ("openvino",)

    def __init__(self, precisions: Sequence[str] = ("fp32", "bf16"), cache: bool = False) -> None:
        super().__init__([one_of("engine.openvino.precisions", given, HINTS) for given in precisions])
        self.cache = cache

    def build(self, artifact: Artifact, hardware: Hardware, folder: Path) -> list[Plan]:
        """Convert once (``<tower>.xml`` and ``.bin``). Raises Unsupported if no precision asked for can run here.

        If only some cannot, their plans are made all the same; opening one raises Unsupported with the reason.
        """
        require_cpu(hardware.accelerator, self.name)
        graph = inspect(artifact.onnx)
        reasons = {name: why for name in self.precisions if (why := lacking(name))}
        if len(reasons) == len(self.precisions):
            raise Unsupported("; ".join(reasons.values()))
        file = convert(artifact.onnx, folder / f"{artifact.tower}{self.extension}")
        settings = {
            "threads": hardware.threads or default_threads(),
            "cache": self.cache,
        }
        possible = [name for name in self.precisions if name not in reasons]
        rest = "bf16" if "bf16" in possible else possible[0]  # the precision of what is not quantized
        asked = {"int8": rest} if graph.precision == "int8" else {name: name for name in self.precisions}
        target = f"{__name__}.{type(self).__qualname__}"
        return [Plan(self.name, target, name, str(file), {**settings, "float": kind}) for name, kind in asked.items()]

    @classmethod
    def open(cls, plan: Plan) -> Session:
        """Compile with the latency hint, the plan's precision hint and threads."""
        import openvino as ov

        if why := lacking(plan.settings["float"]):
            raise Unsupported(why)
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": HINTS[plan.settings["float"]],
            "INFERENCE_NUM_THREADS": plan.settings["threads"],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if plan.settings["cache"]:
            config["CACHE_DIR"] = str(Path(plan.file).parent / "cache")
        return OpenVinoSession(ov.Core().compile_model(plan.file, "CPU", config), plan)


class OpenVinoSession(Session):
    """One compiled model with one infer request.

    ``run`` sets shared tensors and calls the binding below ``InferRequest.infer``, whose convenience layer would be a
    visible share of a small network's latency (``bench/benchmark_app.py`` compares with OpenVINO's own tool).
    """

    def __init__(self, compiled: Any, plan: Plan) -> None:
        import openvino as ov

        self.compiled = compiled
        self.plan = plan
        self.tensor = ov.Tensor
        self.request = compiled.create_infer_request()
        binding: Any = super(ov.InferRequest, self.request)
        self.infer = binding.infer
        ports = enumerate(compiled.inputs)
        self.ports = [
            (i, port.get_any_name(), port.get_names(), port.get_element_type().to_dtype()) for i, port in ports
        ]
        self.outputs = [port.get_any_name() for port in compiled.outputs]
        self.work = layer_precisions(compiled, WORK)
        self.precision = effective(self.work) if self.work else NAMES[hint_of(compiled)]

    def run(self, inputs: Arrays) -> dict[str, Any]:
        """Inputs that the graph does not have are left out; outputs are copies. Raises KeyError for a missing input."""
        shared = []  # OpenVINO reads these arrays in place: they must live until infer returns
        for index, name, names, kind in self.ports:
            array = np.ascontiguousarray(inputs[name if name in inputs else _alias(names, inputs)], kind)
            shared.append(array)
            self.request.set_input_tensor(index, self.tensor(array, True))
        return dict(zip(self.outputs, self.infer({}, False, False).values(), strict=True))

    def details(self) -> dict[str, Any]:
        """Effective hint, threads, and how many working and all floating-point layers ran in which precision."""
        import openvino as ov

        floating = {k: n for k, n in layer_precisions(self.compiled, None).items() if k != "int8"}
        total = sum(floating.values())
        return {
            "runtime": f"openvino {ov.__version__.split('-')[0]}",
            "precision_asked": self.plan.settings["float"],
            "precision_hint": hint_of(self.compiled),
            "threads": self.compiled.get_property("INFERENCE_NUM_THREADS"),
            "streams": int(self.compiled.get_property("NUM_STREAMS")),
            "working_layers": self.work,
            "float_layer_share": {name: round(count / total, 3) for name, count in floating.items()},
            "instructions": requirement(self.compiled, "isa"),
        }


def lacking(precision: str) -> str | None:
    """Why this machine cannot run a float precision in OpenVINO; ``None`` if it can."""
    have = capabilities()
    if CAPABILITIES[precision] in have:
        return None
    return f"this processor has no {precision} instructions that OpenVINO can use (it offers {', '.join(have)})"


def capabilities() -> list[str]:
    """What OpenVINO's CPU plugin can compute on this machine, e.g. ``["FP32", "BF16", "INT8"]``."""
    import openvino as ov

    return [str(name) for name in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")]


def convert(onnx_file: Path, target: Path) -> Path:
    """ONNX -> OpenVINO IR, weights kept as they are. Raises Unsupported if OpenVINO cannot read the graph."""
    import openvino as ov

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        model = ov.Core().read_model(str(onnx_file))
    except RuntimeError as error:
        raise Unsupported(f"OpenVINO cannot read {onnx_file.name}: {str(error).strip().splitlines()[-1]}") from error
    ov.save_model(model, str(target), compress_to_fp16=False)
    return target


def hint_of(compiled: Any) -> str:
    """The precision hint that took effect, e.g. ``bf16``."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())


def requirement(compiled: Any, key: str) -> str | None:
    """One ``key=value`` of the compiled model's RUNTIME_REQUIREMENTS."""
    if "RUNTIME_REQUIREMENTS" not in compiled.get_property("SUPPORTED_PROPERTIES"):
        return None
    pairs = [part.partition("=") for part in str(compiled.get_property("RUNTIME_REQUIREMENTS")).split(";")]
    return next((value for name, _, value in pairs if name == key), None)


def layer_precisions(compiled: Any, kinds: frozenset[str] | None) -> dict[str, int]:
    """Executed layers per precision; ``kinds`` picks layer types, ``None`` takes all but constants."""
    counts: Counter[str] = Counter()
    for layer in compiled.get_runtime_model().get_ordered_ops():
        facts: Mapping[str, Any] = layer.get_rt_info()
        kind, precision = (_text(facts[key]) for key in ("layerType", "runtimePrecision"))
        wanted = kind in kinds if kinds is not None else kind not in ("Const", "Input", "Output")
        if wanted and precision in NAMES:
            counts[NAMES[precision]] += 1
    return dict(counts.most_common())


def _alias(names: set[str], inputs: Arrays) -> str:
    """The name under which this input was given (a port may have several)."""
    for name in names:
        if name in inputs:
            return name
    raise KeyError(f"input {min(names)!r} is missing; given: {', '.join(sorted(inputs))}")


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))

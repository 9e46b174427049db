"""OpenVINO on CPU: one IR file, one plan per precision hint; the effective precision is read back per layer."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelpress.benchmark.machine import default_threads, machine
from modelpress.engines.base import Arrays, Artifact, Engine, Hardware, Plan, Session, Unsupported
from modelpress.engines.graph import Graph, inspect
from modelpress.engines.openvino_core import core, lacking
from modelpress.engines.openvino_layers import WORK, counts, int8_matmuls, layers, sparse_weights, unfused
from modelpress.engines.precision import NAMES, effective, require_cpu
from modelpress.engines.spelling import spelled
from modelpress.errors import ModelPressError, one_of

if TYPE_CHECKING:
    import onnx

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVino(Engine):
    """A float graph gives one plan per precision; a quantized one a single ``int8`` plan.

    The layers of a quantized graph that stay in floating point run in the fastest precision asked for. ``cache`` keeps
    compiled models next to the plan: it shortens the load of a second start and is off by default, because a cold
    start is then no longer one. ``sparse_weights``: INT8 weights of which at least this share is zero are kept packed
    and unpacked in use, which saves memory traffic on processors with AMX; null: never. The row says what became of it.
    """

    name = "openvino"
    extension = ".xml"
    runtimes = ("openvino",)

    def __init__(
        self,
        precisions: Sequence[str] = ("fp32", "bf16"),
        cache: bool = False,
        sparse_weights: float | None = None,
    ) -> None:
        super().__init__([one_of("engine.openvino.precisions", given, HINTS) for given in precisions])
        if sparse_weights is not None and not 0 < sparse_weights < 1:
            allowed = "a share of zeros between 0 and 1, such as 0.8, or null"
            raise ModelPressError(f"engine.openvino.sparse_weights is {sparse_weights}; allowed: {allowed}.")
        self.cache = cache
        self.sparse_weights = sparse_weights

    def build(self, artifact: Artifact, hardware: Hardware, folder: Path) -> list[Plan]:
        """Convert once (``<tower>.xml`` and ``.bin``).

        If only some precisions cannot run here, their plans are made all the same; opening one raises Unsupported.

        Raises:
            Unsupported: no precision asked for can run here, or OpenVINO cannot read the file.
            ModelPressError: ModelPress quantized the file and it breaks the portable contract.
        """
        require_cpu(hardware.accelerator, self.name)
        graph = inspect(artifact.onnx)
        reasons = {name: why for name in self.precisions if (why := lacking(name))}
        if len(reasons) == len(self.precisions):
            raise Unsupported("; ".join(reasons.values()))
        lowered = spelled(artifact.onnx, graph, self.name)
        file = convert(artifact.onnx, folder / f"{artifact.tower}{self.extension}", lowered)
        settings = {
            "threads": hardware.threads or default_threads(),
            "cache": self.cache,
            "products": graph.products,
            "sparse_weights": self.sparse_weights,
        }
        asked = self._asked(graph, [name for name in self.precisions if name not in reasons])
        target = f"{__name__}.{type(self).__qualname__}"
        return [Plan(self.name, target, name, str(file), {**settings, "float": kind}) for name, kind in asked.items()]

    def _asked(self, graph: Graph, possible: Sequence[str]) -> dict[str, str]:
        """Precision of each plan -> what its float layers are computed in."""
        if graph.precision == "int8":
            return {"int8": "bf16" if "bf16" in possible else possible[0]}
        if graph.precision == "bf16":  # such a file runs in bf16 whatever is asked for
            return {"bf16": "bf16"}
        if graph.precision == "fp16":  # without fp16 instructions f16 would silently become bf16
            return {"fp16": "fp32" if lacking("fp16") else "fp16"}
        return {name: name for name in self.precisions}

    @classmethod
    def open(cls, plan: Plan) -> Session:
        """Compile with the latency hint, the plan's precision hint and threads."""
        if why := lacking(plan.settings["float"]):
            raise Unsupported(why)
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": HINTS[plan.settings["float"]],
            "INFERENCE_NUM_THREADS": plan.settings["threads"],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if plan.settings["cache"]:
            config["CACHE_DIR"] = str(Path(plan.file).parent / "cache")
        if plan.settings["sparse_weights"] is not None:
            config["CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"] = plan.settings["sparse_weights"]
        return OpenVinoSession(core().compile_model(plan.file, "CPU", config), plan)


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
        self.layers = layers(compiled)
        self.work = counts(self.layers, WORK)
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

        floating = {k: n for k, n in counts(self.layers, None).items() if k != "int8"}
        total = sum(floating.values())
        quantized = {
            "int8_matmuls": int8_matmuls(self.layers, self.plan.settings["products"]),
            "unfused": unfused(self.layers, self.plan.settings["products"]),
        }
        return {
            **(quantized if self.plan.precision == "int8" else {}),
            **self._sparse(),
            "runtime": f"openvino {ov.__version__.split('-')[0]}",
            "precision_asked": self.plan.settings["float"],
            "precision_hint": hint_of(self.compiled),
            "threads": self.compiled.get_property("INFERENCE_NUM_THREADS"),
            "streams": int(self.compiled.get_property("NUM_STREAMS")),
            "working_layers": self.work,
            "float_layer_share": {name: round(count / total, 3) for name, count in floating.items()},
            "instructions": requirement(self.compiled, "isa"),
        }

    def _sparse(self) -> dict[str, Any]:
        asked = self.plan.settings["sparse_weights"]
        if asked is None:
            return {}
        return {"sparse_weights": sparse_weights(self.layers, asked, "amx_int8" in machine()["flags"])}


def convert(onnx_file: Path, target: Path, lowered: onnx.ModelProto | None = None) -> Path:
    """ONNX file (or what it was lowered to) -> OpenVINO IR, weights kept as they are.

    Raises Unsupported if OpenVINO cannot read the graph; the nodes at fault are named.
    """
    import openvino as ov

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        source = onnx_file if lowered is None else _written(lowered, Path(scratch) / onnx_file.name)
        try:
            model = core().read_model(str(source))
        except RuntimeError as error:
            why = str(error).strip().splitlines()[-1]
            raise Unsupported(f"OpenVINO cannot read {onnx_file.name}: {why}{_culprits(source, why)}") from error
        ov.save_model(model, str(target), compress_to_fp16=False)
        del model  # it maps the weights of the scratch file
    return target


def _written(proto: onnx.ModelProto, path: Path) -> Path:
    import onnx

    onnx.save(proto, str(path))
    return path


def _culprits(onnx_file: Path, why: str) -> str:
    """The nodes of the operators that OpenVINO has no rule for, which its message gives by type."""
    import onnx

    _, found, listed = why.partition("No conversion rule found for operations: ")
    types = {entry.strip().rpartition("-")[0].rpartition(".")[2] or entry.strip() for entry in listed.split(",")}
    if not found:
        return ""
    nodes = onnx.load(str(onnx_file), load_external_data=False).graph.node
    names = [node.name or node.output[0] for node in nodes if node.op_type in types]
    return f" (nodes {', '.join(names)}); replace these layers or export with another opset"


def hint_of(compiled: Any) -> str:
    """The precision hint that took effect, e.g. ``bf16``."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())


def requirement(compiled: Any, key: str) -> str | None:
    """One ``key=value`` of the compiled model's RUNTIME_REQUIREMENTS."""
    if "RUNTIME_REQUIREMENTS" not in compiled.get_property("SUPPORTED_PROPERTIES"):
        return None
    pairs = [part.partition("=") for part in str(compiled.get_property("RUNTIME_REQUIREMENTS")).split(";")]
    return next((value for name, _, value in pairs if name == key), None)


def _alias(names: set[str], inputs: Arrays) -> str:
    """The name under which this input was given (a port may have several)."""
    for name in names:
        if name in inputs:
            return name
    raise KeyError(f"input {min(names)!r} is missing; given: {', '.join(sorted(inputs))}")

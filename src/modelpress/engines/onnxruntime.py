"""ONNX Runtime on CPUs: runs the ONNX file as it is, or its lowered twin if ModelPress quantized it.

Its precision is that of the graph; what really runs is read back from the optimized graph.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.benchmark.machine import default_threads, machine
from modelpress.engines.base import Arrays, Artifact, Engine, Hardware, Plan, Session, Unsupported
from modelpress.engines.files import link
from modelpress.engines.graph import Graph, inspect
from modelpress.engines.int8 import FLOAT_WORK, INT8_WORK, executed_matmuls, unfused
from modelpress.engines.precision import effective, require_cpu
from modelpress.engines.spelling import spelled
from modelpress.errors import one_of

if TYPE_CHECKING:
    import onnx

CPU = "CPUExecutionProvider"
PRECISIONS = ("fp32", "fp16", "int8")
VNNI = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})


class OnnxRuntime(Engine):
    """``precisions`` says which graphs are wanted: ONNX Runtime itself converts nothing.

    A quantized (Q/DQ) or fp16 graph makes a plan whatever ``precisions`` says, because that is what the file holds.
    """

    name = "onnxruntime"
    extension = ".onnx"
    runtimes = ("onnxruntime",)

    def __init__(self, precisions: Sequence[str] = ("fp32",), intra_op_spinning: bool = True) -> None:
        super().__init__([one_of("engine.onnxruntime.precisions", given, PRECISIONS) for given in precisions])
        self.intra_op_spinning = intra_op_spinning

    def build(self, artifact: Artifact, hardware: Hardware, folder: Path) -> list[Plan]:
        """One plan: the ONNX file (linked into ``folder``, or written there as it was lowered) and session options.

        The operators left after optimization on this machine are counted here and kept with the plan.

        Raises:
            Unsupported: ONNX Runtime cannot run the file; the sentences name nodes and say what to do.
            ModelPressError: ModelPress quantized the file and it breaks the portable contract.
        """
        require_cpu(hardware.accelerator, "onnxruntime")
        graph = inspect(artifact.onnx)
        self._refuse(graph)
        settings: dict[str, Any] = {
            "threads": hardware.threads or default_threads(),
            "provider": CPU,
            "spinning": self.intra_op_spinning,
            "u8_weights": saturates(),
        }
        file = folder / f"{artifact.tower}{self.extension}"
        place(artifact.onnx, graph, file, on_cpu=True)
        optimized = optimized_graph(file, settings, artifact.onnx.name)
        operators = dict(Counter(node.op_type for node in optimized.node).most_common())
        settings |= {"operators": operators, "effective": executed_precision(operators, graph)}
        if graph.precision == "int8":
            matmuls, left = executed_matmuls(optimized, graph.products), unfused(optimized, graph.products)
            settings |= {"int8_matmuls": matmuls, "unfused": left}
        target = f"{__name__}.{type(self).__qualname__}"
        return [Plan(self.name, target, graph.precision, str(file), settings)]

    def _refuse(self, graph: Graph) -> None:
        if graph.precision == "bf16":
            raise Unsupported("ONNX Runtime has no bf16 kernels for CPUs; OpenVINO runs this file (engine=[openvino])")
        if graph.precision not in ("int8", "fp16", *self.precisions):
            wanted = ", ".join(self.precisions)
            raise Unsupported(f"the graph is {graph.precision} and ONNX Runtime converts nothing; asked for {wanted}")

    @classmethod
    def open(cls, plan: Plan) -> Session:
        """Open the file."""
        import onnxruntime as ort

        session = ort.InferenceSession(plan.file, session_options(plan.settings), providers=[plan.settings["provider"]])
        return OnnxRuntimeSession(session, plan)


class OnnxRuntimeSession(Session):
    """An ``InferenceSession`` with the output names looked up once."""

    def __init__(self, session: Any, plan: Plan) -> None:
        self.session = session
        self.precision = str(plan.settings.get("effective", plan.precision))
        self.plan = plan
        self.outputs = [output.name for output in session.get_outputs()]
        self.inputs = {value.name for value in session.get_inputs()}

    def run(self, inputs: Arrays) -> dict[str, Any]:
        """Inputs that the graph does not have (a tokenizer may make more) are left out."""
        known = {name: array for name, array in inputs.items() if name in self.inputs}
        return dict(zip(self.outputs, self.session.run(self.outputs, known), strict=True))

    def details(self) -> dict[str, Any]:
        """Threads, providers and the operators that are left after optimization (fusions show here)."""
        import onnxruntime as ort

        return {
            "runtime": f"onnxruntime {ort.__version__}",
            "threads": self.session.get_session_options().intra_op_num_threads,
            "providers": self.session.get_providers(),
            "operators": dict(self.plan.settings["operators"]),
            **{key: self.plan.settings[key] for key in ("int8_matmuls", "unfused") if key in self.plan.settings},
        }


def place(source: Path, graph: Graph, target: Path, *, on_cpu: bool) -> None:
    """Put the file to run at ``target``: lowered where that changes it, else linked with its external weights.

    Raises ModelPressError or Unsupported as :func:`modelpress.engines.spelling.spelled` does.
    """
    lowered = spelled(source, graph, OnnxRuntime.name) if on_cpu else None
    if lowered is None:
        link(source, target)
        for name in graph.external:
            link(source.parent / name, target.parent / name)
        return
    import onnx

    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(lowered, str(target))


def saturates() -> bool:
    """Whether U8 x S8 kernels overflow here: x86 without VNNI. There U8 x U8 is right; with VNNI it is slower."""
    flags = set(machine()["flags"])
    return "avx2" in flags and not flags & VNNI


def session_options(settings: Any) -> Any:
    """Threads as told, all graph optimizations (the default), warnings off, INT8 sums that do not overflow."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings["spinning"] else "0")
    options.add_session_config_entry("session.x64quantprecision", "1" if settings["u8_weights"] else "0")
    return options


def optimized_graph(onnx_file: Path, settings: dict[str, Any], name: str) -> onnx.GraphProto:
    """The graph that ONNX Runtime really executes on this machine. Raises Unsupported if it cannot open ``name``."""
    import onnx
    import onnxruntime as ort

    with tempfile.TemporaryDirectory(dir=onnx_file.parent) as scratch:
        options = session_options(settings)
        options.optimized_model_filepath = str(Path(scratch) / "optimized.onnx")
        try:
            ort.InferenceSession(str(onnx_file), options, providers=[settings["provider"]])
        except Exception as error:  # its exceptions share no public base class
            raise Unsupported(f"ONNX Runtime cannot open {name}: {str(error).splitlines()[0]}") from error
        return onnx.load(options.optimized_model_filepath, load_external_data=False).graph


def executed_precision(operators: dict[str, int], graph: Graph) -> str:
    """Precision of the operators that multiply: ``int8`` kernels, or the graph's float type.

    fp16 is widened to fp32 as a whole, which also hides its overflows.
    """
    integer = sum(operators.get(name, 0) for name in INT8_WORK)
    real = sum(operators.get(name, 0) for name in FLOAT_WORK)
    kind = graph.precision if graph.precision not in ("int8", "fp16") else "fp32"
    return effective({"int8": integer, kind: real}) if integer else kind

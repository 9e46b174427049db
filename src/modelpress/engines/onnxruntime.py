"""ONNX Runtime: runs the ONNX file as it is. Its precision is that of the graph; read back from the optimized graph."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelpress.benchmark.machine import default_threads
from modelpress.engines.base import Arrays, Artifact, Engine, Hardware, Plan, Session, Unsupported
from modelpress.engines.files import link
from modelpress.engines.graph import Graph, inspect
from modelpress.engines.precision import effective
from modelpress.errors import one_of

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
PRECISIONS = ("fp32", "fp16", "int8")
FLOAT_WORK = frozenset(
    {"Attention", "Conv", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul", "MultiHeadAttention"}
)
INT8_WORK = frozenset(
    {"ConvInteger", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits", "QAttention"}
    | {"QGemm", "QLinearConv", "QLinearMatMul"}
)


class OnnxRuntime(Engine):
    """``precisions`` says which graphs are wanted: ONNX Runtime itself converts nothing.

    A quantized graph (Q/DQ) makes an ``int8`` plan whatever ``precisions`` says, because that is what the file holds.
    """

    name = "onnxruntime"
    extension = ".onnx"
    runtimes = ("onnxruntime",)

    def __init__(self, precisions: Sequence[str] = ("fp32",), intra_op_spinning: bool = True) -> None:
        super().__init__([one_of("engine.onnxruntime.precisions", given, PRECISIONS) for given in precisions])
        self.intra_op_spinning = intra_op_spinning

    def build(self, artifact: Artifact, hardware: Hardware, folder: Path) -> list[Plan]:
        """One plan: the ONNX file (linked into ``folder``) with its session options.

        The operators left after optimization on this machine are counted here and kept with the plan.
        """
        graph = inspect(artifact.onnx)
        if graph.precision != "int8" and graph.precision not in self.precisions:
            wanted = ", ".join(self.precisions)
            raise Unsupported(f"the graph is {graph.precision} and ONNX Runtime converts nothing; asked for {wanted}")
        settings: dict[str, Any] = {
            "threads": hardware.threads or default_threads(),
            "provider": provider(hardware.accelerator),
            "spinning": self.intra_op_spinning,
        }
        file = link(artifact.onnx, folder / f"{artifact.tower}{self.extension}")
        for name in graph.external:
            link(artifact.onnx.parent / name, folder / name)
        operators = optimized_operators(artifact.onnx, settings, folder)
        settings |= {"operators": operators, "effective": executed_precision(operators, graph)}
        target = f"{__name__}.{type(self).__qualname__}"
        return [Plan(self.name, target, graph.precision, str(file), settings)]

    @classmethod
    def open(cls, plan: Plan) -> Session:
        """Open the file; refuse a session that fell back to another execution provider."""
        import onnxruntime as ort

        wanted = plan.settings["provider"]
        providers = [wanted] if wanted == PROVIDERS["cpu"] else [wanted, PROVIDERS["cpu"]]
        session = ort.InferenceSession(plan.file, session_options(plan.settings), providers=providers)
        if session.get_providers()[0] != wanted:
            raise Unsupported(f"asked for {wanted}, but ONNX Runtime silently fell back to {session.get_providers()}")
        return OnnxRuntimeSession(session, plan)


class OnnxRuntimeSession(Session):
    """An ``InferenceSession`` with the output names looked up once."""

    def __init__(self, session: Any, plan: Plan) -> None:
        self.session = session
        self.precision = str(plan.settings["effective"])
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
        }


def provider(accelerator: str) -> str:
    """The execution provider for an accelerator. Raises Unsupported if the installed wheel does not have it."""
    import onnxruntime as ort

    wanted = PROVIDERS[one_of("hardware.accelerator", accelerator, PROVIDERS)]
    if wanted not in ort.get_available_providers():
        available = ", ".join(ort.get_available_providers())
        raise Unsupported(f"the installed onnxruntime has no {wanted} (it has {available}); onnxruntime-gpu has it")
    return wanted


def session_options(settings: Any) -> Any:
    """Threads as told, all graph optimizations (the default), warnings off."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings["spinning"] else "0")
    return options


def optimized_operators(onnx_file: Path, settings: dict[str, Any], folder: Path) -> dict[str, int]:
    """Count of each operator in the graph that ONNX Runtime really executes on this machine."""
    import onnx
    import onnxruntime as ort

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        options = session_options(settings)
        options.optimized_model_filepath = str(Path(scratch) / "optimized.onnx")
        try:
            ort.InferenceSession(str(onnx_file), options, providers=[settings["provider"]])
        except Exception as error:  # its exceptions share no public base class
            raise Unsupported(f"ONNX Runtime cannot open {onnx_file.name}: {str(error).splitlines()[0]}") from error
        graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
    return dict(Counter(node.op_type for node in graph.node).most_common())


def executed_precision(operators: dict[str, int], graph: Graph) -> str:
    """Precision of the operators that multiply: ``int8`` kernels, or the graph's float type."""
    integer = sum(operators.get(name, 0) for name in INT8_WORK)
    real = sum(operators.get(name, 0) for name in FLOAT_WORK)
    kind = graph.precision if graph.precision != "int8" else "fp32"
    return effective({"int8": integer, kind: real}) if integer else kind

"""TensorRT and TensorRT-RTX: one engine per precision, built for ranges of shapes, run on CUDA streams.

Nothing is converted silently: networks are strongly typed, so an engine computes in the types of its graph.
TensorRT-RTX builds without a GPU; such engines are rows that say that they were not executed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from modelpress.benchmark.machine import default_threads
from modelpress.engines import driver
from modelpress.engines.base import Artifact, Engine, Hardware, Plan, Session, Unsupported
from modelpress.engines.graph import Graph, inspect
from modelpress.engines.graph import load as load_graph
from modelpress.engines.spelling import spelled
from modelpress.engines.trt import calibrator, sidecar
from modelpress.engines.trt.build import Built, Options, build
from modelpress.engines.trt.fit import Fit, automatic
from modelpress.engines.trt.load import gpu, installed, load
from modelpress.engines.trt.profiles import KINDS, Profile, parse
from modelpress.engines.trt.runtime import RuntimeCache, cache_path
from modelpress.errors import ModelPressError, one_of

if TYPE_CHECKING:
    import onnx

PRECISIONS = ("fp32", "fp16", "bf16")
PADDING = ("refuse", "outside", "edges")
CALIBRATIONS = ("qdq", calibrator.NAME)
GRAPH = "_graph"  # ends the engine's name of rows with CUDA graphs
CODE = ("build", "calibrator", "fit", "layers", "load", "profiles", "runtime", "session", "sidecar", "stream")


@dataclass(frozen=True)
class Typed:
    """A graph in the types to build it in. ``floats``: what its layers that are not INT8 compute in."""

    precision: str
    floats: str
    proto: onnx.ModelProto


class TensorRT(Engine):
    """NVIDIA's TensorRT 10.12 or newer, on the GPU of this machine.

    Args:
        precisions: of a float32 graph, one engine each; with fp16 among them, what a quantized graph leaves in float
            computes in fp16. A graph in other types is built as it is.
        profiles: ``auto``, or a list of ``{min: 1x16, opt: 8x64, max: 32x128}``, each shape for all inputs or by input.
        max_profiles: of ``auto``, which fits them to the lengths of the training items.
        batch: of ``auto``: the smallest, the one to be fastest at, and the largest.
        max_length: of ``auto``: the longest text, where the dataset has no longer ones.
        padding: what happens to a request outside every profile: ``refuse``; ``outside``: it is padded to the next
            shape; ``edges``: every request is padded to the largest length of its profile.
        streams: requests in flight where throughput is measured, each in a context and on a CUDA stream of its own.
        cuda_graphs: one row each; with them requests are padded to ``edges``, because a graph is of one shape.
        tf32: let float32 products round their inputs to TF32.
        timing_cache: folder that keeps kernel timings between builds; null: none.
        calibration: ``qdq``: INT8 is in the graph; ``entropy_calibrator_2``: TensorRT 10 makes it of a float32 graph.
        calibration_requests: the requests file (.npz) that it calibrates on.
        compute_capabilities: GPUs to build for, such as ``["86", "120"]`` (TensorRT-RTX only); empty: all it knows.
        runtime_cache: keep the kernels that TensorRT-RTX compiles when it opens an engine, beside the engine.
    """

    name = "tensorrt"
    compiles_when_opened: ClassVar[bool] = False
    extension = ".engine"
    runtimes: ClassVar[tuple[str, ...]] = ("tensorrt", "torch")
    code = (*(f"modelpress.engines.trt.{name}" for name in CODE), "modelpress.export.lower_tensorrt")

    def __init__(
        self,
        precisions: Sequence[str] = ("fp32",),
        profiles: str | Sequence[Mapping[str, Any]] = "auto",
        max_profiles: int = 4,
        batch: Sequence[int] = (1, 1, 32),
        max_length: int = 128,
        padding: str = "refuse",
        streams: int = 1,
        cuda_graphs: Sequence[bool] = (False,),
        tf32: bool = False,
        timing_cache: str | None = None,
        calibration: str = "qdq",
        calibration_requests: str | None = None,
        compute_capabilities: Sequence[str] = (),
        runtime_cache: bool = False,
    ) -> None:
        key = f"engine.{self.name}"
        super().__init__([one_of(f"{key}.precisions", given, PRECISIONS) for given in precisions])
        if isinstance(profiles, str):
            one_of(f"{key}.profiles", profiles, ("auto",))
        if len(batch) != len(KINDS) or not 1 <= batch[0] <= batch[1] <= batch[2]:
            raise ModelPressError(f"{key}.batch is {list(batch)}; it needs three sizes, 1 <= min <= opt <= max.")
        for name, given in (("max_profiles", max_profiles), ("max_length", max_length), ("streams", streams)):
            if given < 1:
                raise ModelPressError(f"{key}.{name} is {given}; it must be at least 1.")
        self.profiles, self.wants_lengths = profiles, profiles == "auto"
        self.max_profiles, self.batch, self.max_length = max_profiles, tuple(batch), max_length
        self.padding, self.streams = one_of(f"{key}.padding", padding, PADDING), streams
        self.cuda_graphs, self.tf32 = tuple(cuda_graphs), tf32
        self.timing_cache = Path(timing_cache) if timing_cache else None
        self.calibration = one_of(f"{key}.calibration", calibration, CALIBRATIONS)
        if (calibration == calibrator.NAME) != (calibration_requests is not None):
            raise ModelPressError(
                f"{key}.calibration is {calibration!r} and calibration_requests {calibration_requests}; "
                f"{calibrator.NAME} needs a requests file and nothing else reads one."
            )
        self.calibration_requests = Path(calibration_requests) if calibration_requests else None
        self.compute_capabilities = tuple(map(str, compute_capabilities))
        if runtime_cache and not self.compiles_when_opened:
            raise ModelPressError(
                f"{key}.runtime_cache is TensorRT-RTX's; TensorRT compiles when it builds: set it to false."
            )
        self.runtime_cache = runtime_cache

    def surroundings(self) -> dict[str, Any]:
        """Version and GPU: an engine is only good for these."""
        return {self.name: installed(self.name), "gpu": [asdict(device) for device in driver.probe().devices[:1]]}

    def build(self, artifact: Artifact, hardware: Hardware, folder: Path) -> list[Plan]:
        """One engine per precision with its sidecar; one plan for it without and with CUDA graphs, as asked.

        Raises:
            Unsupported: no such package, no GPU where one is needed, or TensorRT refuses the graph; says which node.
            ModelPressError: a profile does not fit the graph, or ModelPress quantized the file and it breaks the
                portable contract.
        """
        graph = inspect(artifact.onnx)
        profiles, fitted = self._profiles(graph, artifact.lengths)
        folder.mkdir(parents=True, exist_ok=True)
        plans: list[Plan] = []
        for typed in self._typed(artifact.onnx, graph):
            file = folder / f"{artifact.tower}_{typed.precision}{self.extension}"
            built = self._build(typed, profiles)
            file.write_bytes(built.plan)
            self._describe(built, typed, graph, artifact.onnx, profiles, fitted).save(file)
            plans += [self._plan(file, typed.precision, hardware, graphs=graphs) for graphs in self.cuda_graphs]
        return plans

    def _profiles(self, graph: Graph, lengths: Mapping[int, int]) -> tuple[list[Profile], Fit | None]:
        if not isinstance(self.profiles, str):
            where = f"engine.{self.name}.profiles"
            return [parse(given, graph.inputs, f"{where}[{i}]") for i, given in enumerate(self.profiles)], None
        longest = min(max([self.max_length, *lengths]), graph.longest or max([self.max_length, *lengths]))
        return automatic(graph.inputs, lengths, self.batch, longest, self.max_profiles)

    def _typed(self, file: Path, graph: Graph) -> list[Typed]:
        """The graphs to build, each in its types."""
        from modelpress.export.lower import quantized_here
        from modelpress.export.typed import convert

        proto = spelled(file, graph, "tensorrt") or load_graph(file)
        if graph.precision == "int8":
            if "fp16" in self.precisions and quantized_here(proto):
                return [Typed("int8", "fp16", convert(proto, "fp16", quantized=True))]
            return [Typed("int8", "fp32", proto)]
        if self.calibration == calibrator.NAME:
            return [Typed("int8", "fp16" if "fp16" in self.precisions else "fp32", proto)]
        if graph.precision != "fp32":
            return [Typed(graph.precision, graph.precision, proto)]
        return [Typed(name, name, proto if name == "fp32" else convert(proto, name)) for name in self.precisions]

    def _build(self, typed: Typed, profiles: Sequence[Profile]) -> Built:
        options = Options(profiles, self.tf32, self._timing_file(), self.compute_capabilities)
        data = typed.proto.SerializeToString()
        if self.calibration_requests is not None:
            return calibrator.build(self.name, data, options, self.calibration_requests, fp16=typed.floats == "fp16")
        return build(self.name, data, options)

    def _timing_file(self) -> Path | None:
        """One per version and GPU: timings of another are worthless."""
        if self.timing_cache is None:
            return None
        known = sidecar.digest(repr(self.surroundings()).encode())[:16]
        return self.timing_cache / f"{self.name}-{known}.timing"

    def _describe(
        self, built: Built, typed: Typed, graph: Graph, onnx: Path, profiles: list[Profile], fitted: Fit | None
    ) -> sidecar.Sidecar:
        trt, able = load(self.name)
        device = None if able.builds_without_gpu else gpu()
        return sidecar.Sidecar(
            flavour=self.name,
            version=trt.__version__,
            gpu=device.name if device else None,
            compute_capability=list(device.compute_capability) if device else None,
            precision=typed.precision,
            floats=typed.floats,
            tf32=self.tf32,
            profiles=sidecar.profiles_record(profiles),
            inputs={value.name: list(value.shape) for value in graph.inputs},
            outputs={name: list(shape) for name, shape in graph.output_shapes.items()},
            onnx_sha256=sidecar.digest(onnx.read_bytes()),
            engine_sha256=sidecar.digest(built.plan),
            build_seconds=round(built.seconds, 3),
            parse_seconds=round(built.parse_seconds, 3),
            fit={**asdict(fitted), "gain": fitted.gain} if fitted else None,
            products=graph.products,
            calibration=self.calibration,
        )

    def _plan(self, file: Path, precision: str, hardware: Hardware, *, graphs: bool) -> Plan:
        settings = {
            "threads": hardware.threads or default_threads(),
            "streams": self.streams,
            "cuda_graphs": graphs,
            "padding": "edges" if graphs else self.padding,
            "runtime_cache": self.runtime_cache,
        }
        target = f"{__name__}.{type(self).__qualname__}"
        return Plan(f"{self.name}{GRAPH if graphs else ''}", target, precision, str(file), settings)

    @classmethod
    def open(cls, plan: Plan) -> Session:
        """Refuse what was not built here, look for a driver, only then touch TensorRT's runtime.

        Raises:
            Unsupported: the engine is another version's or GPU's, or this machine cannot run it.
        """
        file = Path(plan.file)
        known = sidecar.read(file)
        trt, able = load(cls.name)
        sidecar.refuse_foreign(known, cls.name, trt.__version__)
        try:
            device = gpu()
        except Unsupported as reason:
            raise Unsupported(f"built, not executed: {reason}") from reason
        sidecar.refuse_other_gpu(known, device)
        from modelpress.engines.trt.session import TensorRTSession, deserialized

        keeps = plan.settings["runtime_cache"] and able.runtime_cache
        cache = RuntimeCache(cache_path(file, known, device)) if keeps else None
        return TensorRTSession(trt, deserialized(trt, file.read_bytes()), plan, known, cache)


class TensorRTRtx(TensorRT):
    """NVIDIA's TensorRT-RTX, for RTX cards (compute capability 7.5, 8.x, 12.x; not H100). Builds without a GPU."""

    name = "tensorrt_rtx"
    compiles_when_opened: ClassVar[bool] = True
    runtimes: ClassVar[tuple[str, ...]] = ("tensorrt_rtx", "torch")

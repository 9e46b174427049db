"""report.json, version 1: a stable interface. Closed lists are checked when a record is made."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from modelpress.errors import ModelPressError, one_of

SCHEMA_VERSION = 1
ROLES = ("baseline", "control", "candidate", "reference")
STATUSES = ("ok", "unstable", "failed", "unsupported")
VERDICTS = ("pays", "does_not_pay", "inconclusive")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "int8", "mixed")  # fp32: strict; tf32: products of 10-bit mantissas
ENGINES = (
    *("onnxruntime", "onnxruntime_cuda", "onnxruntime_tensorrt", "openvino", "torch", "torch_compile", "torchao"),
    *("tensorrt", "tensorrt_graph", "tensorrt_rtx", "tensorrt_rtx_graph"),  # _graph: launched as CUDA graphs
)
SHAPE = re.compile(r"data|\d+(x\d+)+")  # "data": the dataset's own lengths; otherwise fixed, batch first: "1x128"


@dataclass
class Interval:
    """A measured difference with its two-sided 95 % interval."""

    value: float
    ci_low: float
    ci_high: float


@dataclass
class Ratio:
    """How many times faster than the row ``vs``, with its two-sided 95 % interval."""

    vs: str
    ratio: float
    ci_low: float
    ci_high: float


@dataclass
class Latency:
    """Milliseconds. A percentile is ``None`` where the sample is too small to bound it."""

    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    min: float
    cov: float
    n: int


@dataclass
class Row:
    """model x tower x engine x effective precision x input shape. ``None``: could not be measured.

    ``details`` is free; the report understands these keys and uses each where it is present:

    * ``one_of_several``: other stages of this model have this role too, so it is called by its stage as well;
    * ``weights``: ``random`` where neither a checkpoint nor training decided them;
    * ``reasons``: ``{field name: why it is None}``, shown where the value would stand;
    * ``description``: what makes a control arm a control, e.g. ``"same start and steps, no teacher"``;
    * ``precision_asked``: what the engine was asked for, where it ran something else;
    * ``widths`` and ``kernel_multiple``: matrix and head widths, and what the hardware's kernels want;
    * ``compressed_mb``: size of the exported file after zlib; ``pruning``: how its weights were pruned;
    * ``operators``: how many operators one inference launches; ``unfused``: patterns left unfused in the graph.
    """

    id: str
    stage: str
    model: str
    role: str  # ROLES
    tower: str
    engine: str  # ENGINES
    precision: str  # PRECISIONS: what ran, not what was asked for
    device: str
    shape: str  # SHAPE
    status: str  # STATUSES
    metric: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    metric_n: int | None = None
    metric_drop: Interval | None = None
    agreement: float | None = None
    parity_max_abs: float | None = None
    params_m: float | None = None
    macs_g: float | None = None
    sparsity: float | None = None
    size_mb: float | None = None
    peak_memory_mb: float | None = None
    peak_device_memory_mb: float | None = None
    cold_start_ms: float | None = None
    latency_ms: Latency | None = None  # end to end: arrays in memory to answers in memory
    device_latency_ms: Latency | None = None  # kernels alone, inputs and outputs on the accelerator; None on CPUs
    preprocess_ms: float | None = None
    throughput_per_s: float | None = None
    energy_j_per_sample: float | None = None
    speedup: Ratio | None = None
    speedup_best: Ratio | None = None
    verdict: str | None = None  # VERDICTS; None: no candidate, not measured, or one tower of two
    why: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a word that is not in its closed list."""
        validate(self)


@dataclass
class Report:
    """One run, as a referee would want it."""

    name: str
    command: str
    dataset: dict[str, Any]
    task_metric: str
    seed: int
    rows: list[Row]
    verdict: dict[str, Any]
    complete: bool
    environment: dict[str, Any]
    lineage: list[dict[str, Any]]
    seconds: dict[str, float]
    reproduction: dict[str, Any] = field(default_factory=dict)  # see modelpress.reproduction
    schema_version: int = SCHEMA_VERSION

    def save(self, path: Path) -> None:
        """Write atomically. Raises :class:`ModelPressError` for NaN and infinity: JSON has neither."""
        for row in self.rows:
            validate(row)
        content = asdict(self)
        for name, value in _numbers("", content):
            if not math.isfinite(value):
                raise ModelPressError(f"{path.name} cannot hold {name} = {value}; a value not measured is None.")
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)


# Parts of a row that have parts themselves.
NESTED: dict[str, type[Any]] = {
    "metric_drop": Interval,
    "latency_ms": Latency,
    "device_latency_ms": Latency,
    "speedup": Ratio,
    "speedup_best": Ratio,
}
FIELDS = {cls: frozenset(entry.name for entry in fields(cls)) for cls in (Interval, Ratio, Latency, Row, Report)}


def validate(row: Row) -> None:
    """Raise :class:`ModelPressError` if a closed list is left."""
    where = f"Row {row.id!r}: "
    one_of(where + "role", row.role, ROLES)
    one_of(where + "status", row.status, STATUSES)
    one_of(where + "engine", row.engine, ENGINES)
    one_of(where + "precision", row.precision, PRECISIONS)
    if row.verdict is not None:
        one_of(where + "verdict", row.verdict, VERDICTS)
    if not SHAPE.fullmatch(row.shape):
        raise ModelPressError(f"{where}shape is {row.shape!r}; allowed: 'data', or sizes such as '1x128'.")


def load(path: Path) -> Report:
    """Read what :meth:`Report.save` wrote. Fields that this version does not know are left out.

    Raises :class:`ModelPressError`, naming the file, if it is missing, cut off, no report or of a newer schema.
    """
    content = _content(Path(path))
    version = content.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ModelPressError(
            f"{path} has schema_version {version!r}; this ModelPress reads up to {SCHEMA_VERSION}. Update ModelPress."
        )
    try:
        rows = [_row(entry) for entry in content.pop("rows")]
        return Report(rows=rows, **_known(Report, content))
    except (KeyError, TypeError, AttributeError) as fault:
        raise ModelPressError(f"{path} is JSON, but not a report of schema version {version}: {fault}.") from fault


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as fault:
        raise ModelPressError(f"There is no {path}. A finished run writes report.json into its folder.") from fault
    except OSError as fault:
        raise ModelPressError(f"{path} cannot be read: {fault.strerror}.") from fault
    except ValueError as fault:
        raise ModelPressError(f"{path} is cut off or damaged ({fault}). The same command again rebuilds it.") from fault
    if not isinstance(content, dict):
        raise ModelPressError(f"{path} holds a {type(content).__name__}; a report is a JSON object.")
    return content


def _row(entry: Mapping[str, Any]) -> Row:
    """Rebuild the nested records of one row."""
    known = _known(Row, entry)
    for name, cls in NESTED.items():
        if known.get(name) is not None:
            known[name] = cls(**_known(cls, known[name]))
    return Row(**known)


def _known(cls: type[Any], content: Mapping[str, Any]) -> dict[str, Any]:
    names = FIELDS[cls]
    return {name: value for name, value in content.items() if name in names}


def _numbers(name: str, value: object) -> Iterator[tuple[str, float]]:
    """Every float inside nested dicts and lists, with its address."""
    if isinstance(value, float):
        yield name, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _numbers(f"{name}.{key}".lstrip("."), entry)
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            yield from _numbers(f"{name}[{index}]", entry)

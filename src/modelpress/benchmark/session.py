"""What a benchmark takes and gives, and how it is kept on disk. No runtime is imported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from modelpress.benchmark.statistics import summarize
from modelpress.engines.base import Plan
from modelpress.errors import ModelPressError
from modelpress.report.record import Latency

RESULT = "measurements.json"
TRACE = "trace.npz"


@dataclass(frozen=True)
class Subject:
    """One engine to measure. ``id`` is unique in a session; ``inputs`` names what it is asked, by default its tower."""

    id: str
    plan: Plan
    inputs: str = ""

    @property
    def asked(self) -> str:
        """The name of its workloads and evaluation files."""
        return self.inputs or self.plan.tower


@dataclass(frozen=True)
class Workload:
    """One input shape (``1x128``, ``data``) and the requests file with its inputs, for engines that ask for them."""

    shape: str
    requests: Path
    inputs: str = "main"


@dataclass(frozen=True)
class Settings:
    """How long and how often; the values live in ``conf/benchmark/*.yaml``."""

    name: str
    minutes: float  # about how long nine engines take, for `modelpress plan`
    shapes: Sequence[str]  # 1x128: that many real tokens; data: the dataset's own lengths
    requests: int  # different inputs per shape
    repeat: int  # another number measures again; it changes nothing else
    rounds: int  # even: each order is followed by its reverse
    block_ms: float  # a block lasts this long AND answers block_queries, but never longer than block_limit_ms
    block_queries: int
    block_limit_ms: float
    rewarm_ms: float  # uncounted, after each SIGCONT
    warm_window_ms: float
    warm_min_ms: float
    warm_limit_ms: float
    warm_tolerance: float  # the medians of three windows agree within this
    throughput_batch: int
    throughput_s: float
    evaluate_batch: int
    cold_starts: int
    max_foreign_share: float  # beyond these three a row is unstable
    max_round_cov: float
    max_drift: float
    timeout_s: float  # for one answer of a worker; torch.compile may need minutes

    def __post_init__(self) -> None:
        """Raise ModelPressError for values that cannot work."""
        if self.rounds < 2 or self.rounds % 2:
            raise ModelPressError(f"benchmark.rounds is {self.rounds}; it must be even and at least 2 (A B B A).")
        for name in ("requests", "block_queries", "throughput_batch", "evaluate_batch", "cold_starts"):
            if getattr(self, name) < 1:
                raise ModelPressError(f"benchmark.{name} is {getattr(self, name)}; it must be at least 1.")
        positive = ("block_ms", "block_limit_ms", "warm_window_ms", "warm_limit_ms", "throughput_s", "timeout_s")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ModelPressError(f"benchmark.{name} is {getattr(self, name)}; it must be above 0.")


@dataclass
class Measurement:
    """One row: subject x shape. ``None`` where something could not be measured; ``why`` says why."""

    subject: str
    shape: str
    status: str  # ok | unstable | failed | unsupported
    why: str | None
    precision: str  # effective; the one asked for if the engine never opened
    latency_ms: Latency | None = None
    rounds: list[list[float]] = field(default_factory=list)  # every counted query, ms
    throughput_per_s: float | None = None
    peak_memory_mb: float | None = None  # while answering one request at a time, all shapes
    memory_above_interpreter_mb: float | None = None
    peak_device_memory_mb: float | None = None  # what opening and warming up took of the accelerator, context included
    cold_start_ms: float | None = None
    energy_j_per_sample: float | None = None
    device_latency_ms: Latency | None = None  # compute alone, on the accelerator; None on CPUs
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Session:
    """All rows of one session of balanced rounds; ratios between its rows are paired."""

    measurements: list[Measurement]
    logits: dict[str, Path]  # subject id -> .npy (n, ...) float32, in the order of the evaluation file
    machine_before: dict[str, Any]
    machine_after: dict[str, Any]
    seconds: float
    trace: Path
    settings: dict[str, Any]
    hardware: dict[str, Any]

    def of(self, subject: str, shape: str) -> Measurement:
        """The row of a subject and shape. Raises KeyError."""
        for row in self.measurements:
            if (row.subject, row.shape) == (subject, shape):
                return row
        raise KeyError((subject, shape))


def save_session(session: Session, folder: Path) -> None:
    """Write measurements.json and the raw trace; the JSON is written last and atomically."""
    save_trace(session.measurements, session.trace)
    record = {item.name: getattr(session, item.name) for item in fields(Session)}
    record["measurements"] = [_row(row) for row in session.measurements]
    record["logits"] = {name: _relative(path, folder) for name, path in session.logits.items()}
    record["trace"] = _relative(session.trace, folder)
    temporary = folder / f"{RESULT}.tmp"
    temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    temporary.replace(folder / RESULT)


def load_session(folder: Path) -> Session:
    """Read what :func:`save_session` wrote. Raises ModelPressError if it is missing or damaged."""
    try:
        record = json.loads((folder / RESULT).read_text())
        rounds = load_trace(folder / record["trace"])
        record["measurements"] = [
            _measurement(row, raw) for row, raw in zip(record["measurements"], rounds, strict=True)
        ]
        record["logits"] = {name: folder / path for name, path in record["logits"].items()}
        return Session(**{**record, "trace": folder / record["trace"]})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelPressError(f"no readable benchmark in {folder}: {error}. Run the benchmark again.") from error


def save_trace(measurements: Sequence[Measurement], path: Path) -> None:
    """All counted queries as ``NNNN_ms`` (concatenated) and ``NNNN_counts`` (queries per round)."""
    arrays: dict[str, Any] = {}
    for index, row in enumerate(measurements):
        flat = [value for block in row.rounds for value in block]
        arrays[f"{index:04d}_ms"] = np.asarray(flat, np.float64)
        arrays[f"{index:04d}_counts"] = np.asarray([len(block) for block in row.rounds], np.int64)
    np.savez(path, **arrays)


def load_trace(path: Path) -> list[list[list[float]]]:
    """Rounds of every row, in the order of the measurements."""
    with np.load(path, allow_pickle=False) as archive:
        pairs = [(archive[f"{i:04d}_ms"], archive[f"{i:04d}_counts"]) for i in range(len(archive.files) // 2)]
    return [_split(times, counts) for times, counts in pairs]


def _split(times: Any, counts: Any) -> list[list[float]]:
    return [part.tolist() for part in np.split(times, np.cumsum(counts)[:-1])] if len(counts) else []


def _row(row: Measurement) -> dict[str, Any]:
    return {key: value for key, value in asdict(row).items() if key != "rounds"}


def _measurement(record: dict[str, Any], rounds: list[list[float]]) -> Measurement:
    for name in ("latency_ms", "device_latency_ms"):
        record[name] = Latency(**record[name]) if record[name] else None
    return Measurement(**record, rounds=rounds)


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder))


def latency_of(rounds: Sequence[Sequence[float]]) -> Latency | None:
    """All queries of all rounds in one summary; ``None`` without any."""
    times = [value for block in rounds for value in block]
    return summarize(times) if times else None

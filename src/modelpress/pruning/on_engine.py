"""The latency of a network that is still being shaped, measured on the engine it is meant for."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.benchmark.machine import fingerprint as machine_fingerprint
from modelpress.benchmark.session import Measurement, Settings, Subject, Workload
from modelpress.engines.base import Artifact, Engine, Plan, Unsupported
from modelpress.errors import ModelPressError
from modelpress.job import Job
from modelpress.report.comparisons import median_interval
from modelpress.report.record import Interval
from modelpress.store import digest, write_atomic

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)
FILE = "latency.json"
SHAPE = "1x128"
NO_CONFIG = ("training",)  # attributes of a module that say nothing about its shape


class EngineLatency:
    """``latency(model)``: p50 of one request in ms, with its 95 % interval.

    The network is exported as it stands, built by the run's first deployable engine and timed in a fresh process, as
    the report does it, only shorter. The first call times every precision of the engine; the fastest is kept. What was
    measured stands in ``<folder>/latency.json``, so that a stage that was interrupted chooses the same shape again.

    Nothing is opened before the first call. Raises :class:`ModelPressError` if the engine cannot run the network.
    """

    def __init__(self, job: Job, data: Any, folder: Path) -> None:
        self.job, self.data, self.folder = job, data, folder

    def __call__(self, model: nn.Module) -> Interval:
        key = structure(model)
        if key not in self._record["measured"]:
            found = self._measure(model)
            self._record["measured"][key] = asdict(found)
            write_atomic(self.folder / FILE, json.dumps(self._record, indent=1))
            log.info("%s: p50 %.3g ms [%.3g, %.3g].", self, found.value, found.ci_low, found.ci_high)
        return Interval(**self._record["measured"][key])

    def __str__(self) -> str:
        return f"{self._name} {self._record['precision'] or ''} at {self._shape}".replace("  ", " ")

    @cached_property
    def _record(self) -> dict[str, Any]:
        path = self.folder / FILE
        if path.is_file():
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return record
        return {"engine": self._name, "precision": None, "shape": self._shape, "measured": {}}

    @property
    def _name(self) -> str:
        return engine_name(self.job)

    @property
    def _shape(self) -> str:
        shapes = list(self.job.config["benchmark"]["shapes"])
        return SHAPE if SHAPE in shapes else str(shapes[0])

    def _measure(self, model: nn.Module) -> Interval:
        from modelpress.benchmark.measure import measure
        from modelpress.export.onnx import export

        self.folder.mkdir(parents=True, exist_ok=True)
        settings = shortened(Settings(**self.job.config["benchmark"]))
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".latency-") as scratch:
            place = Path(scratch)
            onnx = export(model, place / "onnx")["main"]  # type: ignore[arg-type]
            plans = self._plans(self.job.engines[self._name], onnx, place)
            subjects = [Subject(plan.precision, plan) for plan in plans]
            workload = self._workload(place, settings.requests)
            session = measure(subjects, [workload], {}, settings, self.job.hardware, place / "session")
        return self._fastest({row.subject: row for row in session.measurements})

    def _plans(self, engine: Engine, onnx: Path, place: Path) -> list[Plan]:
        try:
            plans = engine.build(Artifact(onnx), self.job.hardware, place / "engine")
        except Unsupported as reason:
            raise ModelPressError(
                f"The latency of this network cannot be measured in {self._name}: {reason}."
            ) from reason
        return [plan for plan in plans if self._record["precision"] in (None, plan.precision)]

    def _workload(self, place: Path, limit: int) -> Workload:
        from modelpress.benchmark.requests import write

        length = None if self._shape == "data" else int(self._shape.rpartition("x")[2])
        arrays = self.data.requests("validation", length=length, limit=limit)
        return Workload(self._shape, write(place / "requests.npz", arrays))

    def _fastest(self, rows: Mapping[str, Measurement]) -> Interval:
        found = {name: interval(row) for name, row in rows.items() if row.status in ("ok", "unstable")}
        if not found:
            reasons = "; ".join(f"{name}: {row.why}" for name, row in rows.items())
            raise ModelPressError(f"The latency of this network cannot be measured in {self._name}: {reasons}.")
        name = min(found, key=lambda name: found[name].value)
        self._record["precision"] = name
        if rows[name].status == "unstable":
            log.warning("A latency was measured under foreign load (%s); the chosen shape may miss it.", rows[name].why)
        return found[name]


def engine_name(job: Job) -> str:
    """The run's first engine that can be deployed."""
    return str(next(name for name in job.config["engine"] if not name.startswith("torch")))


def deciding(job: Job) -> dict[str, Any]:
    """What a latency depends on beside the network, for the key of a stage whose shape a latency decides."""
    name = engine_name(job)
    kept = {key: value for key, value in job.config["benchmark"].items() if key not in ("minutes", "repeat")}
    return {
        "engine": {name: job.config["engine"][name]},
        "benchmark": kept,
        "hardware": asdict(job.hardware),
        "machine": machine_fingerprint(),
    }


def interval(row: Measurement) -> Interval:
    """p50 in ms of everything that was timed, with its 95 % interval over rounds."""
    import numpy as np

    low, high = median_interval(row.rounds)
    return Interval(float(np.median([ms for block in row.rounds for ms in block])), low, high)


def shortened(settings: Settings) -> Settings:
    """One cold start, at most 12 rounds of 200 ms, and nothing but latency."""
    most = {"rounds": 12, "block_ms": 200.0, "block_queries": 12, "cold_starts": 1, "requests": 64}
    most |= {"warm_window_ms": 150.0, "warm_min_ms": 500.0, "warm_limit_ms": 3000.0}
    changes: dict[str, Any] = {name: min(value, getattr(settings, name)) for name, value in most.items()}
    return replace(settings, throughput_batch=1, throughput_s=0.01, **changes)


def structure(model: nn.Module) -> str:
    """A digest of the shapes of all parameters and of the whole numbers that modules keep (heads, widths)."""
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    numbers = {
        f"{name}.{key}": value
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, int) and key not in NO_CONFIG and not key.startswith("_")
    }
    return digest([shapes, numbers])

"""The latency of a network that is still being shaped, measured on the engine it is meant for."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.benchmark.machine import fingerprint as machine_fingerprint
from modelpress.benchmark.session import Measurement, Settings, Subject, Workload
from modelpress.engines.base import Artifact, Plan, Unsupported
from modelpress.engines.pair import paired
from modelpress.errors import ModelPressError
from modelpress.job import Job
from modelpress.report.comparisons import median_interval
from modelpress.report.evidence import DECIDING
from modelpress.report.record import Interval
from modelpress.store import digest, write_atomic

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)
FILE = "latency.json"
SHAPE = "1x128"
NO_CONFIG = ("training",)  # attributes of a module that say nothing about its shape


class EngineLatency:
    """``latency(model)``: p50 of one request in ms, with its 95 % interval; of a dual encoder, of an image and a text.

    The network is exported as it stands, built by ``engines`` (the run's first that can be deployed) and timed in a
    fresh process, as the report does it, only shorter. The first call times every engine in every precision; the
    fastest is kept. What was measured stands in ``<folder>/latency.json``, so that a stage that was interrupted chooses
    the same shape again. ``disturbed`` says why, if the last measurement was under foreign load.

    Nothing is opened before the first call. Raises :class:`ModelPressError` if no engine can run the network.
    """

    def __init__(self, job: Job, data: Any, folder: Path, engines: Sequence[str] = ()) -> None:
        self.job, self.data, self.folder = job, data, folder
        self.engines = list(engines) or engine_names(job)[:1]
        self.disturbed: str | None = None

    def __call__(self, model: nn.Module) -> Interval:
        key = structure(model)
        if key not in self._record["measured"]:
            found = self._measure(model)
            self._record["measured"][key] = asdict(found)
            write_atomic(self.folder / FILE, json.dumps(self._record, indent=1))
            log.info("%s: p50 %.3g ms [%.3g, %.3g].", self, found.value, found.ci_low, found.ci_high)
        return Interval(**self._record["measured"][key])

    def __str__(self) -> str:
        engine, precision = self._record["engine"] or " or ".join(self.engines), self._record["precision"] or ""
        return f"{engine} {precision} at {self._record['shape']}".replace("  ", " ")

    @cached_property
    def _record(self) -> dict[str, Any]:
        path = self.folder / FILE
        if path.is_file():
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return record
        return {"engine": None, "precision": None, "shape": self._shape, "measured": {}}

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
            towers = export(model, place / "onnx")  # type: ignore[arg-type]
            plans = {f"{plan.engine} {plan.precision}": plan for plan in self._plans(towers, place)}
            subjects = [Subject(name, plan) for name, plan in plans.items()]
            workload = self._workload(place, settings.requests)
            session = measure(subjects, [workload], {}, settings, self.job.hardware, place / "session")
        name, found = self._fastest({row.subject: row for row in session.measurements})
        self._record |= {"engine": plans[name].engine, "precision": plans[name].precision, "shape": workload.shape}
        return found

    def _plans(self, towers: Mapping[str, Path], place: Path) -> list[Plan]:
        """Of every engine and precision; later, of the fastest alone. Of two towers, of both together."""
        plans, reasons = [], []
        for name in [self._record["engine"]] if self._record["engine"] else self.engines:
            try:
                plans += self._built(name, towers, place / name)
            except Unsupported as reason:
                reasons.append(f"{name}: {reason}")
        plans = paired(plans) if len(towers) > 1 else plans
        if not plans:
            raise self._unmeasurable(reasons)
        return [plan for plan in plans if self._record["precision"] in (None, plan.precision)]

    def _built(self, name: str, towers: Mapping[str, Path], place: Path) -> list[Plan]:
        engine, hardware = self.job.engines[name], self.job.hardware
        return [
            replace(plan, tower=tower)
            for tower, onnx in towers.items()
            for plan in engine.build(Artifact(onnx, tower=tower), hardware, place / tower)
        ]

    def _workload(self, place: Path, limit: int) -> Workload:
        from modelpress.benchmark.requests import write

        towers = self.data.workloads([self._shape], limit, split="validation")
        tower = next(tower for tower in DECIDING if tower in towers)
        ((shape, arrays),) = towers[tower].items()
        return Workload(shape, write(place / "requests.npz", arrays), tower)

    def _fastest(self, rows: Mapping[str, Measurement]) -> tuple[str, Interval]:
        found = {name: interval(row) for name, row in rows.items() if row.status in ("ok", "unstable")}
        if not found:
            raise self._unmeasurable([f"{name}: {row.why}" for name, row in rows.items()])
        name = min(found, key=lambda name: found[name].value)
        self.disturbed = rows[name].why if rows[name].status == "unstable" else None
        if self.disturbed:
            log.warning("A latency was measured under foreign load (%s); it may be too high.", self.disturbed)
        return name, found[name]

    def _unmeasurable(self, reasons: Sequence[str]) -> ModelPressError:
        said = "; ".join(reasons) or "the run has no engine that can be deployed (engine=[onnxruntime])"
        return ModelPressError(f"The latency of this network cannot be measured: {said}.")


def engine_names(job: Job) -> list[str]:
    """The run's engines that can be deployed."""
    return [name for name in job.config["engine"] if not name.startswith("torch")]


def deciding(job: Job, engines: Sequence[str] = ()) -> dict[str, Any]:
    """What a latency depends on beside the network, for the key of a stage whose shape a latency decides."""
    kept = {key: value for key, value in job.config["benchmark"].items() if key not in ("minutes", "repeat")}
    return {
        "engine": {name: job.config["engine"][name] for name in engines or engine_names(job)[:1]},
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

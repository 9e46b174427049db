"""The end of a run: engines → one measurement → rows → verdict → reports and ``deploy/``.

Callbacks say when (after the last stage's test); every step here is idempotent and takes from the store what it can.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from modelpress.benchmark.machine import fingerprint as machine_fingerprint
from modelpress.benchmark.session import Session, Settings, Subject, Workload, load_session
from modelpress.errors import ModelPressError
from modelpress.graph import Graph
from modelpress.job import Job, sources, versions
from modelpress.press import RUNTIMES, Pressed, is_pressed, press
from modelpress.report.record import Report
from modelpress.stage import Stage, preprocessor_digest
from modelpress.store import RECORD, Entry, Request, write_atomic

log = logging.getLogger(__name__)
MEASURE_CODE = tuple(
    f"modelpress.benchmark.{name}"
    for name in ("measure", "lane", "worker", "process", "rounds", "session", "statistics", "load", "requests")
)


@dataclass
class Pressing:
    """What a finished graph becomes. ``done`` holds the store entry of every stage."""

    job: Job
    graph: Graph
    done: dict[Stage, Entry]
    started: float = field(default_factory=time.time)
    measure: bool = True  # else the callbacks' measurement and report are left to a later process

    @cached_property
    def settings(self) -> Settings:
        return Settings(**self.job.config["benchmark"])

    @cached_property
    def pressed(self) -> list[Pressed]:
        """Engines of every stage that the report shows, baseline first."""
        return [press(self.job, stage, self.done[stage]) for stage in self.graph.pressed]

    @cached_property
    def measurement(self) -> Entry:
        """Speed, and accuracy on the engine, of all engines in one session."""
        return self.job.store.obtain(self._request(), self._measure)

    @cached_property
    def session(self) -> Session:
        return load_session(self.measurement.folder)

    @cached_property
    def report(self) -> Report:
        """The report, with its files written into the run folder."""
        from modelpress.assemble import write

        return write(self)

    def export(self) -> list[Pressed]:
        """The callbacks' words for it: build now what is not built yet."""
        return self.pressed

    def benchmark(self) -> Session | None:
        """Measure now what is not measured yet."""
        return self.session if self.measure else None

    def finish(self) -> Report | None:
        """Write the report now, once."""
        return self.report if self.measure else None

    def is_pressed(self) -> bool:
        """Whether nothing is left to build. Imports no torch."""
        return all(is_pressed(self.job, self.done[stage]) for stage in self.graph.pressed)

    def is_measured(self) -> bool:
        """Whether nothing is left to build or to measure. Imports no torch."""
        return self.is_pressed() and self.job.store.find(self._request()) is not None

    def _request(self) -> Request:
        inputs = {
            "plans": {key: _identity(plan.file) for item in self.pressed for key, plan in item.plans.items()},
            "dataset": {"fingerprint": self.job.dataset.fingerprint(), "options": self.job.config["dataset"]},
            "preprocessor": preprocessor_digest(self.graph.last.tokenizer()),
            "benchmark": self.job.config["benchmark"],
            "hardware": asdict(self.job.hardware),
            "machine": machine_fingerprint(),
            "versions": versions(*RUNTIMES),
            "sources": sources(*MEASURE_CODE),
        }
        return Request("measurement", f"benchmark of {self.job.name}", inputs)

    def _measure(self, folder: Path) -> None:
        from modelpress.benchmark.measure import measure

        subjects = [Subject(key, plan) for item in self.pressed for key, plan in item.plans.items()]
        if not subjects:
            raise ModelPressError(f"No engine could be built. {_reasons(self.pressed)}. Choose others with engine=[…].")
        workloads, evaluation = self._workloads(folder)
        measure(subjects, workloads, evaluation, self.settings, self.job.hardware, folder)
        write_atomic(folder / "measured.json", json.dumps({"run": str(self.job.folder.name), "name": self.job.name}))

    def _workloads(self, folder: Path) -> tuple[list[Workload], Path]:
        """Requests files: each shape's, and the whole test split with its labels."""
        from modelpress.benchmark.requests import write

        data: Any = self.job.dataset.datamodule(
            self.graph.last.tokenizer(), seed=self.job.seed, cache=self.job.store.root / "data"
        )
        workloads = []
        for shape in self.settings.shapes:
            arrays = data.requests("test", length=_length(shape), limit=self.settings.requests)
            workloads.append(Workload(shape, write(folder / "requests" / f"{shape}.npz", arrays)))
        return workloads, write(folder / "requests" / "test.npz", data.requests("test"))


def _reasons(pressed: list[Pressed]) -> str:
    absent = {f"{name}: {why}" for item in pressed for name, why in item.absent.items()}
    return "; ".join(sorted(absent))


def _length(shape: str) -> int | None:
    """Tokens of a shape: ``1x128`` is 128; ``data`` is the dataset's own lengths."""
    return None if shape == "data" else int(shape.rpartition("x")[2])


def _identity(plan_file: str) -> list[str]:
    """A plan by the key of its store entry and its name inside."""
    path = Path(plan_file)
    folder = next(parent for parent in path.parents if (parent / RECORD).is_file())
    return [folder.name, str(path.relative_to(folder))]

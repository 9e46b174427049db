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

import numpy as np
from numpy.typing import NDArray

from modelpress.benchmark.machine import fingerprint as machine_fingerprint
from modelpress.benchmark.session import Session, Settings, Subject, Workload, load_session
from modelpress.engines.base import Plan
from modelpress.errors import ModelPressError
from modelpress.graph import Graph
from modelpress.job import Job, sources, versions
from modelpress.press import RUNTIMES, Pressed, is_pressed, press, slug
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

    @property
    def is_random(self) -> bool:
        """Whether nothing that is pressed has learned anything: such answers are not compared with right ones."""
        return all(stage.is_random for stage in self.graph.pressed)

    @property
    def labels(self) -> NDArray[Any] | None:
        """The right answer to every test item: of a dual encoder, to every image. ``None`` for random weights."""
        return self.labels_of("")

    def labels_of(self, split: str) -> NDArray[Any] | None:
        """The same for a further test, ``@split``."""
        if self.is_random:
            return None
        from modelpress.benchmark.requests import read

        files = [requests_file(self.measurement.folder, f"{tower}{split}") for tower in ("main", "image")]
        return read(next(file for file in files if file.is_file())).labels

    def family(self, item: Pressed) -> str:
        """Ending of the names of a stage's inputs: ``""``, or ``~1`` … where it wants them prepared in another way."""
        return self._endings[item.stage]

    @cached_property
    def _endings(self) -> dict[Stage, str]:
        numbers = {digest: number for number, digest in enumerate(self._families)}
        found = {item.stage: numbers[preprocessor_digest(item.stage.tokenizer())] for item in self.pressed}
        return {stage: f"~{number}" if number else "" for stage, number in found.items()}

    @cached_property
    def _families(self) -> dict[str | None, Path]:
        """Every way in which inputs are prepared, that of the last stage first."""
        stages = [self.graph.last, *(item.stage for item in self.pressed)]
        return {preprocessor_digest(stage.tokenizer()): stage.tokenizer() for stage in stages}

    @property
    def further(self) -> list[str]:
        """Tests beside the test split, as ``@split``."""
        found = {key.partition("@")[2] for key in self.session.logits}
        return [f"@{split}" for split in sorted(found - {""})]

    def shapes(self, key: str) -> list[str]:
        """The shapes at which an engine was measured."""
        return [row.shape for row in self.session.measurements if row.subject == key]

    def other_shapes(self, tower: str) -> list[str]:
        """Those that engines of its tower were measured at, for one that could not be built."""
        plans = {key: plan for item in self.pressed for key, plan in item.plans.items()}
        rows = [row for row in self.session.measurements if plans[row.subject].tower == tower]
        return list(dict.fromkeys(row.shape for row in rows)) or list(self.settings.shapes)

    def logits(self, item: Pressed, key: str, split: str = "") -> NDArray[Any] | None:
        """(N, C): what an engine answered to the test items (or those of ``@split``); of a pair, from the embeddings of
        its two parts.

        A tower that stands alone is paired with the other tower in the first engine of its stage. ``None`` where
        something failed.
        """
        plan = item.plans[key]
        if plan.tower == "main":
            return self.embeddings(key + split)
        other = [p for p in item.plans.values() if not p.parts and p.tower != plan.tower][:1]
        parts = {part.tower: self.embeddings(slug(item.stage, part) + split) for part in plan.parts or (plan, *other)}
        images, texts = parts.get("image"), parts.get("text")
        if images is None or texts is None:
            return None
        from modelpress.benchmark.requests import read
        from modelpress.report.quality import combine

        candidate = read(requests_file(self.measurement.folder, f"text{self.family(item)}{split}")).labels
        assert candidate is not None
        return combine(images, texts, candidate)

    def embeddings(self, key: str) -> NDArray[Any] | None:
        """(n, E): what a tower made of its test items; (n, C), logits, where there is only one."""
        saved = self.session.logits.get(key)
        return np.load(saved) if saved else None

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
            "plans": {key: _identity(plan) for item in self.pressed for key, plan in item.plans.items()},
            "dataset": {"fingerprint": self.job.dataset.fingerprint(), "options": self.job.config["dataset"]},
            "preprocessor": list(self._families),
            "benchmark": self.job.config["benchmark"],
            "hardware": asdict(self.job.hardware),
            "machine": machine_fingerprint(),
            "versions": versions(*RUNTIMES),
            "sources": sources(*MEASURE_CODE),
        }
        return Request("measurement", f"benchmark of {self.job.name}", inputs)

    def _measure(self, folder: Path) -> None:
        from modelpress.benchmark.measure import measure

        subjects = [
            Subject(key, plan, f"{plan.tower}{self.family(item)}")
            for item in self.pressed
            for key, plan in item.plans.items()
        ]
        if not subjects:
            raise ModelPressError(f"No engine could be built. {_reasons(self.pressed)}. Choose others with engine=[…].")
        measure(subjects, *self._requests(folder), self.settings, self.job.hardware, folder)
        write_atomic(folder / "measured.json", json.dumps({"run": str(self.job.folder.name), "name": self.job.name}))

    def _requests(self, folder: Path) -> tuple[list[Workload], dict[str, Path]]:
        """Requests files: of each kind of inputs and shape, and of the whole test split with its labels."""
        workloads: list[Workload] = []
        evaluation: dict[str, Path] = {}
        for number, tokenizer in enumerate(self._families.values()):
            data: Any = self.job.dataset.datamodule(tokenizer, seed=self.job.seed, cache=self.job.store.root / "data")
            ending = f"~{number}" if number else ""
            workloads += self._workloads(folder, data, ending)
            evaluation |= self._evaluation(folder, data, ending)
        return workloads, evaluation

    def _workloads(self, folder: Path, data: Any, ending: str) -> list[Workload]:
        from modelpress.benchmark.requests import write

        return [
            Workload(
                shape, write(folder / "requests" / f"{tower}{ending}" / f"{shape}.npz", arrays), f"{tower}{ending}"
            )
            for tower, shapes in data.workloads(self.settings.shapes, self.settings.requests).items()
            for shape, arrays in shapes.items()
        ]

    def _evaluation(self, folder: Path, data: Any, ending: str) -> dict[str, Path]:
        from modelpress.benchmark.requests import write

        asked = {f"{tower}{ending}": arrays for tower, arrays in data.evaluation().items()}
        for split in getattr(data, "extras", []):
            asked |= {f"{tower}{ending}@{split}": arrays for tower, arrays in data.evaluation(split).items()}
        return {name: write(requests_file(folder, name), arrays) for name, arrays in asked.items()}


def _reasons(pressed: list[Pressed]) -> str:
    absent = {f"{name}: {why}" for item in pressed for (_, name), why in item.absent.items()}
    return "; ".join(sorted(absent))


def requests_file(folder: Path, tower: str) -> Path:
    """Where a measurement keeps what its engines of one tower were asked for their metric."""
    return folder / "requests" / tower / "test.npz"


def _identity(plan: Plan) -> list[list[str]]:
    """A plan by the keys of its store entries and its names inside."""
    found = []
    for path in (Path(part.file) for part in plan.single()):
        folder = next(parent for parent in path.parents if (parent / RECORD).is_file())
        found.append([folder.name, str(path.relative_to(folder))])
    return found

"""The story of a run: data → teacher → stages → press → report. ``plan`` tells it without doing it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from modelpress.benchmark.lock import shared
from modelpress.estimate import minutes
from modelpress.graph import Graph, graph
from modelpress.job import Job
from modelpress.pressing import Pressing
from modelpress.report.record import Report
from modelpress.stage import Stage, request
from modelpress.store import Entry

log = logging.getLogger(__name__)


def run(cfg: DictConfig, folder: Path, command: str = "", *, measure: bool = True) -> float | None:
    """Run a composed config; returns the best candidate's task metric, for sweepers. ``None``: nothing was measured."""
    from modelpress.launch import point_latest

    report = execute(Job.of(cfg, folder, command), measure=measure)
    if report is None:
        return None
    point_latest(folder)
    metrics = [row.metric for row in report.rows if row.role != "reference" and row.metric is not None]
    best = next((row.metric for row in report.rows if row.id == report.verdict["row"]), None)
    return best if best is not None else next(iter(metrics[::-1]), None)


def execute(job: Job, *, measure: bool = True) -> Report | None:
    """Train what the store lacks, press the result, write the report. Without the report callback: only train.

    Without ``measure`` it ends before the benchmark, with all that comes before it in the store.
    """
    from modelpress.loggers import Tracking

    started = time.time()
    network = graph(job)
    with Tracking(job) as tracking:
        done = train_all(job, network, tracking)
        pressing = Pressing(job, network, done, started, measure)
        reports = "report" in job.config["callbacks"]
        if not (reports and pressing.is_pressed()):
            test_and_press(job, network, done, pressing, tracking)
        if not measure:
            tracking.to_be_continued()
        if not (reports and measure):
            return None
        tracking.log_report(pressing.report, job.folder)
    return pressing.report


def train_all(job: Job, network: Graph, tracking: Any) -> dict[Stage, Entry]:
    """Every stage's store entry, trained where it is missing."""
    done: dict[Stage, Entry] = {}
    for number, stage in enumerate(network.order, 1):
        log.info("Stage %d of %d: %s.", number, len(network.order), stage.title)

        def compute(folder: Path, stage: Stage = stage, number: int = number) -> None:
            from modelpress.preflight import preflight
            from modelpress.training import Arm, train

            preflight(job, network.order[number - 1 :])
            train(Arm(job, stage, folder, done, tracking.loggers(stage.title)))

        done[stage] = job.store.obtain(request(job, stage, done), compute)
        tracking.log_stage(done[stage])
    return done


def test_and_press(job: Job, network: Graph, done: dict[Stage, Entry], pressing: Pressing, tracking: Any) -> None:
    """Trainer.test of the last stage; the callbacks press, benchmark and report at its end."""
    from modelpress.training import Arm, test

    with shared(f"exporting {network.last.title}"):
        test(Arm(job, network.last, job.folder, done, tracking.loggers(network.last.title)), pressing)


@dataclass(frozen=True)
class Step:
    """One line of ``modelpress plan``. ``minutes`` is an estimate, 0 for a hit."""

    kind: str
    name: str
    hit: bool
    minutes: float | None  # None: not known
    basis: str  # where the estimate comes from


def plan(cfg: DictConfig) -> list[Step]:
    """What ``run`` would do: hit or miss of every step, and about how long. Imports no torch, trains nothing."""
    job = Job.of(cfg, Path(cfg.store) / "plan")
    network = graph(job)
    done: dict[Stage, Entry] = {}
    steps: list[Step] = []
    for stage in network.order:
        known = all(source in done for source in stage.sources_of())
        entry = job.store.find(request(job, stage, done)) if known else None
        if entry is not None:
            done[stage] = entry
        cost, basis = (0.0, "in the store") if entry else minutes(job, stage)
        steps.append(Step("stage", stage.title, entry is not None, cost, basis))
    ready = all(stage in done for stage in network.pressed) and Pressing(job, network, done).is_measured()
    return [*steps, _press_step(job, network, ready)]


def _press_step(job: Job, network: Graph, ready: bool) -> Step:
    names = ", ".join(stage.title for stage in network.pressed)
    cost = 0.0 if ready else 0.5 * len(network.pressed) + float(job.config["benchmark"]["minutes"])
    return Step("press", f"export, engines, benchmark of {names}", ready, cost, "in the store" if ready else "preset")

"""Leave out jobs of a search whose network is too slow, before they train: latency hardly depends on weights.

The rule is sound only where it knows enough. A limit on the latency is known, so a network that is clearly above it
goes. What metric it would reach is not known: it is dominated for certain only if a finished job that is clearly faster
has everything else at its ceiling, the most that is possible (1 for shares such as accuracy).
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.errors import ModelPressError
from modelpress.graph import Graph, graph
from modelpress.job import Job, sources, targets, versions
from modelpress.press import ENGINE_CODE, EXPORT_CODE, RUNTIMES
from modelpress.pressing import MEASURE_CODE
from modelpress.report.record import Interval
from modelpress.stage import Stage, request
from modelpress.status import jobs
from modelpress.store import Entry, Request, clear, write_atomic
from modelpress.sweep import columns
from modelpress.sweep.rules import LATENCY, Rules, Skipped, is_first_rank

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from modelpress.models.base import Model

log = logging.getLogger(__name__)
FILE = "untrained.json"


def check(cfg: DictConfig, folder: Path) -> None:
    """Measure the network that the job in ``folder`` would end with, if that can decide anything.

    Raises :class:`~modelpress.sweep.rules.Skipped` if the job cannot be among the best of its search.
    """
    rules = Rules.of(folder)
    if rules is None or rules.skip is False or not is_first_rank():
        return
    limit, rival = rules.limits.get(LATENCY), unbeatable(rules, folder.parent)
    if limit is None and rival is None:
        return
    found = fastest(Job.of(cfg, folder))
    if found is not None and (reason := against(found, float(rules.skip), limit, rival)):
        raise Skipped(reason, untrained={LATENCY: asdict(found)})


def against(found: Interval, margin: float, limit: float | None, rival: tuple[str, float] | None) -> str | None:
    """Why a job of this latency need not be trained: all of its interval is above a bound by more than ``margin``."""
    measured = f"{found.value:.3g} ms [{found.ci_low:.3g}, {found.ci_high:.3g}] untrained"
    if limit is not None and found.ci_low > limit * (1 + margin):
        return f"{measured}, limit {limit:g}"
    if rival is not None and found.ci_low > rival[1] * (1 + margin):
        return f"{measured}; job {rival[0]} takes {rival[1]:.3g} ms, and nothing can be better than it in anything else"
    return None


def unbeatable(rules: Rules, sweep: Path) -> tuple[str, float] | None:
    """The fastest finished job, with its latency, that only a still faster one can beat."""
    if rules.objectives.get(LATENCY) != "minimize":
        return None
    places = [place for place, record in jobs(sweep).items() if record.get("status") == "done"]
    found = [(place.name, columns.values(place, LATENCY)[0]) for place in places if _at_ceiling(rules, place)]
    return min(found, key=lambda pair: pair[1], default=None)


def _at_ceiling(rules: Rules, place: Path) -> bool:
    others = [column for column in rules.objectives if column != LATENCY]
    if not rules.ceilings.keys() >= set(others) or not rules.within(place):
        return False
    try:
        figures = dict(zip([LATENCY, *others], columns.values(place, LATENCY, *others), strict=True))
    except ModelPressError:
        return False
    ways = {column: 1 if rules.objectives[column] == "maximize" else -1 for column in others}
    return all(ways[column] * (figures[column] - rules.ceilings[column]) >= 0 for column in others)


def fastest(job: Job) -> Interval | None:
    """p50 of the fastest row that the verdict could name, in ms; ``None`` if it cannot be told, or nothing trains.

    Every candidate that is pressed is measured on every engine that can be deployed, in the store once for each shape.
    """
    network = graph(job)
    candidates = [stage for stage in network.pressed if stage.role == "candidate"]
    if not candidates or _is_trained(job, network):
        return None
    try:
        models = {stage: model for stage in candidates if (model := outcome(job, stage)) is not None}
        found = [_measured(job, stage, model) for stage, model in models.items()]
    except ModelPressError as why:  # what is wrong with the job itself it says when it runs
        log.info("Not measured untrained: %s", why)
        return None
    return min(found, key=lambda one: one.ci_low) if len(found) == len(candidates) else None


def outcome(job: Job, stage: Stage) -> Model | None:
    """An untrained network as large and as fast as the stage ends with; ``None`` if only training can tell."""
    from modelpress.preflight import parts, start

    model = outcome(job, stage.parent) if stage.parent is not None else start(job, stage)
    if model is None or (transform := parts(stage).get("transform")) is None:
        return model
    reshaped: Model | None = transform.reshaped(model)
    return reshaped


def _is_trained(job: Job, network: Graph) -> bool:
    """Whether the store has every stage."""
    done: dict[Stage, Entry] = {}
    for stage in network.order:
        entry = job.store.find(request(job, stage, done))
        if entry is None:
            return False
        done[stage] = entry
    return True


def _measured(job: Job, stage: Stage, model: Model) -> Interval:
    from modelpress.pruning import on_engine
    from modelpress.pruning.on_engine import EngineLatency, deciding, engine_names, structure

    names = engine_names(job)

    def compute(folder: Path) -> None:
        data: Any = job.dataset.datamodule(stage.tokenizer(), seed=job.seed, cache=job.store.root / "data")
        latency = EngineLatency(job, data, folder, names)
        found = latency(model)
        if latency.disturbed:
            clear(folder / on_engine.FILE)
            raise ModelPressError(f"the machine was busy ({latency.disturbed}).")
        write_atomic(folder / FILE, json.dumps(asdict(found)))

    inputs = {
        "shape": structure(model),
        **deciding(job, names),
        "dataset": job.dataset.fingerprint(),
        "versions": versions(*RUNTIMES, "onnx"),
        "sources": sources(*EXPORT_CODE, *ENGINE_CODE, *MEASURE_CODE, on_engine.__name__, *_engines(job)),
    }
    entry = job.store.obtain(Request("latency", f"{stage.title}, untrained", inputs), compute)
    return Interval(**json.loads((entry.folder / FILE).read_text()))


def _engines(job: Job) -> list[str]:
    return targets(list(job.config["engine"].values()))

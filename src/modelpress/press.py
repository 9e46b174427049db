"""Press finished stages into engines and measure them. Every step is idempotent: what the store has is not redone.

    stage → ONNX with its facts → one plan per engine and precision

Torch is imported only where something is really exported.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from modelpress.benchmark.machine import fingerprint as machine_fingerprint
from modelpress.engines.base import Artifact, Engine, Plan, Unsupported
from modelpress.job import Job, sources, versions
from modelpress.stage import Stage, weights_digest
from modelpress.store import Entry, Request, write_atomic

log = logging.getLogger(__name__)
EXPORT_CODE = tuple(
    f"modelpress.{name}"
    for name in (
        *("export.onnx", "export.check", "export.stage", "export.typed", "export.typed_nodes", "export.typed_run"),
        *("export.zeros", "export.graph_view"),
        *("quantization.ops", "quantization.fake", "quantization.layers", "quantization.quantizers"),
        *("quantization.attach", "quantization.files"),
        *("models.classifier", "models.tower", "models.attention", "models.layout"),
    )
)
ENGINE_CODE = tuple(  # beside the engine's own module: how a quantized graph is spelled for it
    f"modelpress.{name}"
    for name in (
        *("engines.graph", "engines.int8", "engines.openvino_layers", "engines.precision", "engines.spelling"),
        *("export.graph_view", "export.linears", "export.lower", "export.lower_onnxruntime"),
        *("export.quantized", "export.quantized_onnxruntime"),
    )
)
RUNTIMES = ("onnxruntime", "openvino", "torch")


@dataclass(frozen=True)
class Pressed:
    """One stage with its graph and its engines. ``absent`` maps an engine to the reason why it is missing."""

    stage: Stage
    entry: Entry
    export: Entry
    facts: dict[str, Any]
    plans: dict[str, Plan]  # row id without the shape -> plan
    absent: dict[str, str]

    @property
    def onnx(self) -> Path:
        return self.export.folder / "model.onnx"


def export_request(entry: Entry) -> Request:
    """The store's key for a stage's ONNX file: its weights and the code that exports them."""
    inputs = {
        "weights": weights_digest(entry),
        "model": entry.digest_of("model/modelpress.json"),
        "versions": versions("torch", "transformers", "onnx", "onnxscript", "onnxruntime"),
        "sources": sources(*EXPORT_CODE),
    }
    return Request("export", f"{entry.name} → ONNX", inputs)


def export(job: Job, entry: Entry) -> Entry:
    """The stage's ONNX file with what was counted and checked on it (``facts.json``)."""

    def compute(folder: Path) -> None:
        from modelpress.export.stage import export_stage

        export_stage(entry.folder / "model", folder)

    return job.store.obtain(export_request(entry), compute)


def press(job: Job, stage: Stage, entry: Entry) -> Pressed:
    """Export one stage and build every selected engine from it."""
    exported = export(job, entry)
    artifact = Artifact(exported.folder / "model.onnx", entry.folder / "model")
    plans: dict[str, Plan] = {}
    absent: dict[str, str] = {}
    for name, engine in job.engines.items():
        built = job.store.obtain(*_engine(job, name, engine, artifact, exported))
        record = json.loads((built.folder / "plans.json").read_text())
        for fields in record["plans"]:
            plan = Plan(**{**fields, "file": str(built.folder / fields["file"])})
            plans[f"{stage.slug}/{name}/{plan.precision}"] = plan
        absent.update(record["absent"])
    facts = json.loads((exported.folder / "facts.json").read_text())
    return Pressed(stage, entry, exported, facts, plans, absent)


def is_pressed(job: Job, entry: Entry) -> bool:
    """Whether :func:`press` would find everything in the store."""
    exported = job.store.find(export_request(entry))
    if exported is None:
        return False
    artifact = Artifact(exported.folder / "model.onnx", entry.folder / "model")
    wanted = (_engine(job, name, engine, artifact, exported)[0] for name, engine in job.engines.items())
    return all(job.store.find(request) is not None for request in wanted)


def _engine(
    job: Job, name: str, engine: Engine, artifact: Artifact, exported: Entry
) -> tuple[Request, Callable[[Path], None]]:
    """The store's request for one engine of one export, and how to fulfil it."""
    inputs = {
        "onnx": exported.digest_of("model.onnx"),
        "model": exported.inputs["weights"],
        "engine": job.config["engine"][name],
        "hardware": asdict(job.hardware),
        "machine": machine_fingerprint(),
        "versions": versions(*RUNTIMES),
        "sources": sources(type(engine).__module__, *ENGINE_CODE),
    }

    def compute(folder: Path) -> None:
        record: dict[str, Any] = {"plans": [], "absent": {}}
        try:
            plans = engine.build(artifact, job.hardware, folder)
            record["plans"] = [asdict(replace(plan, file=str(Path(plan.file).relative_to(folder)))) for plan in plans]
        except Unsupported as reason:
            record["absent"][name] = str(reason)
        write_atomic(folder / "plans.json", json.dumps(record))

    return Request("engine", f"{exported.name} → {name}", inputs), compute

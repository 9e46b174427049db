"""Press finished stages into engines and measure them. Every step is idempotent: what the store has is not redone.

    stage → ONNX with its facts → one plan per engine and precision

Torch is imported only where something is really exported.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from modelpress.benchmark.machine import fingerprint as machine_fingerprint
from modelpress.engines.base import Artifact, Engine, Plan, Unsupported
from modelpress.engines.pair import PAIR, paired
from modelpress.job import Job, sources, versions
from modelpress.stage import Stage, preprocessor_digest, weights_digest
from modelpress.store import Entry, Request, write_atomic

log = logging.getLogger(__name__)
EXPORT_CODE = tuple(
    f"modelpress.{name}"
    for name in (
        *("export.onnx", "export.check", "export.stage", "export.typed", "export.typed_nodes", "export.typed_run"),
        *("export.zeros", "export.graph_view"),
        *("quantization.ops", "quantization.fake", "quantization.layers", "quantization.quantizers"),
        *("quantization.attach", "quantization.batch_norm", "quantization.files"),
        *("models.classifier", "models.tower", "models.attention", "models.layout"),
        *("models.dual", "models.clip_network", "models.clip_tower", "models.separate", "models.image_classifier"),
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
    """One stage with its graphs and its engines. ``absent`` maps an engine to the reason why it is missing."""

    stage: Stage
    entry: Entry
    export: Entry
    facts: dict[str, dict[str, Any]]  # tower -> what was counted on its file; also of the pair where there are two
    plans: dict[str, Plan]  # row id without the shape -> plan
    absent: dict[tuple[str, str], str]  # (tower, engine) -> why

    @property
    def onnx(self) -> dict[str, Path]:
        """The file of every tower."""
        return {tower: self.export.folder / facts["file"] for tower, facts in self.facts.items() if "file" in facts}


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


def press(job: Job, stage: Stage, entry: Entry, towers: Collection[str] = ()) -> Pressed:
    """Export one stage and build every selected engine from it, of ``towers`` only if some are named."""
    exported = export(job, entry)
    facts = _facts(exported)
    plans: list[Plan] = []
    absent: dict[tuple[str, str], str] = {}
    for artifact in _artifacts(entry, exported):
        if towers and artifact.tower not in towers:
            continue
        for name, engine in job.engines.items():
            built = job.store.obtain(*_engine(job, name, engine, artifact, exported))
            record = json.loads((built.folder / "plans.json").read_text())
            plans += [Plan.of({**fields, "file": str(built.folder / fields["file"])}) for fields in record["plans"]]
            absent |= {(artifact.tower, name): why for name, why in record["absent"].items()}
    plans += paired(plans)
    if len(facts) > 1:
        facts[PAIR] = together(list(facts.values()))
    return Pressed(stage, entry, exported, facts, {slug(stage, plan): plan for plan in plans}, absent)


def slug(stage: Stage, plan: Plan) -> str:
    """How the ids of a plan's rows begin: ``minilm/finetune/openvino/bf16``, ``clip/distill/image/openvino/bf16``."""
    tower = "" if plan.tower == "main" else f"{plan.tower}/"
    return f"{stage.slug}/{tower}{plan.engine}/{plan.precision}"


def together(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was counted on the files of several towers, taken together."""
    weights = [fact["params_m"] for fact in facts]
    operators = sum((Counter(fact["ops"]) for fact in facts), Counter())
    return {
        **{key: sum(fact[key] for fact in facts) for key in ("params_m", "size_mb", "compressed_mb")},
        "sparsity": sum(f["sparsity"] * weight for f, weight in zip(facts, weights, strict=True)) / sum(weights),
        "sparsity_file": sum(f["sparsity_file"] * w for f, w in zip(facts, weights, strict=True)) / sum(weights),
        "ops": dict(operators.most_common()),
        "counted_shape": None,
        "macs_g": None,
        "parity_max_abs": None,
    }


def _facts(exported: Entry) -> dict[str, dict[str, Any]]:
    facts: dict[str, dict[str, Any]] = json.loads((exported.folder / "facts.json").read_text())
    return facts


def _artifacts(entry: Entry, exported: Entry) -> list[Artifact]:
    files = {tower: exported.folder / facts["file"] for tower, facts in _facts(exported).items()}
    return [Artifact(file, entry.folder / "model", tower) for tower, file in files.items()]


def is_pressed(job: Job, entry: Entry) -> bool:
    """Whether :func:`press` would find everything in the store."""
    exported = job.store.find(export_request(entry))
    if exported is None:
        return False
    artifacts = _artifacts(entry, exported)
    wanted = (_engine(job, name, engine, one, exported)[0] for one in artifacts for name, engine in job.engines.items())
    return all(job.store.find(request) is not None for request in wanted)


def _engine(
    job: Job, name: str, engine: Engine, artifact: Artifact, exported: Entry
) -> tuple[Request, Callable[[Path], None]]:
    """The store's request for one engine of one export, and how to fulfil it."""
    inputs = {
        "onnx": exported.digest_of(artifact.onnx.name),
        "tower": artifact.tower,
        "model": exported.inputs["weights"],
        "engine": job.config["engine"][name],
        "hardware": asdict(job.hardware),
        "machine": machine_fingerprint(),
        "versions": versions(*RUNTIMES),
        "sources": sources(type(engine).__module__, *ENGINE_CODE, *engine.code),
        **engine.surroundings(),
    }
    if engine.wants_lengths:
        inputs["lengths"] = {
            "dataset": job.dataset.fingerprint(),
            "options": job.config["dataset"],
            "preprocessor": preprocessor_digest(artifact.model),
        }

    def compute(folder: Path) -> None:
        record: dict[str, Any] = {"plans": [], "absent": {}}
        try:
            lengths = _lengths(job, artifact) if engine.wants_lengths else {}
            built = engine.build(replace(artifact, lengths=lengths), job.hardware, folder)
            plans = [replace(plan, tower=artifact.tower) for plan in built]
            record["plans"] = [asdict(replace(plan, file=str(Path(plan.file).relative_to(folder)))) for plan in plans]
        except Unsupported as reason:
            record["absent"][name] = str(reason)
        write_atomic(folder / "plans.json", json.dumps(record))

    tower = "" if artifact.tower == "main" else f" ({artifact.tower} tower)"
    return Request("engine", f"{exported.name} → {name}{tower}", inputs), compute


def _lengths(job: Job, artifact: Artifact) -> dict[int, int]:
    """How many training items of a tower have which length; empty where all are alike."""
    assert artifact.model is not None
    data: Any = job.dataset.datamodule(artifact.model, seed=job.seed, cache=job.store.root / "data")
    return dict(Counter(data.lengths().get(artifact.tower, [])))

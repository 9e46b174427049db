"""The sensitivity of a run's INT8 network to each layer, measured on validation and kept in the store.

Torch-free until something has to be measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.errors import ModelPressError
from modelpress.graph import Graph, graph
from modelpress.job import Job, sources, targets, versions
from modelpress.models.numerics import Numerics
from modelpress.report.sensitivity import FloatLayer, Group, Study
from modelpress.stage import NUMERICS, QUANTIZE, Stage, preprocessor_digest, weights_digest
from modelpress.stage import request as stage_request
from modelpress.store import Entry, Request, write_atomic

if TYPE_CHECKING:
    from modelpress.models.base import Batch, Model

RESULT = "sensitivity.json"
# the code that decides the numbers, beside the network and the dataset
CODE = tuple(
    f"modelpress.{name}"
    for name in (
        *("sensitivity", "evaluation", "data.batching", "data.module", "data.tokenizer", "data.tokens"),
        *("data.image_batches", "data.image_module", "data.image_text_module"),
        *("models.attention", "models.base", "models.classifier", "models.numerics"),
        *("models.dual", "models.clip_network", "models.clip_tower", "models.separate", "models.image_classifier"),
        *(f"quantization.{name}" for name in ("attach", "batch_norm", "fake", "files", "layers", "parts")),
        *("quantization.quantizers", "quantization.sensitivity"),
    )
)


def study(job: Job, samples: int, command: str = "") -> Study:
    """Of the last INT8 network of a run, measured unless the store has it.

    Raises:
        ModelPressError: there is no such network in the store, or no samples.
    """
    if samples < 1:
        raise ModelPressError(f"--samples is {samples}; at least one validation item must be run.")
    stage, done = subject(job, graph(job))
    wanted = request(job, stage, done[stage], samples)
    entry = job.store.obtain(wanted, lambda folder: _measure(job, stage, done, samples, folder))
    record = json.loads((entry.folder / RESULT).read_text(encoding="utf-8"))
    numerics = numerics_of(done[stage])
    assert numerics is not None
    return study_of(stage, numerics, record, command)


def subject(job: Job, network: Graph) -> tuple[Stage, dict[Stage, Entry]]:
    """The last stage whose network is INT8, and the entries of all finished stages."""
    done = finished(job, network)
    for stage in reversed(network.order):
        if stage in done and (found := numerics_of(done[stage])) is not None and found.kind == "int8":
            return stage, done
    raise ModelPressError(_no_int8(job, network, done))


def finished(job: Job, network: Graph) -> dict[Stage, Entry]:
    """The store's entries of the stages that it still holds."""
    done: dict[Stage, Entry] = {}
    for stage in network.order:
        if all(source in done for source in stage.sources_of()):
            entry = job.store.find(stage_request(job, stage, done))
            if entry is not None:
                done[stage] = entry
    return done


def _no_int8(job: Job, network: Graph, done: Mapping[Stage, Entry]) -> str:
    wanted = [stage for stage in network.order if stage.spec and stage.spec["transform"]["_target_"] == QUANTIZE]
    if not wanted:
        names = ", ".join(stage.title for stage in network.order)
        return (
            f"{job.folder} has no INT8 network (its stages: {names}). technique=ptq makes one, and so do "
            f"ptq_dynamic and qat: modelpress run technique=ptq"
        )
    missing = next(stage for stage in network.order if stage not in done)
    return (
        f"{missing.title} of {job.folder} is not in the store {job.store.root}: it did not finish, was cleaned away, "
        "lies in another store (MODELPRESS_STORE), or ModelPress has changed since. The run's own command makes it "
        "again."
    )


def numerics_of(entry: Entry) -> Numerics | None:
    """What a stage's network computes in; ``None``: float32."""
    path = entry.folder / NUMERICS[0]
    return Numerics.from_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def request(job: Job, stage: Stage, entry: Entry, samples: int) -> Request:
    """The store's key: network, data, number of samples, code and libraries."""
    inputs = {
        "network": weights_digest(entry),
        "dataset": {"fingerprint": job.dataset.fingerprint(), "options": job.config["dataset"]},
        "preprocessor": preprocessor_digest(stage.tokenizer()),
        "samples": samples,
        "versions": versions("torch", "transformers", "tokenizers"),
        "sources": sources(*CODE, *targets([stage.model, job.config["dataset"]])),
    }
    return Request("sensitivity", f"sensitivity of {stage.title}", inputs)


def _measure(job: Job, stage: Stage, done: Mapping[Stage, Entry], samples: int, folder: Path) -> None:
    """Fill a store entry."""
    from modelpress.benchmark.lock import shared
    from modelpress.callbacks.progress import tracked
    from modelpress.evaluation import questions
    from modelpress.quantization import sensitivity
    from modelpress.training import Arm

    arm = Arm(job, stage, folder, done)
    data: Any = arm.datamodule()
    model = arm.model_of(stage)
    assert model is not None
    batches = questions(model, data, "validation", samples)
    with shared(f"sensitivity of {stage.title}"):
        record = {
            **_whole(model, batches),
            "parts": _parts(model, batches),
            "groups": sensitivity.as_table(sensitivity.measure(model, batches, tracked)),
            "available": data.size("validation"),
            "float_layers": _float_layers(model),
        }
    write_atomic(folder / RESULT, json.dumps(record, allow_nan=False))


def _parts(model: Model, batches: Iterable[Batch]) -> list[dict[str, Any]]:
    """Every part of the network alone in INT8, the most harmful first."""
    from modelpress.callbacks.progress import tracked
    from modelpress.quantization.parts import parts
    from modelpress.quantization.sensitivity import measure

    found = parts(model)
    titles = {names: title for title, (names, _) in found.items()}
    rows = measure(model, batches, tracked, dict(found.values()))
    return [{**row.to_json(), "part": titles[row.layers]} for row in rows]


def _whole(model: Model, batches: Iterable[Batch]) -> dict[str, Any]:
    """Accuracy of the float network, and what all layers together in INT8 cost."""
    from modelpress.quantization.attach import set_mode, twins_of
    from modelpress.quantization.sensitivity import Sensitivity, answers

    set_mode(model, "float")
    reference = answers(model, batches)
    set_mode(model, "int8")
    twins = twins_of(model)
    parameters = sum(twin.weight.numel() for twin in twins.values())
    together = Sensitivity(tuple(twins), parameters, *answers(model, batches).against(reference))
    whole = {**together.to_json(), "part": "all together"}
    return {"accuracy": reference.accuracy, "samples": len(reference.labels), "together": whole}


def _float_layers(model: Model) -> list[dict[str, Any]]:
    """Name, kind and size of what could be INT8; ``default``: the network itself keeps it in float."""
    from fnmatch import fnmatchcase

    from modelpress.models.attention import PRODUCTS

    assert model.numerics is not None
    found = []
    for name in model.numerics.details["float_layers"]:
        layer = None if name.endswith(f".{PRODUCTS}") else model.get_submodule(name)
        found.append(
            {
                "name": name,
                "kind": "products of attention" if layer is None else type(layer).__name__,
                "parameters": 0 if layer is None else sum(p.numel() for p in layer.parameters() if p.ndim >= 2),
                "default": any(fnmatchcase(name, pattern) for pattern in model.sensitive()),
            }
        )
    return found


def study_of(stage: Stage, numerics: Numerics, record: Mapping[str, Any], command: str) -> Study:
    """The cached measurement, with the layers that a search left in float where their sensitivity puts them."""
    details = numerics.details
    search: Mapping[str, Any] = details.get("search") or {}
    names = {layer["name"] for layer in record["float_layers"]}
    searched = [row for row in search.get("sensitivity", ()) if names.issuperset(row["layers"])]
    groups = [_group(row) for row in record["groups"]] + [_group(row, "float") for row in searched]
    return Study(
        title=stage.title,
        command=command,
        accuracy=record["accuracy"],
        samples=record["samples"],
        available=record["available"],
        together=_group(record["together"]),
        parts=[_group(row) for row in record["parts"]],
        groups=sorted(groups, key=lambda group: -group.output_error),
        float_layers=_reasons(record, details, {name for row in searched for name in row["layers"]}),
        notes=_notes(details, search, bool(searched)),
    )


def _group(row: Mapping[str, Any], numbers: str = "int8") -> Group:
    return Group(**{**row, "layers": tuple(row["layers"]), "numbers": numbers})


def _reasons(record: Mapping[str, Any], details: Mapping[str, Any], searched: set[str]) -> list[FloatLayer]:
    def why(layer: Mapping[str, Any]) -> str:
        if layer["name"] in searched:
            return "the mixed-precision search"
        if layer["default"]:
            return "float by default: a handful of rows that decide everything"
        if layer["kind"] == "Embedding" and not details["embeddings"]:
            return "transform.embeddings is false"
        return "transform.exclude"

    return [FloatLayer(layer["name"], layer["parameters"], why(layer)) for layer in record["float_layers"]]


def _notes(details: Mapping[str, Any], search: Mapping[str, Any], searched: bool) -> list[str]:
    notes = []
    if search:
        limit, drop = (f"{100 * search[key]:.2f}" for key in ("max_metric_drop", "drop"))
        notes.append(f"Mixed-precision search: {search['why']}. Limit {limit} points, drop on validation {drop}.")
    if searched:
        notes.append("Groups marked float: as the search measured them, on the whole validation split.")
    if details["attention"]:
        notes.append("The products inside attention are INT8 too; they count in `all together` only.")
    return notes

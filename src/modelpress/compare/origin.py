"""What a report's rows rest on, read from its lineage: settings, and digests that say "the same but for the seed"."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelpress.compare.overrides import Value
from modelpress.report.record import Report

# Follow from the seed, or from the code and the machine, which are compared on their own.
BESIDE_THE_RECIPE = ("seed", "parent", "teacher", "latency", "versions", "sources")


@dataclass(frozen=True)
class Origin:
    """``settings``: resolved values under their config names, as far as the lineage holds them.

    ``stages``: ``model/stage`` -> digest of its recipe; ``recipe``: of the whole run; equal digests: the same but for
    the seed. ``code``: digest of sources and library versions. ``machine``, ``dataset``: in words.
    """

    settings: Mapping[str, Value] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    code: str = ""
    machine: str = ""
    dataset: str = ""


def origin(report: Report) -> Origin:
    """Read the lineage; what an older or foreign report lacks stays empty."""
    entries = [entry for entry in report.lineage if isinstance(entry.get("inputs"), Mapping)]
    stages = {_slug(entry): entry["inputs"] for entry in entries if entry.get("kind") == "stage"}
    measurement: Mapping[str, Any] = next(
        (entry["inputs"] for entry in entries if entry.get("kind") == "measurement"), {}
    )
    recipes = {slug: _digest(_recipe(inputs)) for slug, inputs in stages.items()}
    beside = {row.id.rsplit("/", 3)[0] for row in report.rows if row.role == "control"}
    own = {slug: recipe for slug, recipe in recipes.items() if slug not in beside}
    machine, dataset = machine_of(report), f"{report.dataset.get('name', '?')}"
    conditions = [measurement.get(key) for key in ("benchmark", "hardware")]
    facts = [own, conditions, machine, report.dataset.get("fingerprint"), report.task_metric]
    return Origin(
        settings=dict(_settings(stages, measurement)),
        stages=recipes,
        recipe=_digest(facts) if own else "",
        code=_digest([[inputs.get("versions"), inputs.get("sources")] for inputs in stages.values()]),
        machine=machine,
        dataset=dataset,
    )


def machine_of(report: Report) -> str:
    """``AMD EPYC, 2 cores``: timings of different machines are not compared."""
    facts = report.environment.get("before", report.environment)
    cores = f", {facts['cores']} cores" if "cores" in facts else ""
    return f"{facts.get('cpu', '')}{cores}"


def _slug(entry: Mapping[str, Any]) -> str:
    """``minilm · finetune`` as row ids begin: ``minilm/finetune``."""
    return str(entry.get("name", "")).replace(" · ", "/")


def _recipe(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in inputs.items() if key not in BESIDE_THE_RECIPE}


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _settings(stages: Mapping[str, Mapping[str, Any]], measurement: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    """``technique.distill.objective.temperature``: as on the command line."""
    for slug, inputs in stages.items():
        name = slug.rpartition("/")[2]
        yield from flat("finetune" if name == "finetune" else f"technique.{name}", inputs.get("stage"))
        yield from flat("dataset", (inputs.get("dataset") or {}).get("options"))
    for group in ("benchmark", "hardware"):
        yield from flat(group, measurement.get(group))


def flat(prefix: str, node: object) -> Iterator[tuple[str, Value]]:
    """The leaves of nested mappings under dotted names; lists as Hydra spells them."""
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield from flat(f"{prefix}.{key}" if prefix else str(key), child)
    elif isinstance(node, list | tuple):
        yield prefix, "[" + ",".join(map(str, node)) + "]"
    elif node is None or isinstance(node, bool | str):
        yield prefix, node
    else:
        yield prefix, float(node) if isinstance(node, int | float) else str(node)

"""What a run leaves in W&B as artefacts, each of which names its parents by name and digest.

A stage is kept as a small record and not as its weights. Its digest depends only on what decided the stage and on the
weights that came out, so the run that trained it and every run that found it in the store mean the same artefact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from modelpress.stage import weights_digest
from modelpress.store import Entry, canonical

if TYPE_CHECKING:
    from wandb import Artifact

    from modelpress.report.record import Report

STAGE = "stage"  # type of the records of stages
REPORT_FILES = ("report.html", "report.json", "report.md")


@dataclass(frozen=True)
class Parent:
    """An artefact of type :data:`STAGE`: the digest is W&B's own, computed from its contents."""

    name: str
    digest: str


class Artifacts:
    """The artefacts of one run, in the order in which they are made: stages as they are finished, then the rest."""

    def __init__(self) -> None:
        self._by_weights: dict[str, Parent] = {}
        self._by_title: dict[str, Parent] = {}

    def stage(self, entry: Entry) -> Artifact:
        """The record of a finished stage; its parents are what it started from and its teacher."""
        weights = weights_digest(entry)
        sources = [entry.inputs.get(of) for of in ("parent", "teacher")]
        parents = dict.fromkeys(self._by_weights[source] for source in sources if source in self._by_weights)
        facts = {"key": entry.key, "name": entry.name, "inputs": entry.inputs, "weights": weights}
        with TemporaryDirectory() as folder:  # wandb takes a copy
            path = Path(folder) / "stage.json"
            path.write_text(canonical(facts), encoding="utf-8")
            artifact = _artifact(f"stage-{path_name(entry.name)}", STAGE, parents, {path.name: path}, key=entry.key)
        self._by_weights[weights] = self._by_title[entry.name] = Parent(artifact.name, artifact.digest)
        return artifact

    def finished(self, report: Report, folder: Path) -> list[Artifact]:
        """``<name>-report``, made from all stages, and ``<name>-deploy`` from one, as far as their files exist."""
        deploy = folder / "deploy"
        reports = {name: folder / name for name in REPORT_FILES if (folder / name).is_file()}
        engines = {str(path.relative_to(deploy)): path for path in sorted(deploy.rglob("*")) if path.is_file()}
        keys = [{part: entry.get(part) for part in ("kind", "name", "key")} for entry in report.lineage]
        facts = {"lineage": keys, "row": report.verdict["row"]}
        best = next((row for row in report.rows if row.id == facts["row"]), None)
        deployed = self._by_title.get(f"{best.model} · {best.stage}") if best else None
        made = [
            _artifact(f"{report.name}-report", "report", self._by_title.values(), reports, **facts),
            _artifact(f"{report.name}-deploy", "model", filter(None, [deployed]), engines, **facts),
        ]
        return [artifact for artifact, files in zip(made, (reports, engines), strict=True) if files]


def path_name(title: str) -> str:
    """A stage's title as part of an artefact's name: ``tinybert · distill`` becomes ``tinybert-distill``."""
    from modelpress.loggers import slug

    return slug(title).replace("/", "-")


def _artifact(
    name: str, kind: str, parents: Iterable[Parent], files: Mapping[str, Path] | None = None, **facts: Any
) -> Artifact:
    import wandb

    metadata = {"parents": [asdict(parent) for parent in parents], **facts}
    artifact = wandb.Artifact(name, type=kind, metadata=metadata)
    for inside, path in (files or {}).items():
        artifact.add_file(str(path), name=inside)
    return artifact

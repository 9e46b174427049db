"""``deploy/``: all that is needed to use the result elsewhere. Torch-free."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from modelpress.deploying.kinds import Kind, kind_of, preprocessing
from modelpress.engines.base import Plan
from modelpress.engines.graph import inspect
from modelpress.engines.trt.load import INSTALL, installed
from modelpress.report.record import Report

SUMS = "SHA256SUMS"
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
#: What predict.py needs to open a plan of each runtime as it was measured, from the plan's own settings.
SPELLING: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "onnxruntime": lambda settings: {"provider": settings["provider"], "spinning": settings["spinning"]},
    "onnxruntime_cuda": lambda settings: {"options": settings["options"]},
    "openvino": lambda settings: {"precision_hint": HINTS[settings["float"]]},
    "tensorrt": lambda settings: {},  # an engine's own .json says what it takes
    "tensorrt_rtx": lambda settings: {},
}


def assemble(
    folder: Path,
    *,
    model_folder: Path,
    onnx: Mapping[str, Path],
    plans: Sequence[Plan],
    best: Plan,
    report: Report,
    dataset: Mapping[str, Any],
) -> Path:
    """Write ``folder/deploy`` anew and return it.

    Args:
        model_folder: what ``Model.save`` wrote; becomes ``checkpoint/``.
        onnx: the portable graph of each tower; becomes ``model.onnx``, or ``image.onnx`` and ``text.onnx``.
        plans: engines of this model; PyTorch reference rows cannot be deployed and are left out.
        best: the plan that ``predict.py`` opens unless told otherwise.
        dataset: the options of the dataset; texts are cut at its ``max_length``, as in training.
    """
    target, work = Path(folder) / "deploy", Path(folder) / "deploy.unfinished"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(model_folder, work / "checkpoint")
    placed: dict[str, str] = {}
    for tower, file in onnx.items():
        placed |= _graph(work, tower, file)
    kind = kind_of(onnx)
    kind.place(work, Path(model_folder))
    whole = [plan for plan in plans if plan.tower == best.tower and plan != best]
    engines = _engines(work, placed, [best, *whole])
    prepared = preprocessing(kind, onnx, Path(model_folder), dataset)
    _write_settings(work, report, kind, {"engines": engines, "preprocessing": prepared})
    _remember(work)
    _write_card(work, report, kind)
    shutil.rmtree(target, ignore_errors=True)
    return work.replace(target)


def _graph(work: Path, tower: str, file: Path) -> dict[str, str]:
    """Copy a tower's graph; its digest and its name there."""
    from modelpress.store import file_digest

    name = "model.onnx" if tower == "main" else f"{tower}.onnx"
    shutil.copyfile(file, work / name)
    for part in companions(file):
        shutil.copyfile(part, work / part.name)
    return {file_digest(file): name}


def _remember(work: Path) -> None:
    """A dual encoder's texts of its own labels are encoded once, by the best engine."""
    from modelpress.deploying.module import predictor_module

    predictor = predictor_module(work).Predictor(work)
    if hasattr(predictor, "remember"):
        predictor.remember()


def _engines(work: Path, placed: dict[str, str], plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Copy the files of every plan that can be deployed; what ``deploy.json`` says of each, in the same order."""
    found = []
    for plan in plans:
        if plan.engine not in SPELLING:
            continue
        parts = plan.single()
        files = {part.tower: _placed(work, placed, part) for part in parts}
        engine = {"name": f"{plan.engine}-{plan.precision}", "runtime": plan.engine, "files": files}
        engine |= {"precision": plan.precision, "threads": plan.settings["threads"]}
        found.append(engine | SPELLING[plan.engine](parts[0].settings) | {"requirement": _requirement(parts[0])})
    return found or [_portable(placed, plans[0])]


def _portable(placed: Mapping[str, str], plan: Plan) -> dict[str, Any]:
    """The exported graph itself in ONNX Runtime on a CPU, unmeasured: where no engine of the run can be taken away."""
    files = {"main" if name == "model.onnx" else Path(name).stem: name for name in placed.values()}
    session = {"threads": plan.settings["threads"], "provider": "CPUExecutionProvider", "spinning": True}
    kind = {"name": "onnxruntime-portable", "runtime": "onnxruntime", "precision": "as exported"}
    return {**kind, "files": files, **session, "requirement": _pinned("onnxruntime")}


def _placed(work: Path, placed: dict[str, str], plan: Plan) -> str:
    from modelpress.store import file_digest

    source = Path(plan.file).resolve()
    digest = file_digest(source)
    if digest not in placed:
        placed[digest] = _place(work, plan, source)
    return placed[digest]


def _place(work: Path, plan: Plan, source: Path) -> str:
    folder = work / "engines" / plan.engine
    if (folder / source.name).exists():
        folder = work / "engines" / f"{plan.engine}_{plan.precision}"
    folder.mkdir(parents=True, exist_ok=True)
    for part in (source, *companions(source)):
        shutil.copyfile(part, folder / part.name)
    return str((folder / source.name).relative_to(work))


def companions(file: Path) -> list[Path]:
    """Files that belong to an engine's by name: OpenVINO's ``.bin``, weights outside an ONNX graph, sidecars."""
    if file.suffix == ".onnx":
        return [file.parent / name for name in inspect(file).external]
    beside = {".xml": ".bin", ".engine": ".json"}.get(file.suffix)
    return [file.with_suffix(beside)] if beside else []


def _requirement(plan: Plan) -> str:
    if plan.engine in INSTALL:
        return " ".join(f"{name}=={version}" for name, version in installed(plan.engine).items())
    return _pinned("onnxruntime-gpu" if plan.engine == "onnxruntime_cuda" else plan.engine)


def _pinned(package: str) -> str:
    """The version that is installed here, or that of the other package of ONNX Runtime."""
    try:
        return f"{package}=={metadata.version(package)}"
    except metadata.PackageNotFoundError:
        other = {"onnxruntime": "onnxruntime-gpu", "onnxruntime-gpu": "onnxruntime"}[package]
        return f"{package}=={metadata.version(other)}"


def _write_settings(work: Path, report: Report, kind: Kind, facts: Mapping[str, Any]) -> None:
    labels = [str(label) for label in report.dataset["labels"]]
    _write(work / "labels.json", json.dumps(labels, ensure_ascii=False))
    _write(work / "deploy.json", json.dumps({"schema_version": 2, "name": report.name, **facts}, indent=1))
    first, engines = facts["engines"][0]["requirement"], facts["engines"]
    others = sorted({engine["requirement"] for engine in engines} - {first})
    lines = [first, *map(_pinned, (*kind.packages, "numpy"))]
    _write(work / "requirements.txt", "\n".join(lines + [f"# for the other engines: {other}" for other in others]))


def _write_card(work: Path, report: Report, kind: Kind) -> None:
    from modelpress.deploying.card import render
    from modelpress.store import file_digest

    def digests() -> dict[str, str]:
        files = sorted(path for path in work.rglob("*") if path.is_file())
        return {str(path.relative_to(work)): file_digest(path) for path in files}

    _write(work / "README.md", render(report, kind, json.loads((work / "deploy.json").read_text()), digests()))
    _write(work / SUMS, "\n".join(f"{digest}  {name}" for name, digest in digests().items()))


def _write(path: Path, text: str) -> None:
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")

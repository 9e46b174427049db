"""``deploy/``: all that is needed to use the result elsewhere; ``modelpress predict`` uses it here. Torch-free."""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from modelpress.engines.base import Plan
from modelpress.engines.graph import inspect
from modelpress.errors import ModelPressError
from modelpress.report.record import Report

TEMPLATES = Path(__file__).parent / "deploy_files"
BESIDE = ("runtimes",)  # what predict.py imports from its own folder
SUMS = "SHA256SUMS"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
#: What predict.py needs to open a plan of each runtime as it was measured, from the plan's own settings.
SPELLING: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "onnxruntime": lambda settings: {"provider": settings["provider"], "spinning": settings["spinning"]},
    "openvino": lambda settings: {"precision_hint": HINTS[settings["float"]]},
}


def assemble(
    folder: Path,
    *,
    model_folder: Path,
    onnx: Path,
    plans: Sequence[Plan],
    best: Plan,
    report: Report,
    max_length: int | None = None,
) -> Path:
    """Write ``folder/deploy`` anew and return it.

    Args:
        model_folder: what ``Model.save`` wrote; becomes ``checkpoint/``, which transformers loads.
        onnx: the portable graph; becomes ``model.onnx``.
        plans: engines of this model; PyTorch reference rows cannot be deployed and are left out.
        best: the plan that ``predict.py`` opens unless told otherwise.
        max_length: tokens at which texts are cut, as in training; ``None``: as many as the network has positions.
    """
    target, work = Path(folder) / "deploy", Path(folder) / "deploy.unfinished"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(model_folder, work / "checkpoint")
    shutil.copyfile(onnx, work / "model.onnx")
    for part in companions(onnx):
        shutil.copyfile(part, work / part.name)
    for path in (TEMPLATES / "predict.py", TEMPLATES / "runtimes.py", Path(model_folder) / "tokenizer.json"):
        shutil.copyfile(path, work / path.name)
    engines = _engines(work, onnx, [best, *(plan for plan in plans if plan != best)])
    _write_settings(work, report, engines, _preprocessing(work, max_length))
    _write_card(work, report)
    shutil.rmtree(target, ignore_errors=True)
    return work.replace(target)


def _engines(work: Path, onnx: Path, plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Copy the files of every plan that can be deployed; what ``deploy.json`` says of each, in the same order."""
    from modelpress.store import file_digest

    found, placed = [], {file_digest(onnx): "model.onnx"}
    for plan in plans:
        if plan.engine not in SPELLING:
            continue
        source = Path(plan.file).resolve()
        digest = file_digest(source)
        if digest not in placed:
            placed[digest] = _place(work, plan, source)
        engine = {"name": f"{plan.engine}-{plan.precision}", "runtime": plan.engine, "file": placed[digest]}
        engine |= {"precision": plan.precision, "threads": plan.settings["threads"]}
        found.append(engine | SPELLING[plan.engine](plan.settings) | {"requirement": _requirement(plan)})
    if not found:
        raise ModelPressError(f"None of the engines can be deployed; predict.py opens: {', '.join(SPELLING)}.")
    return found


def _place(work: Path, plan: Plan, source: Path) -> str:
    folder = work / "engines" / plan.engine
    if (folder / source.name).exists():
        folder = work / "engines" / f"{plan.engine}_{plan.precision}"
    folder.mkdir(parents=True)
    for part in (source, *companions(source)):
        shutil.copyfile(part, folder / part.name)
    return str((folder / source.name).relative_to(work))


def companions(file: Path) -> list[Path]:
    """Files that an engine opens by itself and finds by name: OpenVINO's ``.bin``, weights outside an ONNX graph."""
    if file.suffix == ".onnx":
        return [file.parent / name for name in inspect(file).external]
    return [file.with_suffix(".bin")] if file.suffix == ".xml" else []


def _requirement(plan: Plan) -> str:
    cuda = plan.settings.get("provider") == "CUDAExecutionProvider"
    return _pinned("onnxruntime-gpu" if cuda else plan.engine)


def _pinned(package: str) -> str:
    return f"{package}=={metadata.version(package)}"


def _preprocessing(work: Path, max_length: int | None) -> dict[str, Any]:
    """The keyword arguments of predict.py's ``Preprocessor``, read from the graph and the checkpoint."""
    from modelpress.data.tokenizer import TextTokenizer

    names = [value.name for value in inspect(work / "model.onnx").inputs]
    if unknown := [name for name in names if name not in INPUTS]:
        raise ModelPressError(f"model.onnx has inputs that a tokenizer does not make: {', '.join(unknown)}.")
    if max_length is None:
        config = json.loads((work / "checkpoint" / "config.json").read_text(encoding="utf-8"))
        max_length = int(config["max_position_embeddings"])
    return {"inputs": names, "max_length": max_length, "pad_id": TextTokenizer(work / "checkpoint").pad_id}


def _write_settings(
    work: Path, report: Report, engines: list[dict[str, Any]], preprocessing: Mapping[str, Any]
) -> None:
    labels = [str(label) for label in report.dataset["labels"]]
    settings = {"schema_version": 1, "name": report.name, "engines": engines, "preprocessing": preprocessing}
    _write(work / "labels.json", json.dumps(labels, ensure_ascii=False))
    _write(work / "deploy.json", json.dumps(settings, indent=1))
    others = sorted({engine["requirement"] for engine in engines} - {engines[0]["requirement"]})
    lines = [engines[0]["requirement"], _pinned("tokenizers"), _pinned("numpy")]
    _write(work / "requirements.txt", "\n".join(lines + [f"# for the other engines: {other}" for other in others]))


def _write_card(work: Path, report: Report) -> None:
    from modelpress.model_card import render
    from modelpress.store import file_digest

    def digests() -> dict[str, str]:
        files = sorted(path for path in work.rglob("*") if path.is_file())
        return {str(path.relative_to(work)): file_digest(path) for path in files}

    _write(work / "README.md", render(report, json.loads((work / "deploy.json").read_text()), digests()))
    _write(work / SUMS, "\n".join(f"{digest}  {name}" for name, digest in digests().items()))


def _write(path: Path, text: str) -> None:
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


@functools.cache  # a module that died would take its OpenVINO core along: see engines/openvino_core.py
def predictor_module(folder: Path | None = None) -> ModuleType:
    """``predict.py`` of a deploy folder as a module (default: the one that is copied into every deploy folder)."""
    place = TEMPLATES if folder is None else Path(folder)
    beside = {name: _module(place / f"{name}.py") for name in BESIDE if (place / f"{name}.py").is_file()}
    before = {name: sys.modules.get(name) for name in beside}
    sys.modules.update(beside)
    try:
        return _module(place / "predict.py")
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})


def _module(path: Path) -> ModuleType:
    """A file run as a module; an import would leave ``__pycache__`` and take another file of that name."""
    module = ModuleType(f"modelpress_{path.stem}")
    module.__file__ = str(path)
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), module.__dict__)
    return module


def preprocess_ms(folder: Path, texts: Sequence[str | tuple[str, str]], *, max_length: int = 128) -> float:
    """Median milliseconds, per item, to turn one text into model inputs and one row of logits into an answer.

    ``folder`` is a deploy folder or a saved model's folder; ``texts`` are real ones (each is measured once).
    """
    if not texts:
        raise ModelPressError("preprocess_ms needs at least one text.")
    module = predictor_module()
    preprocess = _preprocessor(module, Path(folder), max_length)
    predictor = module.Predictor.__new__(module.Predictor)
    predictor.labels = ["a", "b"]
    logits = [[0.5, -0.5]]
    preprocess(texts[:1])  # the first call builds tables
    return statistics.median(_elapsed_ms(preprocess, predictor.postprocess, text, logits) for text in texts)


def _preprocessor(module: ModuleType, folder: Path, max_length: int) -> Any:
    from modelpress.data.tokenizer import TextTokenizer

    if (folder / "deploy.json").is_file():
        return module.Predictor(folder).preprocess
    options = {"inputs": INPUTS, "max_length": max_length, "pad_id": TextTokenizer(folder).pad_id}
    return module.Preprocessor(folder / "tokenizer.json", **options)


def _elapsed_ms(before: Any, after: Any, text: str | tuple[str, str], logits: list[list[float]]) -> float:
    started = time.perf_counter()
    before([text])
    after(logits)
    return (time.perf_counter() - started) * 1e3


def deploy_folder(run: Path | str) -> Path:
    """The deploy folder of a run, or the folder itself if it is one. Raises if there is none, naming known ones."""
    given = Path(run)
    for folder in (given, given / "deploy"):
        if (folder / "deploy.json").is_file():
            return folder
    if not given.exists():
        known = sorted(path.parents[1] for path in Path("outputs").glob("*/*/deploy/deploy.json"))
        names = ", ".join(map(str, known[-5:])) or "none yet; `modelpress run` makes one"
        raise ModelPressError(f"There is no run at {given}. Runs under outputs/ that can predict: {names}.")
    raise ModelPressError(
        f"{given} has no deploy/ folder: the run was stopped before its end, failed, or ran with callbacks=none. "
        "Repeat its command; what is finished is not done twice."
    )


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``modelpress predict``."""
    parser = subparsers.add_parser("predict", help="classify texts with a deployed engine", description=main.__doc__)
    parser.add_argument("run", type=Path, help="a run's folder, e.g. outputs/latest, or its deploy folder")
    parser.add_argument("texts", nargs="+", help="texts to classify")
    parser.add_argument("--pair", metavar="TEXT", help="the second text, for a model of text pairs")
    parser.add_argument("--engine", help="a runtime or an engine of deploy.json (default: the best)")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Classify texts with the engine that a run deployed."""
    if args.pair is not None and len(args.texts) != 1:
        raise ModelPressError(f"--pair needs exactly one text before it; there are {len(args.texts)}.")
    folder = deploy_folder(args.run)
    module = predictor_module(folder)
    texts = [(args.texts[0], args.pair)] if args.pair is not None else args.texts
    try:
        predictor = module.Predictor(folder, args.engine)
        answers = predictor.predict(texts)
    except module.DeployError as error:
        raise ModelPressError(str(error)) from error
    _show(answers, f"{predictor.settings['name']} in {predictor.engine['name']}")
    return 0


def _show(answers: Sequence[Mapping[str, Any]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("label", "probability", "text", title=title)
    for answer in answers:
        text = answer["text"] if isinstance(answer["text"], str) else " | ".join(answer["text"])
        table.add_row(Text(answer["label"], "bold"), f"{answer['probability']:.3f}", Text(text))
    Console().print(table)

"""Faults that only the torch-free objects know: ranges, missing weights, size and tokenizer of student and teacher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from modelpress.check_nodes import MISSING, Tree, stages
from modelpress.check_rules import external_stages
from modelpress.config import build
from modelpress.errors import ModelPressError
from modelpress.models.clip import ClipModel
from modelpress.models.recipe import Recipe

DATA_FILES = frozenset({".csv", ".tsv", ".parquet", ".jsonl", ".json", ".txt", ".bz2", ".gz", ".xz", ".zip"})
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")


def object_faults(config: Tree, known: Sequence[str]) -> list[str]:
    """Build what is light and sound so far (``known``: faults found before), and collect what it refuses."""
    faults: list[str] = []
    built: dict[str, Any] = {}
    nodes = {key: config[key] for key in ("dataset", "model", "teacher", "hardware", "benchmark")}
    nodes |= {f"engine.{name}": node for name, node in (config["engine"] or {}).items()}
    for key, node in nodes.items():
        if node and "_target_" in node and _is_sound(key, node, known):
            faults += _collect(built, key, node)
    faults += [fault for key, stage in stages(config).items() for fault in _optimizer(key, stage, known)]
    faults += _files(config["dataset"])
    return faults + _student_faults(config, built.get("model"), built.get("teacher"))


def _is_sound(key: str, node: Tree, known: Sequence[str]) -> bool:
    return MISSING not in node.values() and not any(fault.startswith(f"{key}.") for fault in known)


def _collect(built: dict[str, Any], key: str, node: Tree) -> list[str]:
    try:
        built[key] = build(node, key)
    except ModelPressError as error:
        return [str(error)]
    return []


def _optimizer(key: str, stage: Tree, known: Sequence[str]) -> list[str]:
    from modelpress.optimizer import OptimizerConfig

    address, node = f"{key}.optimizer", stage["optimizer"]
    if not isinstance(node, dict) or "_target_" in node or not _is_sound(address, node, known):
        return []
    try:
        OptimizerConfig(**node)
    except ModelPressError as error:
        return [f"{key}.{error}"]
    return []


def _files(dataset: Tree) -> list[str]:
    """A path that looks like a file of data must be one. Folders and hub ids are the dataset's own affair."""
    path = dataset.get("path") if dataset else None
    if not isinstance(path, str) or path == MISSING or Path(path).suffix.lower() not in DATA_FILES:
        return []
    if Path(path).expanduser().is_file():
        return []
    return [f"dataset.path {path} does not exist (looked in {Path(path).expanduser().absolute().parent})."]


def _student_faults(config: Tree, student: Recipe | None, teacher: Recipe | None) -> list[str]:
    """What a student owes its teacher; nothing to say where nobody learns from it."""
    learns = bool(external_stages(config))
    if student is None or (teacher is None and (config["teacher"] or learns)):
        return []  # the missing teacher is a fault of its own
    try:
        theirs = teacher.parameters() if teacher is not None else None
    except ModelPressError as error:
        return [f"teacher: {error}"]
    try:
        resolve = getattr(student, "resolve", None)
        student = resolve(teacher) if resolve is not None else student
        own = student.parameters() if student is not None else None
    except ModelPressError as error:
        return [f"model: {error}"]
    if teacher is None or student is None or not learns:
        return []
    return [*_not_smaller((student.name, own), (teacher.name, theirs)), *_other_tokenizer(config, student, teacher)]


def _not_smaller(student: tuple[str, int | None], teacher: tuple[str, int | None]) -> Iterable[str]:
    (name, own), (taught_by, theirs) = student, teacher
    if own is not None and theirs is not None and own >= theirs:
        yield (
            f"model: the student {name} has {own / 1e6:.1f} M parameters and its teacher {taught_by} "
            f"{theirs / 1e6:.1f} M. A student must be smaller: choose another model=… or model@teacher=…"
        )


def _other_tokenizer(config: Tree, student: Recipe, teacher: Recipe) -> Iterable[str]:
    if isinstance(student, ClipModel):
        return  # embeddings are compared, not tokens, and a batch holds the teacher's own inputs
    folders: dict[str, Path | None] = {}
    for key, recipe in (("model", student), ("teacher", teacher)):
        if _is_remote(config[key]):
            return  # comparing would download; the run compares once the files are here
        try:
            folders[key] = recipe.preprocessor()
        except ModelPressError as error:
            yield f"{key}: {error}"
            return
    own, theirs = folders["model"], folders["teacher"]
    if own is not None and theirs is not None and _vocabulary(own) != _vocabulary(theirs):
        yield (
            f"model: the student {student.name} and its teacher {teacher.name} have different tokenizers ({own} and "
            f"{theirs}), so their tokens cannot be compared. Give the student its teacher's: model.tokenizer={theirs}"
        )


def _is_remote(node: Tree) -> bool:
    from modelpress.models.source import is_hub_id

    return any(isinstance(node.get(key), str) and is_hub_id(node[key]) for key in ("path", "tokenizer"))


def _vocabulary(folder: Path) -> bytes:
    """The file that decides which token has which number."""
    return next((path.read_bytes() for name in VOCABULARIES if (path := folder / name).is_file()), b"")

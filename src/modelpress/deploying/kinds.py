"""What a deploy folder holds beside its engines, for networks of texts, of images and of both. Torch-free."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelpress.engines.graph import inspect
from modelpress.errors import ModelPressError

TEMPLATES = Path(__file__).parent / "files"
BESIDE = ("runtimes", "pictures")  # what predict.py imports from its own folder
TOKENS = ("input_ids", "attention_mask", "token_type_ids")
PREPROCESS = "preprocess.json"


@dataclass(frozen=True)
class Kind:
    """``predict``: the template that becomes predict.py. ``packages`` are what it needs beside numpy and a runtime."""

    pipeline_tag: str
    predict: str
    beside: tuple[str, ...]
    packages: tuple[str, ...]
    files: tuple[str, ...]  # of the saved model, copied beside predict.py

    def place(self, work: Path, model_folder: Path) -> None:
        """Copy templates and files into ``work``."""
        copies = {"predict.py": TEMPLATES / self.predict}
        copies |= {f"{name}.py": TEMPLATES / f"{name}.py" for name in self.beside}
        copies |= {name: model_folder / name for name in self.files}
        for name, source in copies.items():
            (work / name).write_bytes(source.read_bytes())


TEXTS = Kind("text-classification", "predict.py", ("runtimes",), ("tokenizers",), ("tokenizer.json",))
IMAGES = Kind("image-classification", "predict_images.py", ("runtimes", "pictures"), ("pillow",), ())
PAIRS = Kind(
    "zero-shot-image-classification",
    "predict_images.py",
    ("runtimes", "pictures"),
    ("pillow", "tokenizers"),
    ("tokenizer.json",),
)


def kind_of(onnx: Mapping[str, Path]) -> Kind:
    """By the towers and the inputs of the graphs. Raises ModelPressError for inputs that nobody prepares."""
    if len(onnx) > 1:
        return PAIRS
    names = [value.name for value in inspect(onnx["main"]).inputs]
    if names == ["pixel_values"]:
        return IMAGES
    if unknown := [name for name in names if name not in TOKENS]:
        raise ModelPressError(f"{onnx['main'].name} has inputs that a tokenizer does not make: {', '.join(unknown)}.")
    return TEXTS


def preprocessing(
    kind: Kind, onnx: Mapping[str, Path], model_folder: Path, dataset: Mapping[str, Any]
) -> dict[str, Any]:
    """How predict.py prepares what it is given. ``dataset``: options of its yaml (``max_length``, ``templates``)."""
    if kind is TEXTS:
        return _texts(onnx["main"], model_folder, dataset.get("max_length"))
    wanted: dict[str, Any] = json.loads((model_folder / PREPROCESS).read_text(encoding="utf-8"))
    if kind is IMAGES:
        return wanted
    names = [value.name for value in inspect(onnx["text"]).inputs]
    templates = list(dataset.get("templates") or ["{}"])
    return wanted | {
        "inputs": names,
        "pad_id": _pad_id(model_folder),
        "scale": _scale(model_folder),
        "templates": templates,
    }


def _texts(onnx: Path, model_folder: Path, max_length: int | None) -> dict[str, Any]:
    if max_length is None:
        config = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
        max_length = int(config["max_position_embeddings"])
    names = [value.name for value in inspect(onnx).inputs]
    return {"inputs": names, "max_length": max_length, "pad_id": _pad_id(model_folder)}


def _pad_id(model_folder: Path) -> int:
    from modelpress.data.tokenizer import TextTokenizer

    return int(TextTokenizer(model_folder).pad_id)


def _scale(model_folder: Path) -> float:
    """What cosines are multiplied by: saved as its logarithm, and never above 100."""
    from safetensors import safe_open

    with safe_open(model_folder / "model.safetensors", "numpy") as weights:
        return min(100.0, math.exp(float(weights.get_tensor("logit_scale"))))

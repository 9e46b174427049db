"""How a model wants its images and texts: ``preprocess.json`` in its preprocessor folder. Torch-free."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelpress.deploying.files.pictures import Wanted
from modelpress.errors import ModelPressError, one_of

FILE, TOKENIZER = "preprocess.json", "tokenizer.json"
RESIZE_MODES = ("shortest", "longest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear")


@dataclass(frozen=True)
class Preprocess(Wanted):
    """The values of ``preprocess.json``, with open_clip's meaning of every word.

    ``context_length``: positions of the text tower; ``None``: the model reads no text. ``pad``: every text is padded to
    all of them; otherwise to the longest of its batch. ``attention_mask``: whether the text tower reads one (most know
    the padding by its id).
    ``crop_pct`` (timm's word): the image is resized to ``size / crop_pct`` before the centre is cut out.
    """

    context_length: int | None = None
    pad: bool = False
    attention_mask: bool = False

    def pixels(self) -> list[object]:
        """JSON-encodable values that decide which pixels an image becomes, before they are normalised."""
        return [list(self.size), self.interpolation, self.resize_mode, self.crop_pct]


def read(folder: Path) -> Preprocess:
    """Read ``folder/preprocess.json``; keys that concern nobody here are left alone."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise ModelPressError(
            f"no {FILE} in {folder}: this model reads no images; choose model=clip_tiny or another image model, or a "
            "dataset of texts"
        )
    try:
        record: Any = json.loads(path.read_text(encoding="utf-8"))
        return _checked(path, record)
    except (ValueError, TypeError, KeyError) as error:
        what = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ModelPressError(
            f'{path}: {what}; expected {{"size": [height, width], "mean": [3 numbers], "std": [3 numbers], '
            '"interpolation": …, "resize_mode": …}'
        ) from error


def contents(folder: Path) -> tuple[Preprocess, bytes]:
    """What decides the inputs that a model sees: two models with equal contents can look at one batch."""
    tokenizer = folder / TOKENIZER
    return read(folder), tokenizer.read_bytes() if tokenizer.is_file() else b""


def _checked(path: Path, record: dict[str, Any]) -> Preprocess:
    height, width = map(int, record["size"])
    mean, std = (tuple(map(float, record[key])) for key in ("mean", "std"))
    context = record.get("context_length")
    crop = float(record.get("crop_pct", 1.0))
    if min(height, width) < 1 or len(mean) != 3 or len(std) != 3 or min(std) <= 0 or not 0 < crop <= 1:
        raise ValueError("sizes must be at least 1, mean and std three numbers, std above 0, crop_pct in (0, 1]")
    return Preprocess(
        (height, width),
        mean,
        std,
        one_of(f"{path}: interpolation", record["interpolation"], INTERPOLATIONS),
        one_of(f"{path}: resize_mode", record["resize_mode"], RESIZE_MODES),
        crop,
        None if context is None else int(context),
        bool(record.get("pad", False)),
        bool(record.get("attention_mask", False)),
    )

"""Small pictures and preprocessor folders that the image tests share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modelpress.data.preprocess import Preprocess
from tests.data.conftest import WORDS

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def wanted(height: int = 8, width: int = 8, mode: str = "shortest", filter: str = "bicubic", **more: Any) -> Preprocess:
    return Preprocess((height, width), MEAN, STD, filter, mode, **more)


def noise(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def write_picture(path: Path, seed: int, size: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(size, size, seed)).save(path)
    return path


def write_captions(folder: Path, count: int = 60, header: str = "path,caption") -> Path:
    """``count`` pictures, each with a caption of its own."""
    rows = [header]
    for i in range(count):
        write_picture(folder / f"images/{i}.png", i)
        rows.append(f"images/{i}.png,{WORDS[i % len(WORDS)]} {WORDS[i // len(WORDS)]} {' '.join(WORDS[: i % 5])}")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder / "captions.csv"


def write_preprocessor(folder: Path, tokenizer: Path | None = None, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json") if tokenizer else ():
        shutil.copy(tokenizer / name, folder / name)  # type: ignore[operator]
    record = {"size": [8, 8], "mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    record |= {"context_length": 12, "pad": False} if tokenizer else {}
    (folder / "preprocess.json").write_text(json.dumps(record | more))
    return folder

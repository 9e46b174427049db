"""From an image file to what a network sees, as open_clip resizes and crops. Needs numpy and Pillow alone.

The same file serves training and stands beside ``predict.py``, so that both see the same pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

Size = tuple[int, int]  # height, width
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Wanted:
    """How an image is fitted to ``size`` (height, width) and normalised; the words are those of ``preprocess.json``."""

    size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str
    crop_pct: float = 1.0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Wanted:
        """From what ``preprocess.json`` holds; other keys are left alone."""
        height, width = record["size"]
        mean, std = (tuple(map(float, record[key])) for key in ("mean", "std"))
        how = record["interpolation"], record["resize_mode"]
        return cls((int(height), int(width)), mean, std, *how, float(record.get("crop_pct", 1.0)))


def pixel_values(image: Path | str | Image.Image, wanted: Wanted) -> Any:
    """(3, H, W) float32, normalised."""
    opened = image if isinstance(image, Image.Image) else Image.open(image)
    pixels = np.asarray(fit(to_rgb(opened), wanted), np.float32) / np.float32(255)
    normal = (pixels - np.asarray(wanted.mean, np.float32)) / np.asarray(wanted.std, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1))


def to_rgb(image: Image.Image) -> Image.Image:
    """The first frame as 8-bit RGB: turned as EXIF says, 16-bit greys scaled, transparent parts on white."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode[0] in "IF":
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greys beyond 8 bits; PIL's own conversion cuts them off at 255."""
    values = np.asarray(image, dtype=np.float64)
    scale = 257.0 if values.max() > 255 else 1.0
    return Image.fromarray(np.clip(np.round(values / scale), 0, 255).astype(np.uint8))


def fit(image: Image.Image, wanted: Wanted) -> Image.Image:
    """Resized and cut (or padded with black) to ``wanted.size``.

    ``shortest``: the image covers the frame and its centre is cut out. ``longest``: all of it stays, the rest is
    padded. ``squash``: its proportions are lost.
    """
    size = resized((image.height, image.width), wanted)
    if size != (image.height, image.width):
        image = image.resize((size[1], size[0]), FILTERS[wanted.interpolation])
    if size == wanted.size:
        return image
    return _padded(image, wanted.size) if wanted.resize_mode == "longest" else _centre(image, wanted.size)


def resized(size: Size, wanted: Wanted) -> Size:
    """Height and width before cropping or padding; sizes are rounded as torchvision and open_clip round them.

    >>> resized((100, 150), Wanted((64, 64), (0, 0, 0), (1, 1, 1), "bicubic", "shortest"))
    (64, 96)
    """
    height, width = size
    target = wanted.size
    if wanted.resize_mode == "squash":
        return target
    if wanted.resize_mode == "shortest":
        target = (math.floor(target[0] / wanted.crop_pct), math.floor(target[1] / wanted.crop_pct))
        if target[0] == target[1]:
            return _shortest_side(size, target[0])
    ratios = height / target[0], width / target[1]
    ratio = max(ratios) if wanted.resize_mode == "longest" else min(ratios)
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def _shortest_side(size: Size, target: int) -> Size:
    height, width = size
    if height <= width:
        return target, int(target * width / height)
    return int(target * height / width), target


def _centre(image: Image.Image, size: Size) -> Image.Image:
    top, left = round((image.height - size[0]) / 2), round((image.width - size[1]) / 2)
    return image.crop((left, top, left + size[1], top + size[0]))


def _padded(image: Image.Image, size: Size) -> Image.Image:
    canvas = Image.new("RGB", (size[1], size[0]))
    canvas.paste(image, ((size[1] - image.width) // 2, (size[0] - image.height) // 2))
    return canvas

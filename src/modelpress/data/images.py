"""From an image file to the uint8 pixels that a network sees, as open_clip resizes and crops them. Torch-free."""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modelpress.data.hashing import file_sha256

if TYPE_CHECKING:
    from PIL.Image import Image

    from modelpress.data.preprocess import Preprocess

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
Size = tuple[int, int]  # height, width


class Pictures(ABC):
    """Images somewhere: counted, named for complaints, opened one at a time (from several threads)."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, number: int) -> str:
        """Where the image comes from, in the user's words."""

    @abstractmethod
    def open(self, number: int) -> Image:
        """The image, not decoded yet. Raises what PIL raises on a file that is none."""

    @abstractmethod
    def content(self, numbers: Iterable[int]) -> list[object]:
        """JSON-encodable values that name the pixels of these images: checksums of their files."""


@dataclass(frozen=True)
class Files(Pictures):
    """Image files, each with a name for complaints."""

    paths: Sequence[Path]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, number: int) -> str:
        return self.names[number]

    def open(self, number: int) -> Image:
        from PIL import Image

        return Image.open(self.paths[number])

    def content(self, numbers: Iterable[int]) -> list[object]:
        return [[self.names[number], file_sha256(self.paths[number])] for number in numbers]


@dataclass(frozen=True)
class Pieces(Pictures):
    """Image files that lie inside others (tar archives): file, first byte and number of bytes of each."""

    pieces: Sequence[tuple[Path, int, int]]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.pieces)

    def name(self, number: int) -> str:
        return self.names[number]

    def open(self, number: int) -> Image:
        from PIL import Image

        path, start, size = self.pieces[number]
        with path.open("rb") as file:
            file.seek(start)
            return Image.open(io.BytesIO(file.read(size)))

    def content(self, numbers: Iterable[int]) -> list[object]:
        pieces = [self.pieces[number] for number in numbers]
        sums = {path: file_sha256(path) for path in dict.fromkeys(piece[0] for piece in pieces)}
        return [[sums[path], start, size] for path, start, size in pieces]


@dataclass(frozen=True)
class Chosen(Pictures):
    """Some of ``pictures``, so that the others are never decoded."""

    pictures: Pictures
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, number: int) -> str:
        return self.pictures.name(self.numbers[number])

    def open(self, number: int) -> Image:
        return self.pictures.open(self.numbers[number])

    def content(self, numbers: Iterable[int]) -> list[object]:
        return self.pictures.content([self.numbers[number] for number in numbers])


def decode(image: Image, wanted: Preprocess, max_pixels: int) -> NDArray[np.uint8]:
    """RGB pixels (H, W, 3) of the size ``wanted``; raises ValueError on an image of more than ``max_pixels``.

    Equals open_clip's transform before it normalises, but for two things that transform ignores: an orientation that
    stands in EXIF is applied, and transparent images are laid on white.
    """
    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(f"{width}x{height} pixels are more than dataset.max_pixels={max_pixels:,}")
    return np.asarray(fit(to_rgb(image), wanted), dtype=np.uint8)


def to_rgb(image: Image) -> Image:
    """The first frame as 8-bit RGB: turned as EXIF says, 16-bit greys scaled, transparent parts on white."""
    from PIL import Image, ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    if image.mode[0] in "IF":
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _eight_bits(image: Image) -> Image:
    """Greys beyond 8 bits; PIL's own conversion cuts them off at 255."""
    from PIL import Image

    values = np.asarray(image, dtype=np.float64)
    scale = 257.0 if values.max() > 255 else 1.0
    return Image.fromarray(np.clip(np.round(values / scale), 0, 255).astype(np.uint8))


def fit(image: Image, wanted: Preprocess) -> Image:
    """Resized and cut (or padded with black) to ``wanted.size``.

    ``shortest``: the image covers the frame and its centre is cut out. ``longest``: all of it stays, the rest is
    padded. ``squash``: its proportions are lost.
    """
    from PIL import Image

    size = resized((image.height, image.width), wanted)
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    if size != (image.height, image.width):
        image = image.resize((size[1], size[0]), filters[wanted.interpolation])
    if size == wanted.size:
        return image
    return _padded(image, wanted.size) if wanted.resize_mode == "longest" else _centre(image, wanted.size)


def resized(size: Size, wanted: Preprocess) -> Size:
    """Height and width before cropping or padding; sizes are rounded as torchvision and open_clip round them.

    >>> from modelpress.data.preprocess import Preprocess
    >>> resized((100, 150), Preprocess((64, 64), (0, 0, 0), (1, 1, 1), "bicubic", "shortest"))
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


def _centre(image: Image, size: Size) -> Image:
    top, left = round((image.height - size[0]) / 2), round((image.width - size[1]) / 2)
    return image.crop((left, top, left + size[1], top + size[0]))


def _padded(image: Image, size: Size) -> Image:
    from PIL import Image

    canvas = Image.new("RGB", (size[1], size[0]))
    canvas.paste(image, ((size[1] - image.width) // 2, (size[0] - image.height) // 2))
    return canvas

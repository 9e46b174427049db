"""From an image file to the uint8 pixels that a network sees, as open_clip resizes and crops them. Torch-free."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modelpress.data.hashing import file_sha256
from modelpress.deploying.files.pictures import fit, to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

    from modelpress.data.preprocess import Preprocess

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")


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

    def original(self, number: int) -> Path | Image:
        """The file, where the image has one of its own; otherwise the image, opened."""
        return self.open(number)

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

    def original(self, number: int) -> Path:
        return self.paths[number]

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

    def original(self, number: int) -> Path | Image:
        return self.pictures.original(self.numbers[number])

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

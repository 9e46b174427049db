"""The pixel cache: every image decoded and resized once, as one table that is mapped into memory. Torch-free."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from modelpress.data.cache import FolderCache
from modelpress.data.hashing import digest, source_sha256
from modelpress.data.images import Pictures, decode
from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    from modelpress.data.image_dataset import ImageDataset
    from modelpress.data.preprocess import Preprocess

log = logging.getLogger(__name__)

TABLE = "pixels.npy"
CHUNK = 256  # images decoded ahead of what is written
NAMED = 5  # bad images that a message names
Bad = dict[int, str]  # number of an image -> its name and what is wrong with it


class PixelCache(FolderCache):
    """``<root>/pixels-<key>/``: the images of a dataset as one (n, H, W, 3) uint8 table.

    The key covers the images, the size and manner of resizing, and the code that decodes. Images that cannot be
    decoded are black in the table and listed in the manifest; more than ``max_bad_share`` of them are an error.
    """

    kind: ClassVar[str] = "pixels"
    making: ClassVar[str] = "decoding"
    files: ClassVar[tuple[str]] = (TABLE,)

    def __init__(self, dataset: ImageDataset, wanted: Preprocess, root: Path) -> None:
        self.dataset, self.wanted = dataset, wanted
        code = source_sha256("modelpress.data.images", "modelpress.data.pixels", "modelpress.deploying.files.pictures")
        super().__init__(root, digest(dataset.content(), wanted.pixels(), dataset.max_pixels, code))

    def table(self) -> NDArray[np.uint8]:
        """The pixels, mapped from disk: (n, H, W, 3)."""
        found: NDArray[np.uint8] = np.load(self.folder / TABLE, mmap_mode="r")
        return found

    def bad(self) -> Bad:
        """The images that could not be decoded; raises where there are more of them than allowed today."""
        found = {int(number): reason for number, reason in self.facts(TABLE)["bad"]}
        self._refuse(found)
        return found

    def _fill(self, folder: Path) -> dict[str, dict[str, Any]]:
        started, bad = time.perf_counter(), Bad()
        pictures = self.dataset.listing().pictures
        with (folder / TABLE).open("wb") as file:
            shape = (len(pictures), *self.wanted.size, 3)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for pixels in self._decoded(pictures, bad):
                file.write(pixels.tobytes())
            file.flush()
            os.fsync(file.fileno())
        log.info("Decoded %d images in %.1f s.", len(pictures), time.perf_counter() - started)
        if bad:
            log.warning(
                "%d of %d images cannot be read and are left out: %s",
                len(bad),
                len(pictures),
                named(list(bad.values())),
            )
        return {TABLE: {"bad": sorted(bad.items())}}

    def _decoded(self, pictures: Pictures, bad: Bad) -> Iterator[NDArray[np.uint8]]:
        """Every image in order; fills ``bad`` on the way and gives up as soon as it holds too many."""
        with _no_limit_of_pil(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for start in range(0, len(pictures), CHUNK):
                numbers = range(start, min(start + CHUNK, len(pictures)))
                for number, found in zip(numbers, pool.map(self._decode, numbers), strict=True):
                    if isinstance(found, str):
                        bad[number] = found
                        self._refuse(bad)
                        found = np.zeros((*self.wanted.size, 3), np.uint8)
                    yield found

    def _decode(self, number: int) -> NDArray[np.uint8] | str:
        pictures = self.dataset.listing().pictures
        try:
            with pictures.open(number) as image:
                return decode(image, self.wanted, self.dataset.max_pixels)
        except Exception as error:  # the decoders of damaged files raise anything, SyntaxError included
            reason = str(error) or type(error).__name__
            return f"{pictures.name(number)}: {reason}"

    def _refuse(self, bad: Bad) -> None:
        listing = self.dataset.listing()
        refuse_many(list(bad.values()), len(listing.missing), listing.total, self.dataset.max_bad_share)


def refuse_many(bad: list[str], before: int, total: int, max_bad_share: float) -> None:
    """Raise if ``bad`` images, and ``before`` that were counted earlier, are more than the share allowed."""
    count = len(bad) + before
    if bad and count > max_bad_share * total:
        raise ModelPressError(
            f"at least {count} of {total} images cannot be read, allowed are {max_bad_share:.1%}: "
            f"{named(bad)}; mend or remove them, or raise dataset.max_bad_share"
        )


def named(bad: list[str]) -> str:
    """The first few, and how many more there are."""
    first = "; ".join(bad[:NAMED])
    return f"{first}; and {len(bad) - NAMED} more" if len(bad) > NAMED else first


@contextmanager
def _no_limit_of_pil() -> Iterator[None]:
    """PIL only warns of huge images at first, from whatever thread; ``max_pixels`` refuses them before they decode."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before

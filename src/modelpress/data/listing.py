"""What an image dataset lists before anything is decoded: images, texts, who belongs to whom. Torch-free."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from modelpress.data.base import SPLITS
from modelpress.data.images import Chosen, Pictures
from modelpress.data.splits import SHARES, thin
from modelpress.errors import ModelPressError

log = logging.getLogger(__name__)

Numbers = NDArray[np.int64]


@dataclass
class Listing:
    """Rows, each an image with one of its texts, in splits.

    A *candidate* is what an image is matched with: a caption (and the captions that say the same), a concept or a
    class. It may have several texts and several images. Splits beyond the four are tests on other images of the
    test's candidates.
    """

    pictures: Pictures
    texts: list[str]
    image: Numbers  # (n,) number in pictures
    text: Numbers  # (n,) number in texts
    candidate: Numbers  # (n,) number in names
    split: NDArray[np.str_]  # (n,)
    names: list[str]  # of the candidates
    owner: Numbers  # (number of texts,) candidate of each text
    missing: list[str] = field(default_factory=list)  # images that are not where they should be; not in pictures

    @property
    def total(self) -> int:
        """Images, missing ones included."""
        return len(self.pictures) + len(self.missing)

    def keep(self, rows: Numbers) -> None:
        """Drop the other rows."""
        self.image, self.text, self.candidate = self.image[rows], self.text[rows], self.candidate[rows]
        self.split = self.split[rows]

    def drop_unused(self) -> None:
        """Forget the pictures that are in no row, so that nobody decodes them."""
        used, self.image = np.unique(self.image, return_inverse=True)
        self.pictures = Chosen(self.pictures, used.tolist())

    def thin(self, limit: int) -> None:
        """At most ``limit`` rows of each split; extra splits keep to the candidates that the test keeps."""
        kept = [self._thinned(split, limit, None) for split in SPLITS]
        tested = self.candidate[kept[SPLITS.index("test")]]
        kept += [self._thinned(split, limit, tested) for split in self.extras()]
        self.keep(np.sort(np.concatenate(kept)))

    def _thinned(self, split: str, limit: int, among: Numbers | None) -> Numbers:
        wanted = self.split == split
        if among is not None:
            wanted &= np.isin(self.candidate, among)
        rows = np.flatnonzero(wanted)
        return rows[thin(self.candidate[rows], limit)] if len(rows) else rows

    def extras(self) -> list[str]:
        """Names of the splits beyond the four."""
        return sorted(set(self.split.tolist()) - set(SPLITS))


def check(listing: Listing, name: str) -> None:
    """Raise where a split has no rows, or fewer than the two candidates that a choice needs."""
    for split in SPLITS:
        found = len(np.unique(listing.candidate[listing.split == split]))
        if not found:
            raise ModelPressError(f"dataset {name!r}: split {split!r} has no images; give it some, or more data")
        if found < 2 and split != "calibration":
            raise ModelPressError(
                f"dataset {name!r}: all images of split {split!r} belong to {_only(listing, split)!r}; a choice needs "
                "two candidates or more: give more data, or other splits"
            )


def _only(listing: Listing, split: str) -> str:
    return listing.names[int(listing.candidate[listing.split == split][0])]


def components(left: Numbers, right: Numbers) -> Numbers:
    """Number rows 0, 1, … so that rows which share a value on either side get the same number: (n,).

    >>> components(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7])).tolist()
    [0, 0, 0, 1]
    """
    keys = [np.unique(side, return_inverse=True)[1] for side in (left, right)]
    found = np.arange(len(left))
    while True:
        before = found
        for key in keys:
            lowest = np.full(len(left), len(left))
            np.minimum.at(lowest, key, found)
            found = lowest[key]
        if np.array_equal(before, found):
            return np.unique(found, return_inverse=True)[1].astype(np.int64)


def by_hash(texts: Sequence[str], missing: Sequence[str], seed: int) -> list[str]:
    """A split for every candidate, known by its text: the ``missing`` ones draw their shares, the rest is train.

    Candidates are taken in the order of their sha256, whatever the order of the file; at least two for each split.

    >>> [by_hash([f"a {i}" for i in range(60)], list(SHARES), 0).count(s) for s in ("train", *SHARES)]
    [48, 3, 3, 6]
    """
    order = sorted(range(len(texts)), key=lambda i: hashlib.sha256(f"{seed}\n{texts[i]}".encode()).digest())
    drawn = [name for name in missing for _ in range(max(2, round(SHARES[name] * len(texts))))]
    if len(drawn) + 2 > len(texts):
        raise ModelPressError(
            f"{len(texts)} different captions are too few to draw {', '.join(missing)} from and keep two for training; "
            "give more data"
        )
    splits = ["train"] * len(texts)
    for i, name in zip(order, drawn, strict=False):
        splits[i] = name
    return splits

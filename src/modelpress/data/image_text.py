"""The user's captioned images: a table of paths, webdataset shards, or a dataset of the hub. Torch-free."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from modelpress.data import image_sources as sources
from modelpress.data.image_dataset import READING, ImageDataset
from modelpress.data.listing import Listing, Numbers, by_hash, components
from modelpress.data.pixels import refuse_many
from modelpress.data.reading import FORMATS
from modelpress.data.splits import SHARES
from modelpress.errors import ModelPressError, one_of

log = logging.getLogger(__name__)

KINDS = ("table", "webdataset", "hub")


class ImageText(ImageDataset):
    """Images with one or more captions each. A candidate is a caption together with all that share an image with it.

    Args:
        path: a csv, tsv, parquet or jsonl file; a tar file, a folder of tar files, a pattern or a range of them
            (webdataset); or whatever ``dataset=hf`` takes: a hub id, a folder, or a builder with ``data_files``.
        format: table, webdataset or hub; ``None``: by ``path``.
        image, caption: names of columns; ``image=None``: ``path`` in a table, ``image`` in a dataset of the hub.
            Of webdataset: ``caption`` is a key of ``.json`` members, where there is no ``.txt``.
        split: column of a table that says train, validation, test or calibration; ``"auto"``: the column ``split`` if
            there is one. A split that nothing names is drawn by hash of the caption.
        split_seed: part of that hash; independent of the run's seed.
        root: folder that paths of a table are relative to; ``None``: the table's own.
        encoding, delimiter, quote: of csv, tsv and jsonl.
        config, revision, data_files, train_split, validation_split, test_split, calibration_split: of the hub, see
            :class:`~modelpress.data.hub.HubDataset`.
        options: see :class:`ImageDataset`.
    """

    task: ClassVar[str] = "image-text"
    metric: ClassVar[str] = "recall_at_1"
    unique_candidates: ClassVar[bool] = True
    reads_with: ClassVar[tuple[str, ...]] = (
        *READING,
        *("modelpress.data.image_text", "modelpress.data.image_sources", "modelpress.data.reading"),
        *("modelpress.data.columns", "modelpress.data.hub"),
    )

    def __init__(
        self,
        path: str,
        *,
        name: str = "image_text",
        format: str | None = None,
        image: str | None = None,
        caption: str = "caption",
        split: str | None = "auto",
        split_seed: int = 0,
        root: str | None = None,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        quote: str | None = '"',
        config: str | None = None,
        revision: str | None = None,
        data_files: str | Sequence[str] | Mapping[str, Any] | None = None,
        train_split: str | None = None,
        validation_split: str | None = None,
        test_split: str | None = None,
        calibration_split: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, **options)
        self.path = path
        self.format = kind_of(path) if format is None else one_of("dataset.format", format, KINDS)
        self.image = image or ("image" if self.format == "hub" else "path")
        self.caption, self.split_column, self.split_seed, self.root = caption, split, split_seed, root
        self.spelling = {"encoding": encoding, "delimiter": "\t" if delimiter == "tab" else delimiter, "quote": quote}
        self.hub = {"config": config, "revision": revision, "data_files": data_files}
        self.splits = {"train": train_split, "calibration": calibration_split}
        self.splits |= {"validation": validation_split, "test": test_split}
        self._drawn: list[str] = []

    def _content(self) -> list[object]:
        return []  # rows and pixels say it all

    def _origin(self) -> dict[str, Any]:
        self.listing()
        drawn = f"drawn by sha256 of the caption, seed {self.split_seed}: {', '.join(self._drawn)}"
        return {
            "source": Path(self.path).name if self.format == "table" else self.path,
            "licence": "see the dataset's card" if self.format == "hub" else "the user's own",
            "splitting": drawn if self._drawn else "as the data say",
        }

    def _found(self) -> sources.Found:
        if self.format == "webdataset":
            return sources.read_shards(self.path, caption=self.caption)
        columns = {"image": self.image, "caption": self.caption}
        if self.format == "hub":
            return sources.read_hub(self.path, splits=self.splits, **columns, **self.hub)  # type: ignore[arg-type]
        where = {"split": self.split_column, "root": self.root}
        return sources.read_table(self.path, **columns, **where, **self.spelling)  # type: ignore[arg-type]

    def _list(self) -> Listing:
        found = self._found()
        refuse_many(found.missing, 0, len(found.missing) + len(found.pictures), self.max_bad_share)
        if found.missing:
            log.warning("%d images are left out, the first: %s", len(found.missing), found.missing[0])
        if not found.captions:
            raise ModelPressError(f"dataset.path {self.path}: no image with a caption there")
        texts = list(dict.fromkeys(found.captions))
        number = {text: i for i, text in enumerate(texts)}
        image, text = np.array(found.image), np.array([number[caption] for caption in found.captions])
        candidate = components(image, text)
        first = np.unique(candidate, return_index=True)[1]
        owner = np.zeros(len(texts), np.int64)
        owner[text] = candidate
        names = [found.captions[row] for row in first]  # the first caption in the file
        split = self._split(found, candidate)
        return Listing(found.pictures, texts, image, text, candidate, split, names, owner, found.missing)

    def _split(self, found: sources.Found, candidate: Numbers) -> NDArray[np.str_]:
        """Of every row: as given; missing splits are drawn from the candidates of train."""
        keys = [min(captions) for captions in _grouped(found.captions, candidate)]
        given = np.array([split or "train" for split in found.splits], dtype="<U11")
        self._drawn = [name for name in SHARES if name not in given]
        _warn_shared(candidate, given, self.name)
        free = np.unique(candidate[given == "train"])
        drawn = np.full(len(keys), "train", dtype="<U11")
        drawn[free] = by_hash([keys[i] for i in free], self._drawn, self.split_seed)
        return np.where(given == "train", drawn[candidate], given)


def kind_of(path: str) -> str:
    """table, webdataset or hub, by what the path looks like.

    >>> kind_of("captions.csv"), kind_of("shards/{0000..0012}.tar"), kind_of("owner/name")
    ('table', 'webdataset', 'hub')
    """
    place = Path(path).expanduser()
    if place.suffix.lower() in FORMATS:
        return "table"
    return "webdataset" if place.suffix.lower() == ".tar" or any(place.glob("*.tar")) else "hub"


def _grouped(captions: Sequence[str], candidate: Numbers) -> list[list[str]]:
    """The captions of each candidate, in any order of the file the same set."""
    groups: list[list[str]] = [[] for _ in range(int(candidate.max()) + 1)]
    for caption, i in zip(captions, candidate.tolist(), strict=True):
        groups[i].append(caption)
    return groups


def _warn_shared(candidate: Numbers, given: NDArray[np.str_], name: str) -> None:
    trained, tested = (set(candidate[given == split].tolist()) for split in ("train", "test"))
    if shared := trained & tested:
        log.warning(
            "dataset %r: %d of %d captions or images of test also stand in train, so the test metric flatters; remove "
            "duplicates",
            *(name, len(shared), len(tested)),
        )

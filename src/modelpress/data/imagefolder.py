"""Images in a folder per class: the user's own classification data. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from modelpress.data.columns import SPLIT_NAMES
from modelpress.data.image_dataset import READING, ImageDataset
from modelpress.data.images import SUFFIXES, Files
from modelpress.data.listing import Listing
from modelpress.data.prompts import filled, read_templates
from modelpress.data.splits import SHARES, assign, carve
from modelpress.errors import ModelPressError

LAYOUT = "expected folder/<class>/*.jpg, or folder/train/<class>/*.jpg and folder/test/<class>/*.jpg"


class ImageFolder(ImageDataset):
    """``folder/<class>/*.jpg`` or ``folder/<split>/<class>/*.jpg``.

    Args:
        path: the folder.
        test_split: name of the split folder that serves as test, such as ``val``; ``None``: the one called ``test``.
        split_seed: decides who goes where when splits are drawn: 80/5/5/10 %, stratified; missing validation and
            calibration are taken from train, never from test.
        names: folder name -> words for the class, where folders are called by codes.
        templates: prompts for zero-shot classification with a dual encoder, with ``{}`` for the class; the
            embeddings of a class's prompts are averaged.
        options: see :class:`ImageDataset`.
    """

    task: ClassVar[str] = "image-classification"
    metric: ClassVar[str] = "accuracy"
    unique_candidates: ClassVar[bool] = False
    reads_with: ClassVar[tuple[str, ...]] = (*READING, "modelpress.data.imagefolder", "modelpress.data.prompts")

    def __init__(
        self,
        path: str,
        *,
        name: str = "imagefolder",
        test_split: str | None = None,
        split_seed: int = 0,
        names: Mapping[str, str] | None = None,
        templates: Sequence[str] = ("a photo of a {}.",),
        **options: Any,
    ) -> None:
        super().__init__(name, **options)
        self.path, self.test_split, self.split_seed = path, test_split, split_seed
        self.names, self.templates = dict(names or {}), read_templates(templates)
        self._splitting = ""

    def _content(self) -> list[object]:
        return [self.names, self.templates]

    def _origin(self) -> dict[str, Any]:
        self.listing()
        return {"source": Path(self.path).name, "licence": "the user's own", "splitting": self._splitting}

    def _list(self) -> Listing:
        root = Path(self.path).expanduser()
        found = sorted(self._images(root))
        folders = sorted({folder for _, folder, _ in found})
        self._check_names(folders)
        labels = np.array([folders.index(folder) for _, folder, _ in found])
        names = [self.names.get(folder, folder) for folder in folders]
        texts, owner = filled(self.templates, [name.replace("_", " ") for name in names])
        text = labels * len(self.templates) + np.arange(len(labels)) % len(self.templates)
        paths = [path for path, _, _ in found]
        pictures = Files(paths, [str(path.relative_to(root)) for path in paths])
        split = self._split(labels, [split for _, _, split in found], folders)
        return Listing(pictures, texts, np.arange(len(paths)), text, labels, split, names, owner)

    def _images(self, root: Path) -> list[tuple[Path, str, str | None]]:
        """Path, folder of the class and split of every image."""
        if not root.is_dir():
            raise ModelPressError(
                f"dataset.path {self.path} is no folder (looked in {root.absolute().parent}); {LAYOUT}"
            )
        splits = self._split_folders(root)
        bases = splits or {root: None}
        found = [
            (path, kind.name, split)
            for base, split in bases.items()
            for kind in _folders(base)
            for path in _files(kind)
        ]
        if len({folder for _, folder, _ in found}) < 2:
            raise ModelPressError(f"dataset.path {self.path}: images of fewer than two classes there; {LAYOUT}")
        return found

    def _split_folders(self, root: Path) -> dict[Path, str | None]:
        """Split folder -> our name for it; nothing where the folders are classes."""
        folders = _folders(root)
        splits: dict[Path, str | None] = {
            f: SPLIT_NAMES[f.name.lower()] for f in folders if f.name.lower() in SPLIT_NAMES
        }
        classes = [folder.name for folder in folders if folder not in splits]
        if splits and classes:
            raise ModelPressError(
                f"dataset.path {self.path}: {sorted(f.name for f in splits)} look like splits, {classes[:3]} like "
                f"classes; {LAYOUT}"
            )
        if self.test_split is not None:
            if root / self.test_split not in splits:
                there = ", ".join(f.name for f in folders)
                raise ModelPressError(
                    f"dataset.test_split is {self.test_split!r}; split folders there: {there or 'none'}"
                )
            splits[root / self.test_split] = "test"
        return splits

    def _check_names(self, folders: list[str]) -> None:
        unknown = sorted(set(self.names) - set(folders))
        if unknown:
            raise ModelPressError(
                f"dataset.names speaks of {unknown[0]!r}; class folders there: {', '.join(folders[:10])}"
            )

    def _split(self, labels: NDArray[np.int64], given: list[str | None], folders: list[str]) -> NDArray[np.str_]:
        drawn = f"stratified, seed {self.split_seed}"
        if given[0] is None:
            self._splitting = f"80/5/5/10, {drawn}"
            return assign(labels, SHARES, self.split_seed)
        for needed in ("train", "test"):
            if needed not in given:
                hint = "; choose a test with dataset.test_split=<folder>" if needed == "test" else ""
                raise ModelPressError(f"dataset.path {self.path} has no folder {needed!r} with images{hint}; {LAYOUT}")
        split = np.array(given, dtype="<U11")
        unseen = sorted(set(labels.tolist()) - set(labels[split == "train"].tolist()))
        if unseen:
            raise ModelPressError(
                f"dataset.path {self.path}: class {folders[unseen[0]]!r} has no image in train; add some, or remove it"
            )
        self._splitting = f"folders; missing splits from train, {drawn}"
        return carve(labels, split, self.split_seed)


def _folders(base: Path) -> list[Path]:
    return sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]

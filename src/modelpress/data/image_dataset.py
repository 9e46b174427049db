"""What every image dataset shares: its listing, its fingerprints and its data modules. Torch-free."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from modelpress.data import listing as lists
from modelpress.data import preprocess
from modelpress.data.base import SPLITS, Dataset
from modelpress.data.hashing import digest, source_sha256
from modelpress.data.listing import Listing, Numbers
from modelpress.data.text import at_least
from modelpress.errors import ModelPressError, one_of

if TYPE_CHECKING:
    from modelpress.data.image_batches import Texts
    from modelpress.data.image_module import ImageData

READING = ("modelpress.data.image_dataset", "modelpress.data.listing", "modelpress.data.splits")
FEEDING = (
    *("modelpress.deploying.files.pictures", "modelpress.data.images", "modelpress.data.pixels"),
    *("modelpress.data.augment", "modelpress.data.image_batches", "modelpress.data.thin"),
    *("modelpress.data.tokenizer", "modelpress.data.batching", "modelpress.data.loader"),
)


@dataclass(frozen=True)
class Rows:
    """Items of one split: image and text numbers of the listing, and the candidate's number within the split."""

    image: Numbers  # (n,)
    text: Numbers  # (n,)
    labels: Numbers  # (n,)

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Rows:
        """These rows, in this order."""
        return Rows(self.image[rows], self.text[rows], self.labels[rows])


class ImageDataset(Dataset):
    """Images with captions or classes, in four splits and possibly extra tests (:attr:`extras`).

    Args:
        name: short name for folders and reports.
        batch_size: items per training batch and process.
        eval_batch_size: items per batch where nothing is trained.
        num_workers: loader processes; 0 is fastest here, since batches are cut from a table of pixels.
        crop: smallest share of the area that a random crop of a training image keeps; 1: no cropping.
        flip: whether half of the training images are mirrored.
        jitter: largest change of brightness, contrast and saturation, as a share.
        word_dropout: share of the words that each view of a training caption lacks.
        views: augmented forms of each training image; epoch e shows form ``e % views``, so a teacher's answers to all
            of them can be kept.
        augment_seed: decides the augmented forms, with the view and the item's number; independent of the run's seed.
        max_bad_share: share of missing and unreadable images that is left out with a warning; more is an error.
        max_pixels: an image of more pixels counts as unreadable (a small file can decode to many gigabytes).
        strict: captions longer than the model's context are an error; otherwise they are cut, with a warning.
        limit: at most this many items per split, for quick tries; ``None``: all.
    """

    unique_candidates: ClassVar[bool]  # whether a training batch holds a candidate once at most, and labels are local
    reads_with: ClassVar[tuple[str, ...]] = READING  # modules whose source decides what the listing holds

    def __init__(
        self,
        name: str,
        *,
        batch_size: int = 64,
        eval_batch_size: int = 64,
        num_workers: int = 0,
        crop: float = 1.0,
        flip: bool = False,
        jitter: float = 0.0,
        word_dropout: float = 0.0,
        views: int = 1,
        augment_seed: int = 0,
        max_bad_share: float = 0.01,
        max_pixels: int = 100_000_000,
        strict: bool = False,
        limit: int | None = None,
    ) -> None:
        self.name = name
        self.batch_size = at_least("batch_size", batch_size, 1)
        self.eval_batch_size = at_least("eval_batch_size", eval_batch_size, 1)
        self.num_workers = at_least("num_workers", num_workers, 0)
        self.crop, self.flip, self.jitter = share("crop", crop), flip, share("jitter", jitter)
        self.word_dropout = share("word_dropout", word_dropout)
        self.views, self.augment_seed = at_least("views", views, 1), at_least("augment_seed", augment_seed, 0)
        self.max_bad_share = share("max_bad_share", max_bad_share)
        self.max_pixels = at_least("max_pixels", max_pixels, 1)
        self.strict = strict
        self.limit = None if limit is None else at_least("limit", limit, 2)
        if crop == 0:
            raise ModelPressError("dataset.crop is 0; allowed: a share of the area above 0, up to 1 (no cropping)")
        self._listing: Listing | None = None
        self._digest: str | None = None
        self.tokenized: dict[tuple[str, int | None], Texts] = {}  # by tokenizer and context; kept by the data modules

    @abstractmethod
    def _list(self) -> Listing:
        """Everything there is."""

    @abstractmethod
    def _content(self) -> list[object]:
        """JSON-encodable values that decide what :meth:`_list` returns, beside the images and their rows."""

    @abstractmethod
    def _origin(self) -> dict[str, Any]:
        """``source`` and ``licence`` for the report, and how the splits were made."""

    def listing(self) -> Listing:
        """Images, texts and rows; read and checked once."""
        if self._listing is None:
            found = self._list()
            if self.limit is not None:
                found.thin(self.limit)
            found.drop_unused()
            lists.check(found, self.name)
            self._listing = found
        return self._listing

    @property
    def extras(self) -> list[str]:
        """Tests beside ``test``, on other images of the same candidates."""
        return self.listing().extras()

    def candidates(self, split: str) -> Numbers:
        """The candidates among which an image of ``split`` is looked for; position = label. Extras have the test's."""
        found = self.listing()
        split = one_of("split", split, (*SPLITS, *found.extras()))
        if not self.unique_candidates:
            return np.arange(len(found.names))
        return np.unique(found.candidate[found.split == (split if split in SPLITS else "test")])

    def candidate_names(self, split: str) -> list[str]:
        """Their names."""
        names = self.listing().names
        return [names[i] for i in self.candidates(split)]

    @property
    def labels(self) -> list[str]:
        """Names of the classes; where every split has candidates of its own, of the test's."""
        return self.candidate_names("test")

    def pairs(self, split: str) -> Rows:
        """Every image with every one of its texts: what training sees."""
        found, candidates = self.listing(), self.candidates(split)
        rows = np.flatnonzero((found.split == split) & np.isin(found.candidate, candidates))
        return Rows(found.image[rows], found.text[rows], np.searchsorted(candidates, found.candidate[rows]))

    def images(self, split: str) -> Rows:
        """Every image once: what is evaluated."""
        pairs = self.pairs(split)
        return pairs.take(np.sort(np.unique(pairs.image, return_index=True)[1]))

    def prompts(self, split: str) -> tuple[Numbers, Numbers]:
        """Numbers of the texts of the candidates of ``split``, and whose they are (labels)."""
        owner, candidates = self.listing().owner, self.candidates(split)
        numbers = np.flatnonzero(np.isin(owner, candidates))
        return numbers, np.searchsorted(candidates, owner[numbers])

    def prompt_texts(self, split: str) -> list[str]:
        """The same texts in words."""
        texts = self.listing().texts
        return [texts[i] for i in self.prompts(split)[0]]

    def label_counts(self, split: str) -> dict[str, int]:
        """Images of each candidate in one split."""
        counts = np.bincount(self.images(split).labels, minlength=len(self.candidates(split)))
        return dict(zip(self.candidate_names(split), counts.tolist(), strict=True))

    def content(self) -> str:
        """sha256 over what is listed and the bytes of the images; the key of the pixel cache (with the size)."""
        if self._digest is None:
            found = self.listing()
            rows = [column.tolist() for column in (found.image, found.text, found.candidate, found.split, found.owner)]
            parts = [found.texts, found.names, rows, found.pictures.content(range(len(found.pictures)))]
            self._digest = digest(type(self).__qualname__, *self._content(), parts, source_sha256(*self.reads_with))
        return self._digest

    def fingerprint(self) -> str:
        """sha256 over content, code and every option that can change a trained weight."""
        options = [self.batch_size, self.crop, self.flip, self.jitter, self.views, self.augment_seed, self.max_pixels]
        options.append(self.word_dropout)
        return digest(self.content(), options, source_sha256(*FEEDING))

    def describe(self) -> dict[str, Any]:
        """For the report: name, fingerprint, labels, items, images and candidates of each split, source and licence."""
        splits = (*SPLITS, *self.extras)
        facts: dict[str, Any] = {"name": self.name, "fingerprint": self.fingerprint()}
        facts |= {"task": self.task, "metric": self.metric}
        items = {split: len(self.pairs(split)) for split in ("train", "calibration")}
        items |= {split: len(self.images(split)) for split in splits if split not in items}
        facts |= {"labels": self.labels, "splits": items}
        facts |= {"candidates": {split: len(self.candidates(split)) for split in splits}}
        return facts | {"missing_images": len(self.listing().missing)} | self._origin()

    def samples(self, limit: int) -> list[Any]:
        """See :meth:`Dataset.samples`: paths where images are files of their own, otherwise opened images."""
        pictures = self.listing().pictures
        return [pictures.original(number) for number in self.images("test").image[:limit].tolist()]

    def datamodule(self, preprocessor: Path, *, seed: int, cache: Path, teacher: Path | None = None) -> ImageData:
        """The Lightning data module: of pairs for a model that brings a tokenizer, else of images with labels.

        Where the preprocessor of a ``teacher`` differs, see :class:`modelpress.data.image_module.ImageData`.
        """
        from modelpress.data.image_module import ImageData
        from modelpress.data.image_text_module import ImageTextData

        reads_text = (Path(preprocessor) / "tokenizer.json").is_file()
        if not reads_text and self.unique_candidates:
            raise ModelPressError(
                f"dataset {self.name!r} matches images with captions, and this model reads no text (no tokenizer.json "
                f"in {preprocessor}); choose a dual encoder such as model=clip_tiny, or a dataset with classes such as "
                "dataset=emoji_groups"
            )
        kind = ImageTextData if reads_text else ImageData
        made = kind(self, Path(preprocessor), seed=seed, cache=Path(cache))
        if teacher is not None and preprocess.contents(Path(teacher)) != preprocess.contents(Path(preprocessor)):
            made.teacher = self.datamodule(teacher, seed=seed, cache=cache)
        return made


def share(option: str, given: object) -> float:
    """A number from 0 to 1; otherwise a :class:`ModelPressError` that names ``dataset.<option>``."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
        raise ModelPressError(f"dataset.{option} is {given!r}; allowed: a number from 0 to 1")
    return float(given)

"""Emoji in four styles with their names: image–text pairs and classes, offline, split by concept. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from modelpress.data.hashing import file_sha256
from modelpress.data.image_dataset import READING, ImageDataset
from modelpress.data.images import Pictures
from modelpress.data.listing import Listing, Numbers
from modelpress.data.prompts import filled, read_templates
from modelpress.errors import one_of

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = Path(__file__).parent / "emoji_files"
RECORDS = "emoji.json"
# Named here so that a plan need not decompress 100 MB of pixels; tests compare them with the files.
STYLES = {"emoji.npz": ("noto", "twemoji", "fluent-emoji-flat"), "emoji_openmoji.npz": ("openmoji",)}
STYLE_NAMES = [name for names in STYLES.values() for name in names]
UNSEEN_STYLE, UNSEEN_SPLIT = "openmoji", "unseen_style"
AMBIGUOUS = {  # pixel by pixel the picture of another concept too, so left out
    "grinning cat (fluent-emoji-flat)",
    "cat face (fluent-emoji-flat)",
    "black medium square (fluent-emoji-flat)",
    "white square button (fluent-emoji-flat)",
}
CAPTIONS = ("label_and_tags", "label")
GROUPS = {
    "smileys-emotion": "smileys and emotions",
    "people-body": "people and body parts",
    "animals-nature": "animals and nature",
    "food-drink": "food and drink",
    "travel-places": "travel and places",
    "activities": "activities",
    "objects": "objects",
    "symbols": "symbols",
}  # the ninth, flags, holds eight images per style

BOUNDS = {"train": 66, "calibration": 73, "validation": 80, "test": 100}  # of sha256(concept) mod 100, excluded
PEOPLE = {"man", "men", "woman", "women", "person", "people"}
SAME_CONCEPT = {"prince": "royalty", "princess": "royalty", "merman": "mer", "mermaid": "mer", "merperson": "mer"}
SAME_CONCEPT |= {"older": "old", "mrs.": "santa", "mx": "santa"}
Record = dict[str, Any]


@dataclass(frozen=True)
class Emoji(Pictures):
    """Transparent pictures of 64 x 64; number = style * emoji per style + emoji."""

    records: Sequence[Record]

    @cached_property
    def _images(self) -> list[NDArray[np.uint8]]:
        """(emoji, 64, 64, 4) of each style."""
        return [images for file in STYLES for images in read_styles(FOLDER / file).values()]

    def __len__(self) -> int:
        return len(STYLE_NAMES) * len(self.records)

    def name(self, number: int) -> str:
        style, emoji = divmod(number, len(self.records))
        return f"{self.records[emoji]['label']} ({STYLE_NAMES[style]})"

    def open(self, number: int) -> Image:
        from PIL import Image

        style, emoji = divmod(number, len(self.records))
        return Image.fromarray(self._images[style][emoji])

    def content(self, numbers: Iterable[int]) -> list[object]:
        return [[file_sha256(FOLDER / file) for file in STYLES], *numbers]


def read_styles(file: Path) -> dict[str, NDArray[np.uint8]]:
    """Name of a style -> its emoji, (n, 64, 64, 4) RGBA, in the order of the records."""
    with np.load(file, allow_pickle=False) as archive:
        return dict(zip(archive["styles"].tolist(), archive["images"], strict=True))


class _EmojiDataset(ImageDataset):
    """What pairs and classes share: pictures, concepts and splits."""

    reads_with: ClassVar[tuple[str, ...]] = (*READING, "modelpress.data.emoji", "modelpress.data.prompts")

    @cached_property
    def _records(self) -> list[Record]:
        records: list[Record] = json.loads((FOLDER / RECORDS).read_text(encoding="utf-8"))
        return records

    def _origin(self) -> dict[str, Any]:
        return {
            "source": "emoji drawings: Noto, Twemoji, Fluent flat; unseen_style: OpenMoji; names: emojibase (CLDR)",
            "licence": "Apache-2.0, CC-BY-4.0, MIT; OpenMoji CC-BY-SA-4.0; see data/emoji_files/ATTRIBUTION.md",
            "splitting": "by concept (man, woman and person variants are one): sha256(concept) mod 100; train < 66, "
            "calibration < 73, validation < 80, test; unseen_style: the test's concepts in a style never trained on",
        }

    def _listed(self, chosen: Sequence[str | None], texts: list[str], owners: Sequence[str], text: Numbers) -> Listing:
        """Rows of every style. ``chosen``, ``text``: candidate (``None``: left out) and text number of each emoji;
        ``owners``: the candidate of each text.
        """
        pictures, styles = Emoji(self._records), len(STYLE_NAMES)
        names = list(dict.fromkeys(owners))
        number = {name: i for i, name in enumerate(names)}
        listing = Listing(
            pictures,
            texts,
            np.arange(len(pictures)),
            np.tile(text, styles),
            np.tile([-1 if name is None else number[name] for name in chosen], styles),
            self._splits(),
            names,
            np.array([number[name] for name in owners]),
        )
        clear = np.array([pictures.name(i) not in AMBIGUOUS for i in range(len(pictures))])
        listing.keep(np.flatnonzero((listing.candidate >= 0) & (listing.split != "") & clear))
        return listing

    def _splits(self) -> NDArray[np.str_]:
        """Of every picture; nothing for the unseen style of concepts that are no test."""
        seen = [split_of(concept_of(record["label"])) for record in self._records]
        unseen = [UNSEEN_SPLIT if split == "test" else "" for split in seen]
        return np.concatenate([unseen if style == UNSEEN_STYLE else seen for style in STYLE_NAMES])


class EmojiPairs(_EmojiDataset):
    """1,594 emoji in three styles with captions; a candidate is a concept, tests hold concepts never trained on.

    Args:
        caption: ``label_and_tags`` ("cow: animal, farm, milk, moo") or ``label`` ("cow").
        options: see :class:`ImageDataset`.
    """

    task: ClassVar[str] = "image-text"
    metric: ClassVar[str] = "recall_at_1"
    unique_candidates: ClassVar[bool] = True

    def __init__(self, *, name: str = "emoji", caption: str = "label_and_tags", **options: Any) -> None:
        super().__init__(name, **options)
        self.caption = one_of("dataset.caption", caption, CAPTIONS)

    def _content(self) -> list[object]:
        return [self.caption, file_sha256(FOLDER / RECORDS)]

    def _list(self) -> Listing:
        concepts = [concept_of(record["label"]) for record in self._records]
        texts = [caption_of(record, tags=self.caption == "label_and_tags") for record in self._records]
        return self._listed(concepts, texts, concepts, np.arange(len(texts)))


class EmojiGroups(_EmojiDataset):
    """The same drawings in 8 classes (animals, food …); no concept in two splits.

    Args:
        templates: prompts for zero-shot classification, with ``{}`` for the class.
        options: see :class:`ImageDataset`.
    """

    task: ClassVar[str] = "image-classification"
    metric: ClassVar[str] = "accuracy"
    unique_candidates: ClassVar[bool] = False

    def __init__(self, *, name: str = "emoji_groups", templates: Sequence[str] = ("{}",), **options: Any) -> None:
        super().__init__(name, **options)
        self.templates = read_templates(templates)

    def _content(self) -> list[object]:
        return [self.templates, file_sha256(FOLDER / RECORDS)]

    def _list(self) -> Listing:
        classes = [GROUPS.get(record["group"]) for record in self._records]
        names = list(GROUPS.values())
        texts, owners = filled(self.templates, names)
        first = {name: i * len(self.templates) for i, name in enumerate(names)}
        turns = np.arange(len(classes)) % len(self.templates)
        text = np.array([first.get(name or "", 0) for name in classes]) + turns
        return self._listed(classes, texts, [names[i] for i in owners], text)


def caption_of(record: Record, *, tags: bool) -> str:
    """``cow: animal, farm, milk, moo``; tags that only repeat the label are left out.

    >>> caption_of({"label": "fox", "tags": ["fox", "animal"]}, tags=True)
    'fox: animal'
    """
    label = str(record["label"])
    said = [tag for tag in record["tags"] if tag.lower() != label.lower()]
    return f"{label}: {', '.join(said)}" if tags and said else label


def concept_of(label: str) -> str:
    """The label without what only tells man, woman and person, or left and right, apart.

    >>> concept_of("woman walking: facing right"), concept_of("man: bald"), concept_of("woman")
    ('walking', 'bald', 'person')
    """
    words = label.lower().replace(": facing right", "").replace(":", " ").split()
    kept = [SAME_CONCEPT.get(word, word) for word in words if word not in PEOPLE]
    return " ".join(kept) or "person"


def split_of(concept: str) -> str:
    """The split of every drawing of ``concept``: fixed, independent of any seed.

    >>> split_of("walking") == split_of("walking")
    True
    """
    bucket = int(hashlib.sha256(concept.encode()).hexdigest(), 16) % 100
    return next(split for split, bound in BOUNDS.items() if bucket < bound)

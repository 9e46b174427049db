"""The Lightning data module of dual encoders: images with texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelpress.data.batching import Batches, distinct_batches, equal_length_batches
from modelpress.data.image_batches import ImageItems, Texts, tokenized
from modelpress.data.image_module import Arrays, ImageData, Workloads
from modelpress.data.thin import thinned
from modelpress.data.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from modelpress.data.image_dataset import ImageDataset, Rows


class ImageTextData(ImageData):
    """Batches of :class:`ImageData` plus ``input_ids`` and, if the text tower reads one, ``attention_mask``: (B, S).

    Training and calibration see pairs, evaluation sees images alone: their answers are looked for among the texts of
    :meth:`prompts`. No training batch holds a candidate twice where candidates are captions or concepts.

    Args:
        preprocessor: folder with ``preprocess.json`` and ``tokenizer.json``.
        dataset, seed, cache: see :class:`ImageData`.
    """

    tower = "image"

    def __init__(self, dataset: ImageDataset, preprocessor: Path, *, seed: int, cache: Path) -> None:
        super().__init__(dataset, preprocessor, seed=seed, cache=cache)
        self.tokenizer = TextTokenizer(preprocessor)

    @cached_property
    def texts(self) -> Texts:
        """Every text of the dataset, tokenized once for all data modules that read texts in the same way."""
        known, key = self.dataset.tokenized, (self.tokenizer.fingerprint(), self.wanted.context_length)
        if key not in known:
            texts, strict = self.dataset.listing().texts, self.dataset.strict
            known[key] = tokenized(texts, self.tokenizer, self.wanted, strict=strict)
        return replace(known[key], pad_id=self.tokenizer.pad_id, wanted=self.wanted)

    @property
    def tokens_per_item(self) -> float:
        """Mean tokens of the text of a training item, special tokens included."""
        return float(self.texts.lengths(self.rows("train", pairs=True).text).mean())

    def prompts(self, split: str) -> list[dict[str, Tensor]]:
        """Texts of the candidates of ``split`` in batches, ``labels`` (B,) saying whose they are."""
        numbers, labels = self.dataset.prompts(split)
        size = self.dataset.eval_batch_size
        parts = [slice(start, start + size) for start in range(0, len(numbers), size)]
        batches = [self.texts.arrays(numbers[part]) | {"labels": labels[part]} for part in parts]
        return [{name: torch.from_numpy(array) for name, array in batch.items()} for batch in batches]

    def _texts(self) -> Texts | None:
        return self.texts

    def _views(self, rows: Rows) -> ImageItems:
        items = super()._views(rows)
        return replace(items, texts=self.thinned, text_of_item=True) if self.dataset.word_dropout else items

    @cached_property
    def thinned(self) -> Texts:
        """The caption of each training item, with other words missing in every view."""
        options, texts = self.dataset, self.dataset.listing().texts
        captions = [texts[number] for number in self.rows("train", pairs=True).text]
        views = [
            text
            for view in range(options.views)
            for text in thinned(captions, options.word_dropout, seed=options.augment_seed, view=view)
        ]
        return tokenized(views, self.tokenizer, self.wanted, strict=False, warn=False)  # said of the whole ones

    def _epoch(self, rows: Rows, epoch: int) -> Batches:
        if not self.dataset.unique_candidates:
            return super()._epoch(rows, epoch)
        rank, world_size = self.share
        size = self.dataset.batch_size
        return distinct_batches(rows.labels, size, seed=self.seed, epoch=epoch, rank=rank, world_size=world_size)

    def _alike(self, rows: NDArray[np.int64]) -> Batches:
        lengths = self.texts.lengths(self.rows("calibration", pairs=True).text)
        return equal_length_batches(lengths, rows, self.dataset.eval_batch_size)

    def workloads(self, shapes: Sequence[str], limit: int, split: str = "test", seed: int = 0) -> Workloads:
        """Inputs to time each tower with, and the pair: n images with a text of theirs each."""
        rows = self._some(self.rows(split), limit, seed)
        images = self._images(shapes, rows)
        text = self._requests(rows.text)
        both = next(iter(images.values())) | text
        return {self.tower: images, "text": {"data": text}, "pair": {"data": both}}

    def lengths(self) -> dict[str, list[int]]:
        """Of the texts of the training pairs, unless the network wants all of them padded to one length."""
        if self.wanted.pad:
            return {}
        return {"text": self.texts.lengths(self.rows("train", pairs=True).text).tolist()}

    def evaluation(self, split: str = "test") -> dict[str, Arrays]:
        """``image``: every image of a split with its label; ``text``: every prompt with its candidate's number."""
        numbers, labels = self.dataset.prompts(split)
        return super().evaluation(split) | {"text": self._requests(numbers) | {"labels": labels}}

    def _requests(self, numbers: NDArray[np.int64]) -> Arrays:
        arrays: Arrays = dict(self.texts.arrays(numbers))
        return arrays if self.wanted.pad else arrays | {"lengths": self.texts.lengths(numbers)}

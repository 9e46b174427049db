"""Images and captions as tensors."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from modelpress.data.augment import Augment
from modelpress.data.base import NUMBERS, TEACHER
from modelpress.data.batching import pad
from modelpress.data.image_dataset import Rows
from modelpress.data.preprocess import Preprocess
from modelpress.data.tokenizer import TextTokenizer
from modelpress.data.tokens import Tokens
from modelpress.errors import ModelPressError

log = logging.getLogger(__name__)

Numbers = NDArray[np.int64]
UNCUT = 1 << 20  # tokens: no caption has so many
MULTIPLE = 8  # texts of a training batch are padded to a multiple of so many tokens, which suits matrix kernels


@dataclass(frozen=True)
class Texts:
    """Tokenized texts, padded as the model wants them."""

    tokens: Tokens
    pad_id: int
    wanted: Preprocess

    def arrays(self, numbers: Numbers, multiple: int = 1) -> dict[str, NDArray[np.int64]]:
        """``input_ids`` and, if the model reads one, ``attention_mask``, of these texts: each (B, S)."""
        context = self.wanted.context_length or UNCUT
        arrays = pad(
            self.tokens,
            numbers,
            pad_id=self.pad_id,
            multiple=context if self.wanted.pad else multiple,
            ceiling=context,
        )
        names = ("input_ids", "attention_mask") if self.wanted.attention_mask else ("input_ids",)
        return {name: arrays[name] for name in names}

    def lengths(self, numbers: Numbers) -> Numbers:
        """Tokens of each text; all the same where texts are padded to the context."""
        found = self.tokens.lengths[numbers]
        return np.full_like(found, self.wanted.context_length) if self.wanted.pad else found


def tokenized(
    texts: list[str], tokenizer: TextTokenizer, wanted: Preprocess, *, strict: bool, warn: bool = True
) -> Texts:
    """Tokenize; texts beyond the context are cut, with a warning if ``warn``, or refused if ``strict``."""
    context = wanted.context_length
    if context is None:
        raise ModelPressError(f"{tokenizer.folder}/preprocess.json says no context_length for its texts; add one")
    if strict:
        _refuse_long(texts, tokenizer, context)
    encoded = tokenizer.encode(texts, max_length=context)
    if encoded.truncated and warn:
        log.warning(
            "%d of %d captions are longer than the %d tokens that the model reads and were cut "
            "(dataset.strict=true refuses them)",
            *(encoded.truncated, len(encoded), context),
        )
    labels = np.zeros(len(encoded), np.int64)
    return Texts(Tokens(encoded.input_ids, encoded.token_type_ids, encoded.offsets, labels), tokenizer.pad_id, wanted)


def _refuse_long(texts: list[str], tokenizer: TextTokenizer, context: int) -> None:
    lengths = tokenizer.encode(texts, max_length=UNCUT).lengths
    long = np.flatnonzero(lengths > context)
    if len(long):
        first = int(long[0])
        raise ModelPressError(
            f"{len(long)} captions are longer than the {context} tokens that the model reads; the first has "
            f"{lengths[first]}: {texts[first][:80]!r}; shorten them, or cut them with dataset.strict=false"
        )


@dataclass(frozen=True)
class ImageItems(Dataset[dict[str, Tensor]]):
    """A split from which whole batches are cut: the index is an array of item numbers, row + view * rows.

    Without ``augment`` an item number is a row number. ``texts=None``: images and labels alone.
    """

    pixels: NDArray[np.uint8]  # (images, H, W, 3)
    rows: Rows
    wanted: Preprocess
    texts: Texts | None = None
    augment: Augment | None = None
    multiple: int = MULTIPLE
    text_of_item: bool = False  # ``texts`` holds one per item, else those of the rows

    def __getitem__(self, items: Numbers) -> dict[str, Tensor]:
        """``pixel_values`` (B, 3, H, W) float32, ``labels``, ``index``, ``item`` (B,) and the inputs of the texts."""
        rows = items % len(self.rows)
        batch = {"pixel_values": self._images(rows, items)}
        if self.texts is not None:
            arrays = self.texts.arrays(items if self.text_of_item else self.rows.text[rows], self.multiple)
            batch |= {name: torch.from_numpy(array) for name, array in arrays.items()}
        numbers = {"labels": self.rows.labels[rows], "index": rows, "item": items.copy()}
        return batch | {name: torch.from_numpy(array) for name, array in numbers.items()}

    def __len__(self) -> int:
        return len(self.rows)

    def _images(self, rows: Numbers, items: Numbers) -> Tensor:
        images = scaled(self.pixels[self.rows.image[rows]])
        if self.augment is not None:
            count = len(self.rows)
            draws = [
                _draws(self.augment, int(view), count)[row] for view, row in zip(items // count, rows, strict=True)
            ]
            images = self.augment(images, torch.from_numpy(np.stack(draws)))
        return normalised(images, self.wanted)


@dataclass(frozen=True)
class TaughtItems(Dataset[dict[str, Tensor]]):
    """Items as a student wants them, and beside them, named ``teacher/…``, as its teacher does."""

    student: ImageItems
    teacher: ImageItems

    def __getitem__(self, items: Numbers) -> dict[str, Tensor]:
        """The student's batch and the teacher's inputs of the same items."""
        batch = self.student[items]
        others = {name: tensor for name, tensor in self.teacher[items].items() if name not in NUMBERS}
        return batch | {f"{TEACHER}{name}": tensor for name, tensor in others.items()}

    def __len__(self) -> int:
        return len(self.student)


@lru_cache(maxsize=4)
def _draws(augment: Augment, view: int, count: int) -> NDArray[np.float32]:
    return augment.draws(view, count)


def scaled(pixels: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) from 0 … 255 to (B, 3, H, W) from 0 to 1, as torchvision's ``ToTensor``."""
    channels_first = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    return channels_first.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def normalised(images: Tensor, wanted: Preprocess) -> Tensor:
    """``(images - mean) / std`` per channel; ``images`` (B, 3, H, W) is overwritten."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (wanted.mean, wanted.std))
    return images.sub_(mean).div_(std)


def pixel_values(pixels: NDArray[np.uint8], images: Numbers, wanted: Preprocess) -> NDArray[np.float32]:
    """The inputs of many images as one array (n, 3, H, W), made in pieces."""
    found = np.empty((len(images), 3, *wanted.size), np.float32)
    for start in range(0, len(images), 256):
        part = slice(start, start + 256)
        found[part] = normalised(scaled(pixels[images[part]]), wanted).numpy()
    return found

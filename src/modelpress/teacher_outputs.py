"""What a teacher said about each item of a batch, as bytes for its cache and back."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from modelpress.data.base import NUMBERS, TEACHER
from modelpress.models.base import Batch, Output

FLOAT16, FLOAT32 = np.dtype("<f2"), np.dtype("<f4")
MASK = "attention_mask"
TOWERS = ("image", "text")
Found = list[bytes]


def view(batch: Batch) -> Batch:
    """What the teacher reads of ``batch``: its own inputs without their prefix, or the student's where it has none."""
    own = {name.removeprefix(TEACHER): tensor for name, tensor in batch.items() if name.startswith(TEACHER)}
    return {**own, **{name: batch[name] for name in NUMBERS if name in batch}} if own else batch


class Items:
    """Who is in a batch: number, real tokens and a checksum of the input of each item.

    ``item`` numbers the augmented views of the training items; without it ``index`` numbers the items themselves.
    """

    def __init__(self, batch: Batch) -> None:
        number = batch["item"] if "item" in batch else batch["index"]
        self.device = number.device
        self.index: list[int] = number.tolist()
        self.mask: npt.NDArray[np.bool_] | None = batch[MASK].bool().cpu().numpy() if MASK in batch else None
        arrays = [batch[name].cpu().numpy() for name in sorted(batch) if name not in (*NUMBERS, MASK)]
        self.sources = [self._checksum(place, arrays) for place in range(len(self.index))]

    @staticmethod
    def known(batch: Batch) -> bool:
        """Whether the items of ``batch`` can be told apart: numbered, and texts not without their mask."""
        return bool(batch.keys() & {"index", "item"} and batch.keys() & {MASK, "pixel_values"})

    def _checksum(self, place: int, arrays: Sequence[npt.NDArray[np.generic]]) -> int:
        """Of an item's real tokens and where they begin (a model may count positions from the left), or its pixels."""
        mask = self.mask[place] if self.mask is not None else None
        total = int(mask.argmax()) if mask is not None else 0
        for array in arrays:
            padded = self.mask is not None and array.shape == self.mask.shape
            total = zlib.crc32((array[place][mask] if padded else array[place]).tobytes(), total)
        return total


def encode_logits(output: Output) -> Found:
    """(B, C) as float32, nothing where there are none."""
    if output.logits is None:
        return []
    return [row.tobytes() for row in output.logits.float().cpu().numpy().astype(FLOAT32)]


def decode_logits(data: Found, items: Items) -> Tensor:
    """Back to (B, C)."""
    return torch.from_numpy(_rows(data)).to(items.device)


def encode_embeddings(output: Output) -> Found:
    """Of each item both embeddings, end to end, and the scale, as float32; nothing where one is missing."""
    found: Mapping[str, Tensor] = output.embeddings or {}
    if output.scale is None or not found.keys() >= set(TOWERS):
        return []
    towers = [found[tower].float() for tower in TOWERS]
    scales = output.scale.float().expand(len(towers[0]), 1)
    return [row.tobytes() for row in torch.cat([*towers, scales], dim=1).cpu().numpy().astype(FLOAT32)]


def decode_embeddings(data: Found, items: Items) -> Output:
    """Embeddings (B, E) of both towers and the scale, the same in all rows."""
    rows = torch.from_numpy(_rows(data)).to(items.device)
    image, text = rows[:, :-1].chunk(2, dim=1)
    return Output(embeddings={"image": image, "text": text}, scale=rows[0, -1])


def _rows(data: Found) -> npt.NDArray[np.float32]:
    return np.stack([np.frombuffer(row, FLOAT32) for row in data])


def encode_hidden(output: Output, layers: Sequence[int], items: Items) -> Found:
    """Real tokens of each item, (layers, tokens, D); nothing where a value does not fit float16."""
    if output.hidden_states is None or items.mask is None:
        return []
    states = torch.stack([output.hidden_states[layer] for layer in layers], dim=1).half().cpu()  # (B, layers, S, D)
    if not states.isfinite().all():
        return []
    rows = states.numpy().astype(FLOAT16, copy=False)
    return [row[:, mask].tobytes() for row, mask in zip(rows, items.mask, strict=True)]


def decode_hidden(data: Found, layers: Sequence[int], items: Items) -> tuple[Tensor, ...]:
    """Zeros at padding, empty tensors for the layers not kept."""
    assert items.mask is not None
    width = sum(map(len, data)) // (FLOAT16.itemsize * len(layers) * int(items.mask.sum()))
    states = np.zeros((len(layers), *items.mask.shape, width), FLOAT16)
    for place, (row, mask) in enumerate(zip(data, items.mask, strict=True)):
        states[:, place, mask] = np.frombuffer(row, FLOAT16).reshape(len(layers), int(mask.sum()), width)
    tensors = torch.from_numpy(states).to(items.device).float()
    kept = dict(zip(layers, tensors.unbind(), strict=True))
    return tuple(kept.get(layer, tensors.new_empty(0)) for layer in range(max(layers) + 1))

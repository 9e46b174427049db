"""The frozen teacher of a stage, and the on-disk cache of what it says."""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from modelpress.models.base import Batch, Model, Output
from modelpress.teacher_cache import CacheUnavailable, ItemCache

log = logging.getLogger(__name__)
NOTHING: frozenset[str] = frozenset()
HIDDEN = frozenset({"hidden_states"})
FLOAT16, FLOAT32 = np.dtype("<f2"), np.dtype("<f4")
Found = list[bytes]


class Teacher:
    """Calls ``model`` frozen: in evaluation mode, without gradients, under the autocast of the caller.

    It is no ``nn.Module``, so it lands in no checkpoint and nobody switches it to training mode.

    With ``cache`` (a folder) the logits and the hidden states of ``layers`` are kept on disk, per item of
    ``batch["index"]``, real tokens only (``batch["attention_mask"]``); batches without these two are computed.
    ``key`` must name everything the outputs depend on: weights, dataset, tokenizer, ``max_length``, precision (the
    active autocast type is added here). Each entry also carries a checksum of the item's own tokens, so an augmented or
    wrongly numbered item is computed, never looked up. Call it with training batches only: items of another split
    have other tokens under the same number and would only take their places.

    Logits are kept as float32. Hidden states are kept as float16: it holds bf16 values below 65504 exactly (8 bits of
    mantissa in 11; below 6e-5 to within 3e-8) and float32 values to a relative 5e-4. The pass that fills the cache
    returns the rounded values too, so that it makes no difference when a run was killed and resumed. Attention scores
    are S times larger than hidden states per token and are always computed.

    ``hidden_states`` keep their positions (0: embeddings); from the cache, layers not in ``layers`` are empty tensors.
    """

    def __init__(
        self,
        model: Model,
        *,
        cache: Path | None = None,
        key: str = "",
        items: int = 0,
        max_length: int = 0,
        limit_gb: float = 2.0,
    ) -> None:
        if cache is not None and not (key and items > 0):
            raise ValueError("a teacher cache needs a key and the number of items")
        self.model = model.requires_grad_(False).eval()
        self.layers: tuple[int, ...] | None = None
        self.computed = 0  # batches that went through the model
        self._folder, self._key, self._items, self._limit_bytes = cache, f"{key}\n{max_length}", items, limit_gb * 1e9
        self._caches: dict[str, ItemCache | None] = {}

    def to(self, device: torch.device | str) -> Teacher:
        """Move the model; the cache stays on disk."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, batch: Batch, needs: frozenset[str] = NOTHING) -> Output:
        """The teacher's output for ``batch``: logits (B, C) and what ``needs`` asks for, read or computed."""
        if self._folder is None or not batch.keys() >= {"index", "attention_mask"}:
            return self._compute(batch, needs)
        items = _Items(batch)
        layers = self.layers if needs == HIDDEN and self.layers else ()
        if layers or not needs:
            return self._look_up(batch, needs, layers, items)
        output = self._compute(batch, needs)
        self._keep(self._part_key("logits", items.device), _encode_logits(output), items)
        return output

    def commit(self) -> None:
        """Write what is still in memory.

        Training does so with every checkpoint: an answer that was used but lost would be computed again in another
        batch, and differ in its last bits from what an uninterrupted run reads.
        """
        self._each(ItemCache.commit)

    def close(self) -> None:
        """Write what is still in memory and let others use the cache. The teacher stays usable."""
        self._each(ItemCache.close)
        self._caches.clear()

    def _each(self, action: Callable[[ItemCache], None]) -> None:
        for key, cache in list(self._caches.items()):
            try:
                if cache is not None:
                    action(cache)
            except OSError as error:
                self._give_up(key, error)

    def _look_up(self, batch: Batch, needs: frozenset[str], layers: Sequence[int], items: _Items) -> Output:
        parts = ["logits"] + (["hidden_" + "-".join(map(str, layers))] if layers else [])
        keys = [self._part_key(part, items.device) for part in parts]
        found = [self._find(key, items) for key in keys]
        complete = [data for data in found if data is not None]
        if len(complete) < len(keys):
            output = self._compute(batch, needs)
            complete = [_encode_logits(output)] + ([_encode_hidden(output, layers, items)] if layers else [])
            if not all(complete):
                return output
            for key, data in zip(keys, complete, strict=True):
                self._keep(key, data, items)
        states = _decode_hidden(complete[1], layers, items) if layers else None
        return Output(logits=_decode_logits(complete[0], items), hidden_states=states)

    def _compute(self, batch: Batch, needs: frozenset[str]) -> Output:
        self.computed += 1
        self.model.capture(needs)
        output: Output = self.model.eval()(batch)
        return output

    def _part_key(self, part: str, device: torch.device) -> str:
        precision = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else "as stored"
        return f"{self._key}\n{precision}\n{part}"

    def _find(self, key: str, items: _Items) -> Found | None:
        cache = self._cache(key)
        if cache is None:
            return None
        found = [cache.get(item, source) for item, source in zip(items.index, items.sources, strict=True)]
        complete = [data for data in found if data is not None]
        return complete if len(complete) == len(found) else None

    def _keep(self, key: str, data: Found, items: _Items) -> None:
        cache = self._cache(key)
        if cache is None:
            return
        try:
            for item, source, row in zip(items.index, items.sources, data, strict=True):
                cache.put(item, source, row)
        except (CacheUnavailable, OSError) as error:
            self._give_up(key, error)

    def _cache(self, key: str) -> ItemCache | None:
        if key not in self._caches:
            assert self._folder is not None
            name = f"{hashlib.sha256(key.encode()).hexdigest()[:16]}_{key.splitlines()[-1].split('_')[0]}"
            self._caches[key] = None
            try:
                self._caches[key] = ItemCache(self._folder, name, key, self._items, self._limit_bytes)
            except (CacheUnavailable, OSError) as error:
                self._give_up(key, error)
        return self._caches[key]

    def _give_up(self, key: str, reason: Exception) -> None:
        log.warning("Teacher outputs are not cached: %s. They are computed in every epoch.", reason)
        cache, self._caches[key] = self._caches[key], None
        if cache is not None:
            cache.delete()


class _Items:
    """Who is in a batch: number, real tokens and a checksum of the input of each item."""

    def __init__(self, batch: Batch) -> None:
        mask = batch["attention_mask"]
        self.device = mask.device
        self.mask: npt.NDArray[np.bool_] = mask.bool().cpu().numpy()
        self.index: list[int] = batch["index"].tolist()
        names = sorted(name for name in batch if batch[name].shape[:2] == mask.shape and name != "attention_mask")
        arrays = [batch[name].cpu().numpy() for name in names]
        self.sources = [_checksum(row, [array[place] for array in arrays]) for place, row in enumerate(self.mask)]


def _checksum(mask: npt.NDArray[np.bool_], inputs: Sequence[npt.NDArray[np.generic]]) -> int:
    """Of an item's real tokens and of where they begin (a model may count positions from the left)."""
    return zlib.crc32(b"".join(row[mask].tobytes() for row in inputs), int(mask.argmax()))


def _encode_logits(output: Output) -> Found:
    if output.logits is None:
        return []
    return [row.tobytes() for row in output.logits.float().cpu().numpy().astype(FLOAT32)]


def _decode_logits(data: Found, items: _Items) -> Tensor:
    return torch.from_numpy(np.stack([np.frombuffer(row, FLOAT32) for row in data])).to(items.device)


def _encode_hidden(output: Output, layers: Sequence[int], items: _Items) -> Found:
    """Real tokens of each item, (layers, tokens, D); nothing where a value does not fit float16."""
    if output.hidden_states is None:
        return []
    states = torch.stack([output.hidden_states[layer] for layer in layers], dim=1).half().cpu()  # (B, layers, S, D)
    if not states.isfinite().all():
        return []
    rows = states.numpy().astype(FLOAT16, copy=False)
    return [row[:, mask].tobytes() for row, mask in zip(rows, items.mask, strict=True)]


def _decode_hidden(data: Found, layers: Sequence[int], items: _Items) -> tuple[Tensor, ...]:
    """Zeros at padding, empty tensors for the layers not kept."""
    width = sum(map(len, data)) // (FLOAT16.itemsize * len(layers) * int(items.mask.sum()))
    states = np.zeros((len(layers), *items.mask.shape, width), FLOAT16)
    for place, (row, mask) in enumerate(zip(data, items.mask, strict=True)):
        states[:, place, mask] = np.frombuffer(row, FLOAT16).reshape(len(layers), int(mask.sum()), width)
    tensors = torch.from_numpy(states).to(items.device).float()
    kept = dict(zip(layers, tensors.unbind(), strict=True))
    return tuple(kept.get(layer, tensors.new_empty(0)) for layer in range(max(layers) + 1))

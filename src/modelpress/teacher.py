"""The frozen teacher of a stage, and the on-disk cache of what it says."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from modelpress import teacher_outputs as outputs
from modelpress.compiling import Call
from modelpress.models.base import Batch, Model, Output
from modelpress.teacher_cache import CacheUnavailable, ItemCache
from modelpress.teacher_outputs import Found, Items

log = logging.getLogger(__name__)
NOTHING: frozenset[str] = frozenset()
HIDDEN = frozenset({"hidden_states"})


class Teacher:
    """Calls ``model`` frozen: in evaluation mode, without gradients, under the autocast of the caller.

    It is no ``nn.Module``, so it lands in no checkpoint and nobody switches it to training mode.

    A teacher that wants its inputs otherwise than the student reads those that the batch names ``teacher/…``.

    With ``cache`` (a folder) its outputs are kept on disk: logits and the hidden states of ``layers``, or the
    embeddings of a dual encoder, per ``batch["item"]`` (an augmented view) or ``batch["index"]``, real tokens only
    (``batch["attention_mask"]``); batches of texts without a mask are computed.
    ``key`` must name everything the outputs depend on: weights, dataset, preprocessor, precision (the active autocast
    type is added here). Each entry also carries a checksum of the item's own input, so another view or a wrongly
    numbered item is computed, never looked up. Call it with training batches only: items of another split have other
    inputs under the same number and would only take their places.

    Logits and embeddings are kept as float32. Hidden states are kept as float16: it holds bf16 values below 65504
    exactly (8 bits of mantissa in 11; below 6e-5 to within 3e-8) and float32 values to a relative 5e-4. The pass that
    fills the cache returns the rounded values too, so that it makes no difference when a run was killed and resumed.
    Attention scores are S times larger than hidden states per token and are always computed.

    ``hidden_states`` keep their positions (0: embeddings); from the cache, layers not in ``layers`` are empty tensors.
    """

    def __init__(
        self,
        model: Model,
        *,
        cache: Path | None = None,
        key: str = "",
        items: int = 0,
        limit_gb: float = 2.0,
    ) -> None:
        if cache is not None and not (key and items > 0):
            raise ValueError("a teacher cache needs a key and the number of items")
        self.model = model.requires_grad_(False).eval().to(memory_format=torch.channels_last)
        self.call: Call = self.model
        self.layers: tuple[int, ...] | None = None
        self.computed = 0  # batches that went through the model
        self._folder, self._key, self._items, self._limit_bytes = cache, key, items, limit_gb * 1e9
        self._caches: dict[str, ItemCache | None] = {}

    def to(self, device: torch.device | str) -> Teacher:
        """Move the model; the cache stays on disk."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, batch: Batch, needs: frozenset[str] = NOTHING) -> Output:
        """The teacher's output for ``batch``: logits (B, C) and what ``needs`` asks for, or the embeddings and scale of
        a dual encoder, read or computed.
        """
        batch = outputs.view(batch)
        if self._folder is None or not Items.known(batch):
            return self._compute(batch, needs)
        items = Items(batch)
        if self.model.embedding_width is not None:
            return self._look_up_embeddings(batch, items)
        layers = self.layers if needs == HIDDEN and self.layers else ()
        if layers or not needs:
            return self._look_up(batch, needs, layers, items)
        output = self._compute(batch, needs)
        self._keep(self._part_key("logits", items.device), outputs.encode_logits(output), items)
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

    def _look_up(self, batch: Batch, needs: frozenset[str], layers: Sequence[int], items: Items) -> Output:
        parts = ["logits"] + (["hidden_" + "-".join(map(str, layers))] if layers else [])
        keys = [self._part_key(part, items.device) for part in parts]
        found = [self._find(key, items) for key in keys]
        complete = [data for data in found if data is not None]
        if len(complete) < len(keys):
            output = self._compute(batch, needs)
            complete = [outputs.encode_logits(output)] + (
                [outputs.encode_hidden(output, layers, items)] if layers else []
            )
            if not all(complete):
                return output
            for key, data in zip(keys, complete, strict=True):
                self._keep(key, data, items)
        states = outputs.decode_hidden(complete[1], layers, items) if layers else None
        return Output(logits=outputs.decode_logits(complete[0], items), hidden_states=states)

    def _look_up_embeddings(self, batch: Batch, items: Items) -> Output:
        key = self._part_key("embeddings", items.device)
        found = self._find(key, items)
        if found is None:
            output = self._compute(batch, NOTHING)
            found = outputs.encode_embeddings(output)
            if not found:
                return output
            self._keep(key, found, items)
        return outputs.decode_embeddings(found, items)

    def _compute(self, batch: Batch, needs: frozenset[str]) -> Output:
        self.computed += 1
        self.model.capture(needs)
        self.model.eval()
        return self.call(batch)

    def _part_key(self, part: str, device: torch.device) -> str:
        precision = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else "as stored"
        return f"{self._key}\n{precision}\n{part}"

    def _find(self, key: str, items: Items) -> Found | None:
        cache = self._cache(key)
        if cache is None:
            return None
        found = [cache.get(item, source) for item, source in zip(items.index, items.sources, strict=True)]
        complete = [data for data in found if data is not None]
        return complete if len(complete) == len(found) else None

    def _keep(self, key: str, data: Found, items: Items) -> None:
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

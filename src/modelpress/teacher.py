"""The frozen teacher of a stage, and the on-disk cache of what it says."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from modelpress.models.base import Batch, Model, Output
from modelpress.teacher_cache import CacheUnavailable, ItemCache

log = logging.getLogger(__name__)
NOTHING: frozenset[str] = frozenset()
BITS_16, BITS_32 = np.dtype("<f2"), np.dtype("<f4")
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
        self._captured: frozenset[str] | None = None

    def to(self, device: torch.device | str) -> Teacher:
        """Move the model; the cache stays on disk."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, batch: Batch, needs: frozenset[str] = NOTHING) -> Output:
        """The teacher's output for ``batch``: logits (B, C) and what ``needs`` asks for, read or computed."""
        if self._folder is None or "index" not in batch or "attention_mask" not in batch:
            return self._compute(batch, needs)
        items = _Items(batch)
        logits = self._cache("logits")
        hidden = self._hidden_cache() if needs == {"hidden_states"} else None
        if needs in (NOTHING, {"hidden_states"}):
            known = _read(logits, items)
            states = _read(hidden, items) if known and needs else None
            if known and (states or not needs):
                return self._restore(known, states, items, batch["attention_mask"].device)
        output = self._compute(batch, needs)
        self._keep("logits", logits, _logit_bytes(output), items)
        return self._keep_hidden(output, hidden, items) if hidden is not None else output

    def close(self) -> None:
        """Write what is still in memory and let others use the cache. The teacher stays usable."""
        for cache in self._caches.values():
            if cache is not None:
                _ignoring_disk_errors(cache)
        self._caches.clear()

    def _compute(self, batch: Batch, needs: frozenset[str]) -> Output:
        self.computed += 1
        if needs != self._captured:
            self.model.capture(needs)
            self._captured = needs
        output: Output = self.model.eval()(batch)
        return output

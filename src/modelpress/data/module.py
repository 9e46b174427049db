"""The Lightning data module of every text dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from modelpress.data import requests
from modelpress.data.base import SPLITS
from modelpress.data.batching import Batches, epoch_batches, equal_length_batches, length_sorted_batches
from modelpress.data.loader import BatchLoader, Items
from modelpress.data.tokenizer import TextTokenizer
from modelpress.data.tokens import TokenCache, Tokens
from modelpress.errors import ModelPressError, one_of

if TYPE_CHECKING:
    from modelpress.data.text import TextDataset


class TextData(LightningDataModule):
    """Tokenizes every split once (on disk, under ``cache``) and feeds batches.

    A batch is a dict of int64 tensors: ``input_ids``, ``attention_mask``, ``token_type_ids`` (B, S), ``labels`` (B,)
    and ``index`` (B,), the row number within the split, by which outputs of a sorted split are put back in order.

    Args:
        dataset: the texts and the options of the loaders.
        preprocessor: folder with ``tokenizer.json``.
        seed: orders the training batches.
        cache: folder for token tables.
    """

    def __init__(self, dataset: TextDataset, preprocessor: Path, *, seed: int, cache: Path) -> None:
        super().__init__()
        self.dataset, self.preprocessor, self.seed = dataset, preprocessor, seed
        self.tokenizer = TextTokenizer(preprocessor)
        self._cache_root = cache
        self.share = 0, 1  # rank and number of the processes that share the batches of training and validation
        self._tokens: dict[str, Tokens] = {}

    @property
    def labels(self) -> list[str]:
        """Class names in the order of their indices."""
        return self.dataset.labels

    @property
    def task(self) -> str:
        """The kind of task, ``text-classification``."""
        return self.dataset.task

    @property
    def metric(self) -> str:
        """The name of the task's metric."""
        return self.dataset.metric

    @property
    def label_counts(self) -> dict[str, dict[str, int]]:
        """Split -> class name -> rows."""
        return {split: self.dataset.label_counts(split) for split in SPLITS}

    @property
    def items(self) -> int:
        """Training items: one more than the largest ``index`` of a batch."""
        return len(self.tokens("train"))

    @property
    def tokens_per_item(self) -> float:
        """Mean tokens of a training item, special tokens included."""
        return float(self.tokens("train").lengths.mean())

    @cached_property
    def cache(self) -> TokenCache:
        """Where the token tables lie."""
        return TokenCache(self.dataset, self.tokenizer, self._cache_root)

    def prepare_data(self) -> None:
        """Tokenize what is not cached; Lightning calls this in one process per machine."""
        self.cache.ensure()

    def tokens(self, split: str) -> Tokens:
        """The tokens of one split, mapped from disk; tokenizes if nobody has yet."""
        one_of("split", split, SPLITS)
        if not self._tokens:
            self.cache.ensure()
        if split not in self._tokens:
            self._tokens[split] = self.cache.split(split)
        return self._tokens[split]

    def train_dataloader(self) -> BatchLoader:
        """Length-bucketed batches in an order of their own every epoch; resumable after any batch."""
        rank, world_size = self.share
        lengths, size, seed = self.tokens("train").lengths, self.dataset.batch_size, self.seed

        def plan(epoch: int) -> Batches:
            return epoch_batches(lengths, size, seed=seed, epoch=epoch, rank=rank, world_size=world_size)

        return self._loader("train", plan)

    def val_dataloader(self) -> BatchLoader:
        """This process's share of the validation split, longest first."""
        return self._evaluation("validation", *self.share)

    def test_dataloader(self) -> BatchLoader:
        """The test split, longest first."""
        return self.eval_dataloader("test")

    def predict_dataloader(self) -> BatchLoader:
        """The test split, longest first."""
        return self.eval_dataloader("test")

    def calibration_dataloader(self) -> BatchLoader:
        """The calibration split in random order (always the same), so that its first batches are typical ones."""
        batches = epoch_batches(self.tokens("calibration").lengths, self.dataset.eval_batch_size, seed=0, epoch=0)
        return self._loader("calibration", lambda epoch: batches)

    def calibration(self, samples: int, draw: int = 0) -> list[dict[str, Tensor]]:
        """``samples`` items of the calibration split in batches of equal length, so that nothing is padding.

        ``draw`` seeds the choice and the order of the batches, which is random, so that the first ones are typical.
        Raises ModelPressError if the split holds fewer.
        """
        most = self.size("calibration")
        if not 1 <= samples <= most:
            raise ModelPressError(
                f"{samples} calibration samples were asked for; dataset {self.dataset.name} has {most} in its "
                f"calibration split. Set transform.samples to 1 … {most}."
            )
        return list(self.labelled("calibration", samples, draw))

    def size(self, split: str) -> int:
        """Items of a split."""
        return len(self.tokens(split))

    def labelled(self, split: str, limit: int, draw: int = 0) -> BatchLoader:
        """At most ``limit`` items of any split, drawn by ``draw``, in batches of equal length in random order."""
        lengths, generator = self.tokens(split).lengths, np.random.default_rng(draw)
        chosen = generator.permutation(len(lengths))[:limit]
        batches = equal_length_batches(lengths, chosen, self.dataset.eval_batch_size)
        turns = [batches[turn] for turn in generator.permutation(len(batches))]
        return self._loader(split, lambda epoch: turns, multiple=1)

    def eval_dataloader(self, split: str) -> BatchLoader:
        """Any split, every item once, longest first."""
        return self._evaluation(split)

    def _evaluation(self, split: str, rank: int = 0, world_size: int = 1) -> BatchLoader:
        batches = length_sorted_batches(
            self.tokens(split).lengths, self.dataset.eval_batch_size, rank=rank, world_size=world_size
        )
        return self._loader(split, lambda epoch: batches)

    def _loader(self, split: str, plan: Callable[[int], Batches], multiple: int | None = None) -> BatchLoader:
        options = self.dataset
        multiple = options.pad_to_multiple if multiple is None else multiple
        items = Items(self.tokens(split), self.tokenizer.pad_id, multiple, options.max_length)
        return BatchLoader(items, plan, num_workers=options.num_workers, pin_memory=torch.cuda.is_available())

    def workloads(
        self, shapes: Sequence[str], limit: int, split: str = "test"
    ) -> dict[str, dict[str, dict[str, np.ndarray]]]:
        """Tower -> shape -> ``limit`` inputs for workers. ``1x128``: 128 tokens; ``data``: items as they are."""
        lengths = {shape: None if shape == "data" else int(shape.rpartition("x")[2]) for shape in shapes}
        return {"main": {shape: self.requests(split, length=n, limit=limit) for shape, n in lengths.items()}}

    def lengths(self) -> dict[str, list[int]]:
        """Tower -> length of every training item."""
        return {"main": self.tokens("train").lengths.tolist()}

    def evaluation(self) -> dict[str, dict[str, np.ndarray]]:
        """Tower -> the whole test split with its labels, for benchmark workers."""
        return {"main": self.requests("test")}

    def requests(
        self, split: str, *, length: int | None = None, limit: int | None = None, seed: int = 0
    ) -> dict[str, np.ndarray]:
        """Inputs for benchmark workers (see :mod:`modelpress.data.requests`).

        ``length=None``: items as they are, with ``lengths`` and ``labels``. Otherwise requests of exactly ``length``
        real tokens, without labels.
        """
        tokens = self.tokens(split)
        if length is None:
            return requests.items(tokens, pad_id=self.tokenizer.pad_id, limit=limit, seed=seed)
        return requests.packed(tokens, self.tokenizer.frame(), length=length, limit=limit, seed=seed)

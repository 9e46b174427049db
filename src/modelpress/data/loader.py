"""Batches as tensors, in an order that can be resumed in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from modelpress.data.batching import Batches, pad
from modelpress.data.tokens import Tokens
from modelpress.errors import ModelPressError


@dataclass(frozen=True)
class Items(Dataset[dict[str, Tensor]]):
    """A split from which whole batches are cut: the index is an array of row numbers."""

    tokens: Tokens
    pad_id: int
    multiple: int
    ceiling: int

    def __getitem__(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Input tensors (B, S), ``labels`` (B,) and ``index`` (B,), the row number in the split; all int64."""
        arrays = pad(self.tokens, rows, pad_id=self.pad_id, multiple=self.multiple, ceiling=self.ceiling)
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return batch | {"labels": torch.from_numpy(self.tokens.labels[rows]), "index": torch.from_numpy(rows.copy())}

    def __len__(self) -> int:
        return len(self.tokens)


class Position:
    """Where a loader stands. Lightning calls ``set_epoch`` on what it finds as ``loader.sampler``."""

    def __init__(self) -> None:
        self.epoch = 0
        self.done = 0  # batches handed out in this epoch
        self.skip = 0  # batches that the next iteration leaves out

    def set_epoch(self, epoch: int) -> None:
        """Begin ``epoch``; a call with the current epoch keeps a position that was just loaded."""
        if epoch != self.epoch:
            self.epoch, self.done, self.skip = epoch, 0, 0


class BatchLoader:
    """Iterates over the batches that ``plan(epoch)`` lists, and resumes after any of them.

    ``state_dict`` counts the batches handed to the caller, not those that workers fetched ahead. Nothing happens
    before the first ``next``, because Lightning makes the iterator first and names the epoch afterwards. The order
    depends on ``plan`` alone, and the loader takes its own random numbers: torch's global generator is left as it is.

    It holds a ``DataLoader`` and is none: Lightning would wrap the sampler of one (``plan`` knows the ranks already),
    and advise more workers, which are slower than cutting batches from a token table.
    """

    batch_sampler = None  # Lightning asks for it where it finds a ``sampler``

    def __init__(
        self,
        items: Dataset[dict[str, Tensor]],
        plan: Callable[[int], Batches],
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.items, self.plan = items, plan
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.sampler = Position()
        self._length = len(plan(0))

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self._length

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """The batches of the current epoch, after those that a loaded state has seen."""
        position = self.sampler
        position.done, position.skip = position.skip, 0
        for batch in self._loader(self.plan(position.epoch)[position.done :]):
            position.done += 1
            yield batch

    def _loader(self, batches: Batches) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(
            self.items,
            batch_size=None,  # an index is a whole batch already
            sampler=batches,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            generator=torch.Generator(),
        )

    def state_dict(self) -> dict[str, int]:
        """Plain numbers, so that a checkpoint loads with ``weights_only=True``."""
        return {"epoch": self.sampler.epoch, "batches_done": self.sampler.done, "batches": len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the last batch of ``state``. Raises if the epoch was cut into batches in another way."""
        if state["batches"] != len(self):
            raise ModelPressError(
                f"the checkpoint comes from epochs of {state['batches']} batches, here an epoch has {len(self)}; "
                "resume with the same data, dataset.batch_size and number of devices, or start anew"
            )
        done = state["batches_done"]
        self.sampler.epoch, self.sampler.done, self.sampler.skip = state["epoch"], done, done

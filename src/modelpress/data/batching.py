"""Which items form a batch, and how a batch is padded: pure functions of NumPy arrays. Torch-free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelpress.data.tokens import Tokens
from modelpress.errors import ModelPressError

BUCKET = 50  # batches per bucket: items are shuffled across the epoch and sorted by length only within a bucket

Batches = list[NDArray[np.int64]]


def epoch_batches(
    lengths: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> Batches:
    """Row numbers of every training batch of one epoch, a function of its arguments alone.

    Every item comes once; items of a batch have similar lengths; batches come in random order. With ``world_size``
    W the global batch k holds up to ``W * batch_size`` items and rank r gets every W-th of them, so all ranks make
    the same number of steps and together see the epoch. A rest smaller than W joins the batch before it.
    """
    order = _bucketed(lengths, BUCKET * batch_size * world_size, np.random.default_rng([seed, epoch]))
    cuts = _cuts(len(lengths), batch_size * world_size, world_size)
    batches = np.split(order, cuts)
    turns = np.random.default_rng([seed, epoch, 1]).permutation(len(batches))
    return [batches[turn][rank::world_size] for turn in turns]


def _bucketed(lengths: NDArray[np.int64], bucket: int, generator: np.random.Generator) -> NDArray[np.int64]:
    order = generator.permutation(len(lengths))
    parts = [order[start : start + bucket] for start in range(0, len(order), bucket)]
    return np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])


def _cuts(items: int, batch: int, world_size: int) -> NDArray[np.int64]:
    if items < world_size:
        raise ModelPressError(f"{items} items are too few for {world_size} processes; use fewer devices")
    cuts = np.arange(batch, items, batch)
    if len(cuts) and items - cuts[-1] < world_size:
        cuts = cuts[:-1]
    return cuts


def distinct_batches(
    candidates: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> Batches:
    """Row numbers of every training batch of one epoch, no candidate twice in a batch (over all ranks together).

    Every row comes once. Rows are dealt to the batches like cards, candidate after candidate in random order, so that
    sizes differ by one at most; each round of dealing goes through the batches in an order of its own. Where a
    candidate has more rows than there would be batches, there are as many batches as it has rows.
    """
    generator = np.random.default_rng([seed, epoch])
    count = max(-(-len(candidates) // (batch_size * world_size)), int(np.bincount(candidates).max()))
    if len(candidates) < world_size * count:
        raise ModelPressError(
            f"{len(candidates)} training items in {count} batches are too few for {world_size} processes; use fewer "
            "devices"
        )
    order = generator.permutation(len(candidates))
    order = order[np.argsort(generator.permutation(candidates.max() + 1)[candidates[order]], kind="stable")]
    turns = _dealt(candidates[order], count, generator)
    hands = np.split(order[np.argsort(turns, kind="stable")], np.cumsum(np.bincount(turns))[:-1])
    return [generator.permutation(hand)[rank::world_size] for hand in hands]


def _dealt(candidates: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """The batch of every row; equal candidates stand together and number ``count`` at most, and end up apart."""
    rounds: list[NDArray[np.int64]] = []
    for start in range(0, len(candidates), count):
        turns = generator.permutation(count)
        if start:
            used = rounds[-1][candidates[start - count : start] == candidates[start]]
            free = turns[~np.isin(turns, used)]
            first = free[: (candidates[start : start + count] == candidates[start]).sum()]
            turns = np.concatenate([first, turns[~np.isin(turns, first)]])
        rounds.append(turns)
    return np.concatenate(rounds)[: len(candidates)]


def length_sorted_batches(
    lengths: NDArray[np.int64], batch_size: int, *, rank: int = 0, world_size: int = 1
) -> Batches:
    """Every item once, longest first (a batch that does not fit in memory fails at once); ranks share each batch."""
    order = np.argsort(-lengths, kind="stable")
    batches = np.split(order, _cuts(len(lengths), batch_size * world_size, world_size)) if len(order) else []
    return [batch[rank::world_size] for batch in batches]


def equal_length_batches(lengths: NDArray[np.int64], rows: NDArray[np.int64], batch_size: int) -> Batches:
    """The items ``rows`` in batches of one length each: statistics over them see no padding."""
    found = lengths[rows]
    groups = [rows[found == length] for length in np.unique(found)]
    return [group[start : start + batch_size] for group in groups for start in range(0, len(group), batch_size)]


def pad(tokens: Tokens, rows: NDArray[np.int64], *, pad_id: int, multiple: int, ceiling: int) -> dict[str, np.ndarray]:
    """Input arrays of the items ``rows``, each (B, S) int64, padded on the right; the mask is 1 on real tokens.

    S is the longest item rounded up to ``multiple``, but not beyond ``ceiling`` tokens.
    """
    lengths = tokens.lengths[rows]
    longest = int(lengths.max())
    width = max(longest, min(ceiling, -(-longest // multiple) * multiple))
    real = np.arange(width) < lengths[:, None]
    parts = [slice(tokens.offsets[row], tokens.offsets[row + 1]) for row in rows]
    input_ids = np.full(real.shape, pad_id, dtype=np.int64)
    input_ids[real] = np.concatenate([tokens.input_ids[part] for part in parts])
    token_type_ids = np.zeros(real.shape, dtype=np.int64)
    token_type_ids[real] = np.concatenate([tokens.token_type_ids[part] for part in parts])
    return {"input_ids": input_ids, "attention_mask": real.astype(np.int64), "token_type_ids": token_type_ids}

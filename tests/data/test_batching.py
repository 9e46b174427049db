from __future__ import annotations

import numpy as np
import pytest

from modelpress.data.batching import (
    distinct_batches,
    epoch_batches,
    equal_length_batches,
    length_sorted_batches,
    pad,
)
from modelpress.data.tokens import Tokens
from modelpress.errors import ModelPressError


def tokens_of(*items: list[int]) -> Tokens:
    flat = np.asarray([token for item in items for token in item], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, items)])
    return Tokens(flat, (flat % 2).astype(np.int8), offsets, np.arange(len(items)))


def test_property_every_epoch_holds_every_item_once_and_ranks_agree() -> None:
    """120 random cases: sizes, batch sizes, world sizes, seeds."""
    generator = np.random.default_rng(0)
    for _ in range(120):
        items, size, world = (
            int(generator.integers(1, 400)),
            int(generator.integers(1, 40)),
            int(generator.integers(1, 5)),
        )
        seed, epoch = int(generator.integers(100)), int(generator.integers(5))
        if items < world:
            continue
        lengths = generator.integers(2, 130, items)
        ranks = [epoch_batches(lengths, size, seed=seed, epoch=epoch, rank=r, world_size=world) for r in range(world)]
        assert len({len(batches) for batches in ranks}) == 1
        union = np.concatenate([batch for batches in ranks for batch in batches])
        assert np.array_equal(np.sort(union), np.arange(items))
        sizes = [len(batch) for batches in ranks for batch in batches]
        assert min(sizes) >= 1
        assert max(sizes) <= size + (world > 1)
        assert len(ranks[0]) in (-(-items // (size * world)), max(1, items // (size * world)))


def test_two_ranks_of_half_the_batch_see_the_global_batches_of_one() -> None:
    lengths = np.random.default_rng(0).integers(2, 60, 640)
    one = epoch_batches(lengths, 32, seed=1, epoch=0)
    two = [epoch_batches(lengths, 16, seed=1, epoch=0, rank=r, world_size=2) for r in range(2)]
    for whole, *halves in zip(one, *two, strict=True):
        assert set(whole) == set(np.concatenate(halves))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(2, 60, 500)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_batches(lengths, 16, seed=seed, epoch=epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1, 2)}) == 6


def test_batches_hold_similar_lengths_in_random_order() -> None:
    lengths = np.random.default_rng(0).integers(2, 130, 8000)
    batches = epoch_batches(lengths, 32, seed=0, epoch=0)
    padded = sum(lengths[batch].max() * len(batch) for batch in batches)
    assert padded < 1.05 * lengths.sum()  # shuffled without buckets: 1.9
    means = np.asarray([lengths[batch].mean() for batch in batches])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2


def test_too_few_items_for_the_ranks() -> None:
    with pytest.raises(ModelPressError, match="2 items are too few for 3 processes"):
        epoch_batches(np.array([3, 3]), 8, seed=0, epoch=0, world_size=3)


def test_evaluation_goes_from_long_to_short_and_ranks_share_it() -> None:
    lengths = np.random.default_rng(0).integers(2, 130, 101)
    whole = np.concatenate(length_sorted_batches(lengths, 8))
    assert (np.diff(lengths[whole]) <= 0).all()
    shares = [np.concatenate(length_sorted_batches(lengths, 8, rank=r, world_size=3)) for r in range(3)]
    assert sorted(np.concatenate(shares).tolist()) == sorted(whole.tolist()) == list(range(101))
    counts = {len(length_sorted_batches(lengths, 8, rank=r, world_size=3)) for r in range(3)}
    assert len(counts) == 1  # a rank with fewer batches would leave the others waiting
    assert length_sorted_batches(lengths[:0], 8) == []


def test_property_batches_of_one_length_hold_the_chosen_items_once() -> None:
    """60 random cases: sizes, batch sizes, choices."""
    generator = np.random.default_rng(0)
    for _ in range(60):
        lengths = generator.integers(2, int(generator.integers(3, 40)), int(generator.integers(1, 300)))
        size = int(generator.integers(1, 20))
        rows = generator.permutation(len(lengths))[: int(generator.integers(1, len(lengths) + 1))]
        batches = equal_length_batches(lengths, rows, size)
        assert sorted(np.concatenate(batches).tolist()) == sorted(rows.tolist())
        assert all(1 <= len(batch) <= size for batch in batches)
        assert all(len(set(lengths[batch])) == 1 for batch in batches)
        counts = np.unique(lengths[rows], return_counts=True)[1]
        assert len(batches) == sum(-(-count // size) for count in counts)  # no more than there must be


def test_pad_against_a_loop() -> None:
    tokens = tokens_of([5, 6, 7], [8], [9, 10, 11, 12, 13])
    arrays = pad(tokens, np.array([2, 0]), pad_id=99, multiple=4, ceiling=64)
    assert arrays["input_ids"].tolist() == [[9, 10, 11, 12, 13, 99, 99, 99], [5, 6, 7, 99, 99, 99, 99, 99]]
    assert arrays["attention_mask"].tolist() == [[1] * 5 + [0] * 3, [1] * 3 + [0] * 5]
    assert arrays["token_type_ids"].tolist() == [[1, 0, 1, 0, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0]]
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize(("multiple", "ceiling", "width"), [(1, 64, 5), (8, 64, 8), (8, 6, 6), (8, 5, 5), (8, 3, 5)])
def test_padding_stops_at_the_ceiling(multiple: int, ceiling: int, width: int) -> None:
    tokens = tokens_of([1, 2, 3, 4, 5])
    shape = pad(tokens, np.array([0]), pad_id=0, multiple=multiple, ceiling=ceiling)["input_ids"].shape
    assert shape == (1, width)


def test_property_no_candidate_twice_in_a_batch() -> None:
    """120 random cases: several rows per candidate, all sizes, several ranks."""
    generator = np.random.default_rng(1)
    for _ in range(120):
        rows, size, world = (int(generator.integers(*bounds)) for bounds in ((8, 300), (2, 40), (1, 4)))
        candidates = generator.integers(0, max(4, rows // int(generator.integers(1, 6))), rows)
        options = {"seed": int(generator.integers(100)), "epoch": int(generator.integers(5)), "world_size": world}
        wanted = max(-(-rows // (size * world)), int(np.bincount(candidates).max()))
        if rows < world * wanted:
            continue
        ranks = [distinct_batches(candidates, size, rank=rank, **options) for rank in range(world)]
        assert {len(batches) for batches in ranks} == {wanted}
        for parts in zip(*ranks, strict=True):
            together = candidates[np.concatenate(parts)]
            assert len(set(together.tolist())) == len(together)
            assert all(1 <= len(part) <= size for part in parts)
        sizes = [sum(map(len, parts)) for parts in zip(*ranks, strict=True)]
        assert max(sizes) - min(sizes) <= 1
        everything = np.concatenate([batch for batches in ranks for batch in batches])
        assert np.array_equal(np.sort(everything), np.arange(rows))


def test_distinct_batches_mix_anew_every_epoch() -> None:
    candidates = np.repeat(np.arange(200), 3)
    epochs = [distinct_batches(candidates, 50, seed=1, epoch=epoch) for epoch in (0, 0, 1)]
    other = distinct_batches(candidates, 50, seed=2, epoch=0)
    first, again, second = ([batch.tolist() for batch in batches] for batches in epochs)
    assert first == again != second
    assert first != [batch.tolist() for batch in other]
    pairs = {tuple(sorted((a, b))) for batch in first for a in candidates[batch] for b in candidates[batch] if a < b}
    drawn, possible = 12 * 50 * 49 / 2, 200 * 199 / 2
    assert len(pairs) > 0.9 * possible * (1 - np.exp(-drawn / possible))  # as many as independent draws would give


def test_one_candidate_with_too_many_rows_for_the_processes() -> None:
    with pytest.raises(ModelPressError, match="5 training items in 4 batches are too few for 2 processes"):
        distinct_batches(np.array([0, 0, 0, 0, 1]), 4, seed=0, epoch=0, world_size=2)

from __future__ import annotations

import numpy as np
import pytest

from modelpress.data.requests import items, packed
from modelpress.data.tokens import Tokens
from modelpress.errors import ModelPressError

CLS, SEP = 101, 102
FRAME = ([CLS], [SEP])


def split_of(*lengths: int) -> Tokens:
    """Item i is ``[CLS] 10i 10i+1 … [SEP]`` with this many words."""
    texts = [[CLS, *range(10 * i, 10 * i + n), SEP] for i, n in enumerate(lengths)]
    flat = np.asarray([token for text in texts for token in text], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, texts)])
    return Tokens(flat, np.zeros(len(flat), dtype=np.int8), offsets, np.arange(len(texts)) % 2)


def test_items_as_they_are() -> None:
    requests = items(split_of(1, 3), pad_id=0, limit=None, seed=0)
    assert requests["input_ids"].tolist() == [[CLS, 0, SEP, 0, 0], [CLS, 10, 11, 12, SEP]]
    assert requests["lengths"].tolist() == [3, 5]
    assert requests["labels"].tolist() == [0, 1]
    first = {k: a[0:1, : requests["lengths"][0]] for k, a in requests.items() if a.ndim == 2}
    assert {name: array.tolist() for name, array in first.items()} == {
        "input_ids": [[CLS, 0, SEP]],
        "attention_mask": [[1, 1, 1]],
        "token_type_ids": [[0, 0, 0]],
    }


def test_a_limited_draw_is_random_and_repeatable() -> None:
    split = split_of(*range(1, 9))
    draws = [items(split, pad_id=0, limit=3, seed=seed)["lengths"].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 3
    assert items(split, pad_id=0, limit=99, seed=0)["lengths"].tolist() == list(range(3, 11))


def test_packed_requests_are_consecutive_items_cut_to_length() -> None:
    requests = packed(split_of(2, 3, 4, 2, 5), FRAME, length=8, limit=None, seed=0)
    assert requests["input_ids"].tolist() == [[CLS, 0, 1, SEP, 10, 11, 12, SEP], [CLS, 20, 21, 22, 23, SEP, 30, SEP]]
    assert requests["attention_mask"].all()
    assert set(requests) == {"input_ids", "attention_mask", "token_type_ids"}


def test_packed_requests_go_round_when_asked_for_more() -> None:
    requests = packed(split_of(2, 3, 4), FRAME, length=16, limit=5, seed=3)
    assert requests["input_ids"].shape == (5, 16)
    assert (requests["input_ids"][:, 0] == CLS).all()
    assert (requests["input_ids"][:, -1] == SEP).all()
    assert packed(split_of(1), FRAME, length=20, limit=None, seed=0)["input_ids"].shape == (1, 20)


def test_a_request_needs_room_for_a_word() -> None:
    with pytest.raises(ModelPressError, match="a request of 2 tokens has no room beside 2 special ones"):
        packed(split_of(1), FRAME, length=2, limit=None, seed=0)

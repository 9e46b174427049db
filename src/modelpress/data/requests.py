"""Real inputs for benchmark workers, as arrays of the Requests format. Torch-free.

Every array has a leading axis n: the model inputs by name (int64, (n, L)), and optionally ``lengths`` and ``labels``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, takewhile

import numpy as np
from numpy.typing import NDArray

from modelpress.data.batching import pad
from modelpress.data.tokens import Tokens
from modelpress.errors import ModelPressError


def items(tokens: Tokens, *, pad_id: int, limit: int | None, seed: int) -> dict[str, np.ndarray]:
    """Items as they are, padded to the longest; all in order, or ``limit`` of them drawn at random by ``seed``."""
    rows = _rows(len(tokens), limit, seed)
    arrays = pad(tokens, rows, pad_id=pad_id, multiple=1, ceiling=1)
    return arrays | {"lengths": tokens.lengths[rows], "labels": tokens.labels[rows].copy()}


def _rows(count: int, limit: int | None, seed: int) -> NDArray[np.int64]:
    if limit is None or limit >= count:
        return np.arange(count)
    return np.random.default_rng(seed).permutation(count)[:limit]


def packed(
    tokens: Tokens, frame: tuple[list[int], list[int]], *, length: int, limit: int | None, seed: int
) -> dict[str, np.ndarray]:
    """Requests of exactly ``length`` real tokens: ``[CLS] a [SEP] b [SEP] … [SEP]``, the last item cut.

    Items follow each other as in the split; ``frame`` holds the special tokens before and after a text. Without
    ``limit`` one pass over the split gives as many requests as it has tokens for (a split too short for one is
    repeated); with ``limit`` there are exactly that many, from a random item on and round again.
    """
    before, after = frame
    room = length - len(before) - len(after)
    if room < 1:
        raise ModelPressError(f"a request of {length} tokens has no room beside {length - room} special ones")
    start = 0 if limit is None else int(np.random.default_rng(seed).integers(len(tokens)))
    bodies = _bodies(tokens, start, room, frame)
    if limit is None:
        first = next(bodies)
        chosen = [first, *takewhile(lambda body: body[1] <= len(tokens), bodies)]
    else:
        chosen = list(islice(bodies, limit))
    input_ids = np.asarray([[*before, *body, *after] for body, _ in chosen], dtype=np.int64)
    zeros = np.zeros_like(input_ids)
    return {"input_ids": input_ids, "attention_mask": zeros + 1, "token_type_ids": zeros}


def _bodies(
    tokens: Tokens, item: int, room: int, frame: tuple[list[int], list[int]]
) -> Iterator[tuple[list[int], int]]:
    """Endless ``(room tokens, number of the next item)``; every item but a cut one is closed by ``frame[1]``."""
    before, after = len(frame[0]), len(frame[1])
    while True:
        body: list[int] = []
        while len(body) < room + after:
            row = item % len(tokens)
            body += tokens.input_ids[tokens.offsets[row] + before : tokens.offsets[row + 1]].tolist()
            item += 1
        yield body[:room], item

"""Who goes into train, calibration, validation and test: seeded, stratified, as pure functions. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from modelpress.errors import ModelPressError

SHARES: Mapping[str, float] = {"calibration": 0.05, "validation": 0.05, "test": 0.10}  # train: what is left


def assign(labels: NDArray[np.int64], shares: Mapping[str, float], seed: int) -> NDArray[np.str_]:
    """Name a split for every row: each share is a stratified sample, the rest is ``train``.

    ``labels`` is (n,) class indices. Sizes are exact (rounded, at least 1) and every class keeps a row in train.

    >>> [int((assign(np.arange(40) % 2, SHARES, seed=0) == s).sum()) for s in ("train", *SHARES)]
    [32, 2, 2, 4]
    """
    splits = np.full(len(labels), "train", dtype="<U11")
    generator = np.random.default_rng(seed)
    counts = {name: max(1, round(share * len(labels))) for name, share in shares.items()}
    classes = len(np.unique(labels))
    if counts and len(labels) < classes + sum(counts.values()):
        raise ModelPressError(
            f"{len(labels)} rows in {classes} classes are too few to draw {', '.join(counts)} from and keep a row of "
            "every class for training; give more rows, or your own split column"
        )
    for name, count in counts.items():
        rest = np.flatnonzero(splits == "train")
        splits[rest[stratified_sample(labels[rest], count, generator)]] = name
    return splits


def stratified_sample(labels: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` row numbers taken at even distances from the rows in order of class, so classes keep their shares.

    One row of every class is never taken: what stays behind still knows all classes. Rows within a class come in
    random order, and the first position is random (systematic sampling). ``count`` leaves room for these rows.
    """
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    first = np.diff(labels[order], prepend=labels.min() - 1) != 0
    candidates = order[~first]
    positions = (np.arange(count) + generator.random()) * (len(candidates) / count)
    return np.asarray(np.sort(candidates[positions.astype(np.int64)]), dtype=np.int64)


def thin(labels: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """At most ``limit`` row numbers, in their old order: every class first gets one row, then its share.

    Which rows is fixed (no seed): ``limit`` is for quick tries and must not be a source of luck.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    counts = np.bincount(labels)
    seen = np.zeros_like(counts)
    turn = np.empty(len(labels))
    for row in order:
        turn[row] = seen[labels[row]] / counts[labels[row]]
        seen[labels[row]] += 1
    chosen = order[np.argsort(turn[order], kind="stable")][:limit]
    return np.asarray(np.sort(chosen), dtype=np.int64)


def carve(labels: NDArray[np.int64], splits: NDArray[np.str_], seed: int) -> NDArray[np.str_]:
    """``splits`` with a missing ``validation`` or ``calibration`` taken from train (5 % of it each), never from test.

    >>> carved = carve(np.arange(42) % 2, np.array(["train"] * 40 + ["test"] * 2), seed=0)
    >>> [int((carved == s).sum()) for s in ("train", *SHARES)], carved[-2:].tolist()
    ([36, 2, 2, 2], ['test', 'test'])
    """
    missing = {name: SHARES[name] for name in ("calibration", "validation") if name not in splits}
    carved = splits.astype("<U11")
    train = np.flatnonzero(splits == "train")
    carved[train] = assign(labels[train], missing, seed)
    return carved

"""Checks that hold for every text table, whatever file it came from. Torch-free."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from modelpress.data.base import SPLITS
from modelpress.data.splits import thin
from modelpress.errors import ModelPressError

log = logging.getLogger(__name__)

IMBALANCE = 20  # largest class over smallest in train from which plain accuracy is called misleading


def thin_table(frame: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most ``limit`` rows of each split, classes kept in proportion."""
    parts = [frame[frame["split"] == split] for split in SPLITS]
    kept = [part.iloc[thin(part["label"].to_numpy(), limit)] for part in parts if len(part)]
    return pd.concat(kept).sort_index()


def check_table(frame: pd.DataFrame, labels: list[str], name: str, *, lenient: bool) -> None:
    """Raise on what makes training or testing meaningless, log a warning on what makes it doubtful.

    ``lenient`` (a thinned table): a class without training rows is a warning, not an error.
    """
    counts = {s: np.bincount(frame.loc[frame["split"] == s, "label"], minlength=len(labels)) for s in SPLITS}
    for split, count in counts.items():
        if not count.sum():
            raise ModelPressError(f"dataset {name!r}: split {split!r} has no rows; give it some, or let them be drawn")
    _check_train(counts, labels, name, lenient)
    for split in ("validation", "test"):
        _warn_absent(counts[split], labels, f"dataset {name!r}: split {split!r}")
    _warn_overlap(frame, name)


def _check_train(counts: dict[str, np.ndarray], labels: list[str], name: str, lenient: bool) -> None:
    train = counts["train"]
    if (train > 0).sum() < 2:
        only = [label for label, count in zip(labels, train, strict=True) if count]
        raise ModelPressError(
            f"dataset {name!r}: all training rows are labelled {only}; a classifier needs two classes"
        )
    elsewhere = np.sum([counts[split] for split in SPLITS[1:]], axis=0)
    unseen = [label for label, t, e in zip(labels, train, elsewhere, strict=True) if e and not t]
    if unseen and not lenient:
        raise ModelPressError(
            f"dataset {name!r}: {unseen} appear in other splits but never in train, so they cannot be learned; "
            "move some of their rows to train, or remove these classes"
        )
    _warn_absent(train, labels, f"dataset {name!r}: split 'train'")
    present = train[train > 0]
    if present.max() >= IMBALANCE * present.min():
        log.warning(
            "dataset %r: the largest class has %d training rows, the smallest %d: accuracy hides mistakes on the small "
            "one, look at the metrics per class too",
            *(name, present.max(), present.min()),
        )


def _warn_absent(count: np.ndarray, labels: list[str], where: str) -> None:
    absent = [label for label, n in zip(labels, count, strict=True) if not n]
    if absent:
        log.warning("%s has no row of %s", where, absent)


def _warn_overlap(frame: pd.DataFrame, name: str) -> None:
    key = frame["text"] + "\0" + frame["text_pair"].fillna("").astype(str)
    test, train = frame["split"] == "test", frame["split"] == "train"
    shared = int(key[test].isin(set(key[train])).sum())
    if shared:
        log.warning(
            "dataset %r: %d of %d test texts also stand in train, so the test metric flatters; remove duplicates",
            *(name, shared, int(test.sum())),
        )

"""Real inputs for workers: one uncompressed ``.npz``, leading axis = items, optional ``lengths`` and ``labels``."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelpress.errors import ModelPressError

Inputs = dict[str, NDArray[Any]]
GOLDEN = 0.6180339887498949  # fractional part of the golden ratio: the most even one-dimensional sequence


def batch_of(shape: str) -> int:
    """How many items one request of a shape has; its sizes are joined by x, the batch first.

    >>> batch_of("32x3x224x224"), batch_of("1x128"), batch_of("data")
    (32, 1, 1)
    """
    first = shape.partition("x")[0]
    return int(first) if first.isdigit() else 1


@dataclass(frozen=True)
class Requests:
    """Items to send to an engine: ``arrays[name]`` has shape (n, ...); ``lengths`` and ``labels`` have shape (n,).

    ``lengths`` are those of sequences, arrays of two axes; others (images) are whole.
    """

    arrays: Inputs
    lengths: NDArray[np.int64] | None = None
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def item(self, index: int) -> Inputs:
        """Item ``index`` as a batch of one, cut to its true length."""
        return self.take(np.array([index]))

    def take(self, indices: NDArray[np.int64]) -> Inputs:
        """A batch of these items, cut to the longest among them; contiguous copies."""
        width = None if self.lengths is None else int(self.lengths[indices].max())
        rows = {name: array[indices] for name, array in self.arrays.items()}
        return {k: np.ascontiguousarray(v[:, :width] if v.ndim == 2 else v) for k, v in rows.items()}

    def sorted_by_length(self) -> NDArray[np.int64]:
        """Item indices from short to long; without ``lengths`` the file's order."""
        return np.arange(len(self)) if self.lengths is None else np.argsort(self.lengths, kind="stable")

    def one_of_each_length(self) -> NDArray[np.int64]:
        """The first item of every different length, from short to long; without ``lengths`` item 0 alone."""
        return np.zeros(1, np.int64) if self.lengths is None else np.unique(self.lengths, return_index=True)[1]

    def even_order(self) -> NDArray[np.int64]:
        """An order in which every stretch has nearly the length histogram of the whole.

        Engines of different speed answer different numbers of requests in the same time; with this order they
        still see the same mix, so their medians can be compared. It is a golden-ratio (Kronecker) sequence over the
        items sorted by length.
        """
        n = len(self)
        keys = (np.arange(n) + 0.5) * GOLDEN % 1.0
        return self.sorted_by_length()[np.argsort(np.argsort(keys))]

    def batches(self, size: int) -> Iterator[tuple[NDArray[np.int64], Inputs]]:
        """All items once, in batches of similar length: ``(indices, inputs)``."""
        order = self.sorted_by_length()
        for start in range(0, len(order), size):
            indices = order[start : start + size]
            yield indices, self.take(indices)


def read(path: Path) -> Requests:
    """Open a requests file. Nothing is unpickled; a malformed file is a :class:`ModelPressError`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ModelPressError(f"requests file {path} cannot be read: {error}. It must be an .npz of arrays.") from error
    lengths, labels = arrays.pop("lengths", None), arrays.pop("labels", None)
    requests = Requests(arrays, lengths, labels)
    _check(path, requests)
    return requests


def write(path: Path, arrays: Mapping[str, NDArray[Any]], lengths: Any = None, labels: Any = None) -> Path:
    """Write a requests file (uncompressed) and return its path."""
    extra = {"lengths": lengths, "labels": labels}
    kept = {name: np.asarray(value, np.int64) for name, value in extra.items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    members: dict[str, Any] = {**arrays, **kept}
    np.savez(path, **members)
    return path


def _check(path: Path, requests: Requests) -> None:
    if not requests.arrays:
        raise ModelPressError(f"requests file {path} holds no model inputs; it needs one array per input, by name.")
    every = {**requests.arrays, "lengths": requests.lengths, "labels": requests.labels}
    counts = {name: len(array) if array.ndim else 0 for name, array in every.items() if array is not None}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise ModelPressError(f"requests file {path}: arrays need the same number of items (> 0), found {counts}.")
    if requests.lengths is not None and requests.lengths.min() < 1:
        raise ModelPressError(f"requests file {path}: lengths must be at least 1, found {requests.lengths.min()}.")

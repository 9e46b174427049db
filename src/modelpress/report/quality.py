"""What a classifier's logits are worth. Pure NumPy. Shapes: N items, C classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


def predictions(logits: NDArray[Any]) -> Labels:
    """(N, C) -> (N,): the class with the largest logit."""
    classes: Labels = np.asarray(logits).argmax(axis=-1).astype(np.int64)
    return classes


def correct(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """(N, C), (N,) -> (N,): whether each item is classified correctly."""
    hits: NDArray[np.bool_] = predictions(logits) == np.asarray(labels)
    return hits


def accuracy(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of equal entries of two (N,) arrays; also the agreement of two networks."""
    return float(np.mean(np.asarray(predicted) == np.asarray(labels)))


def combine(images: NDArray[Any], texts: NDArray[Any], candidate: NDArray[Any]) -> NDArray[np.float64]:
    """Cosines (N, C) of images (N, E) and candidates from the embeddings of both towers.

    ``texts`` (P, E) are all texts, ``candidate`` (P,) says whose each is: several of one candidate (templates) become
    the mean of their directions.
    """
    directions = _unit(np.asarray(texts, np.float64))
    sums = np.zeros((int(candidate.max()) + 1, directions.shape[1]))
    np.add.at(sums, candidate, directions)
    cosines: NDArray[np.float64] = _unit(np.asarray(images, np.float64)) @ _unit(sums).T
    return cosines


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def macro_f1(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    """Unweighted mean of F1 = 2 TP / (2 TP + FP + FN) over the classes that occur in either (N,) array."""
    scores = []
    for label in np.union1d(predicted, labels):
        hit = np.sum((predicted == label) & (labels == label))
        scores.append(2 * hit / (np.sum(predicted == label) + np.sum(labels == label)))
    return float(np.mean(scores))

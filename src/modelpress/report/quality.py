"""What logits are worth, of a classifier and of a dual encoder. Pure NumPy.

Shapes: N items, C classes or candidate texts, P prompts, E embedding width. A dual encoder with a list of candidates is
a classifier of images; where every candidate stands for some of the images, the texts can be asked for them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelpress.errors import ModelPressError

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


def predictions(logits: NDArray[Any]) -> Labels:
    """(N, C) -> (N,): the class with the largest logit."""
    classes: Labels = np.asarray(logits).argmax(axis=-1).astype(np.int64)
    return classes


def correct(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """(N, C), (N,) -> (N,): whether each item is classified correctly."""
    hits: NDArray[np.bool_] = predictions(logits) == np.asarray(labels)
    return hits


def ranks(logits: NDArray[Any], labels: NDArray[Any]) -> Labels:
    """(N, C), (N,) -> (N,): how many candidates are preferred to the right one; 0: it wins. Of equals the first wins,
    as in :func:`predictions`.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    right = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    found: Labels = ((logits > right) | ((logits == right) & earlier)).sum(axis=1)
    return found


def text_ranks(logits: NDArray[Any], labels: NDArray[Any]) -> Labels:
    """(N, C), (N,) -> (T,): for each of the T candidates with an image, in their order, how many images of others are
    preferred to the best of its own. Of equals the first image wins.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    columns = np.unique(labels)
    scores = logits[:, columns]
    own = np.where(labels[:, None] == columns, scores, -np.inf)
    best, first = own.max(axis=0), own.argmax(axis=0)
    earlier = np.arange(len(labels))[:, None] < first
    found: Labels = ((scores > best) | ((scores == best) & earlier)).sum(axis=0)
    return found


def top_k(logits: NDArray[Any], labels: NDArray[Any], k: int) -> float:
    """Share of items (N, C) whose right class (N,) is among the ``k`` best; of a dual encoder image-to-text recall."""
    return float(np.mean(ranks(logits, labels) < k))


def recalls(logits: NDArray[Any], labels: NDArray[Any], ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Recall of a dual encoder in both directions, by name: ``image_to_text_recall_at_1`` …, of logits (N, C).

    Image to text: share of images whose own candidate is among the k best. Text to image: share of the candidates with
    images that find one of them among their k best.
    """
    sides = {"image_to_text": ranks(logits, labels), "text_to_image": text_ranks(logits, labels)}
    return {f"{side}_recall_at_{k}": float(np.mean(found < k)) for side, found in sides.items() for k in ks}


def candidates(text_embeddings: NDArray[Any], candidate: NDArray[Any]) -> Floats:
    """(P, E) of all prompts, (P,) whose each one is -> (C, E), of length 1: the mean of the normalised prompts,
    normalised again ("Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020).

    Raises:
        ModelPressError: a candidate below the largest one has no prompt.
    """
    candidate = np.asarray(candidate)
    counts = np.bincount(candidate)
    if not counts.all():
        missing = np.flatnonzero(counts == 0)
        raise ModelPressError(f"{len(missing)} of {len(counts)} candidates have no text, the first is {missing[0]}.")
    sums = np.zeros((len(counts), np.shape(text_embeddings)[1]))
    np.add.at(sums, candidate, _normalised(text_embeddings))
    return _normalised(sums)


def combine(image_embeddings: NDArray[Any], text_embeddings: NDArray[Any], candidate: NDArray[Any]) -> Floats:
    """(N, E), (P, E), (P,) -> (N, C): cosine of every image with every candidate (:func:`candidates`).

    They are logits but for the network's scale, which changes no ranking.
    """
    found: Floats = _normalised(image_embeddings) @ candidates(text_embeddings, candidate).T
    return found


def _normalised(rows: NDArray[Any]) -> Floats:
    wide = np.asarray(rows, dtype=np.float64)
    found: Floats = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return found


def accuracy(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of equal entries of two (N,) arrays; also the agreement of two networks."""
    return float(np.mean(np.asarray(predicted) == np.asarray(labels)))


def macro_f1(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    """Unweighted mean of F1 = 2 TP / (2 TP + FP + FN) over the classes that occur in either (N,) array."""
    scores = []
    for label in np.union1d(predicted, labels):
        hit = np.sum((predicted == label) & (labels == label))
        scores.append(2 * hit / (np.sum(predicted == label) + np.sum(labels == label)))
    return float(np.mean(scores))

from __future__ import annotations

import numpy as np
import pytest

from modelpress.errors import ModelPressError
from modelpress.report import quality


def test_macro_f1_by_hand() -> None:
    """A table done by hand: class 0 F1 = 2*2/(3+3), class 1 F1 = 2*1/(2+3), class 2 F1 = 2*1/(2+1)."""
    labels = np.array([0, 0, 0, 1, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 0, 2, 2])
    assert quality.macro_f1(predicted, labels) == pytest.approx((4 / 6 + 2 / 5 + 2 / 3) / 3)


def test_macro_f1_from_precision_and_recall() -> None:
    """The other definition: the harmonic mean of precision and recall of a confusion matrix, class by class."""
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 4, 300), generator.integers(0, 4, 300)
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (labels, predicted), 1)
    precision, recall = np.diag(confusion) / confusion.sum(axis=0), np.diag(confusion) / confusion.sum(axis=1)
    expected = np.mean(2 / (1 / precision + 1 / recall))
    assert quality.macro_f1(predicted, labels) == pytest.approx(expected)


def test_accuracy_and_predictions() -> None:
    logits = np.array([[0.1, 2.0], [3.0, -1.0], [0.0, 0.5], [1.0, 0.0]])
    labels = np.array([1, 0, 0, 1])
    assert quality.predictions(logits).tolist() == [1, 0, 1, 0]
    assert quality.correct(logits, labels).tolist() == [True, True, False, False]
    assert quality.accuracy(quality.predictions(logits), labels) == 0.5


def retrieval(ties: bool) -> tuple[np.ndarray, np.ndarray]:
    """40 images of 12 candidates, of which the last has none."""
    generator = np.random.default_rng(1)
    logits, labels = generator.normal(size=(40, 12)), generator.integers(0, 11, 40)
    logits[np.arange(40), labels] += 1.0
    return (np.round(logits) if ties else logits), labels


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_in_both_directions_by_sorting(k: int, ties: bool) -> None:
    logits, labels = retrieval(ties)
    found = quality.recalls(logits, labels)
    hits = [labels[i] in sorted(range(12), key=lambda c: (-logits[i, c], c))[:k] for i in range(40)]
    answered = []
    for candidate in sorted(set(labels.tolist())):
        best = sorted(range(40), key=lambda i: (-logits[i, candidate], i))[:k]
        answered.append(any(labels[i] == candidate for i in best))
    assert found[f"image_to_text_recall_at_{k}"] == quality.top_k(logits, labels, k) == pytest.approx(np.mean(hits))
    assert found[f"text_to_image_recall_at_{k}"] == pytest.approx(np.mean(answered))
    assert len(quality.text_ranks(logits, labels)) == len(answered) <= 11


@pytest.mark.parametrize("ties", [False, True])
def test_top_1_is_accuracy(ties: bool) -> None:
    logits, labels = retrieval(ties)
    assert ((quality.ranks(logits, labels) == 0) == quality.correct(logits, labels)).all()
    assert quality.top_k(logits, labels, 12) == 1.0


def test_candidates_are_means_of_unit_vectors_of_length_1() -> None:
    generator = np.random.default_rng(2)
    images, texts = generator.normal(size=(6, 5)), generator.normal(size=(9, 5)).astype(np.float32)
    owner = np.array([2, 0, 1, 1, 2, 2, 0, 3, 1])
    logits = quality.combine(images, texts, owner)
    assert logits.shape == (6, 4)
    for image, row in zip(images, logits, strict=True):
        for candidate, found in enumerate(row):
            own = [
                text / np.sqrt(sum(text**2))
                for text, c in zip(texts.astype(float), owner, strict=True)
                if c == candidate
            ]
            mean = sum(own) / len(own)
            cosine = sum(image * mean) / np.sqrt(sum(image**2) * sum(mean**2))
            assert found == pytest.approx(cosine, rel=1e-6)
    np.testing.assert_allclose(np.linalg.norm(quality.candidates(texts, owner), axis=1), 1.0)


def test_a_candidate_without_text_is_named() -> None:
    with pytest.raises(ModelPressError, match="1 of 3 candidates have no text, the first is 1"):
        quality.combine(np.ones((1, 2)), np.ones((2, 2)), np.array([0, 2]))

from __future__ import annotations

import numpy as np
import pytest

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

"""Constructed predictions in which exactly the named failure is present."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modelpress.diagnostics import (
    Predictions,
    conflict,
    copied_mistakes,
    diagnose,
    normalized_entropy,
    teacher_worse,
    underfitting,
)
from modelpress.errors import ModelPressError

N = 200


def scores(answers: np.ndarray, confidence: float = 6.0) -> np.ndarray:
    return confidence * np.eye(2)[answers]


def predictions(student_wrong: range, teacher_wrong: range, confidence: float = 6.0) -> Predictions:
    """``N`` items; the ranges say which are answered wrongly."""
    labels = np.arange(N) % 2

    def answers(wrong: range) -> np.ndarray:
        return np.where(np.isin(np.arange(N), wrong), 1 - labels, labels)

    return Predictions(labels, scores(answers(student_wrong)), scores(answers(teacher_wrong), confidence))


HEALTHY = predictions(range(10, 46), range(0, 40))


def test_a_healthy_run_triggers_nothing() -> None:
    train = predictions(range(0, 10), range(0, 6))
    found = diagnose(train, HEALTHY)
    assert [each["name"] for each in found] == ["teacher_worse", "underfitting", "copied_mistakes", "conflict"]
    assert not any(each["triggered"] for each in found)
    for each in found:
        assert each["meaning"]
        assert each["advice"]


def test_underfitting_is_disagreement_on_train() -> None:
    found = underfitting(predictions(range(0, 50), range(20, 30)))
    assert found["value"] == pytest.approx(1 - 40 / N)
    assert found["triggered"]
    assert found["details"] == {"student_accuracy": 0.75, "teacher_accuracy": 0.95}
    assert not underfitting(predictions(range(0, 50), range(0, 50)))["triggered"]


def test_copied_mistakes_is_agreement_where_the_teacher_is_wrong() -> None:
    found = copied_mistakes(predictions(range(0, 38), range(0, 40)))
    assert (found["value"], found["triggered"]) == (pytest.approx(38 / 40), True)
    assert "95.0% of the teacher's 40 wrong answers" in found["meaning"]
    healthy = copied_mistakes(HEALTHY)
    assert (healthy["value"], healthy["triggered"]) == (pytest.approx(30 / 40), False)


def test_two_wrong_answers_of_different_kind_are_no_copy() -> None:
    labels = np.zeros(60, dtype=np.int64)
    found = copied_mistakes(Predictions(labels, np.eye(3)[np.full(60, 1)], np.eye(3)[np.full(60, 2)]))
    assert (found["value"], found["triggered"]) == (0.0, False)


def test_too_few_mistakes_say_nothing() -> None:
    found = copied_mistakes(predictions(range(0, 29), range(0, 29)))
    assert (found["value"], found["triggered"]) == (None, False)
    assert "only 29 mistakes" in found["meaning"]


def test_teacher_worse_needs_more_than_chance() -> None:
    found = teacher_worse(predictions(range(0, 10), range(0, 40)))
    assert found["value"] == pytest.approx(30 / N)
    assert found["triggered"]
    # by hand: 30 items only the student answers rightly, none only the teacher
    assert found["threshold"] == pytest.approx(1.645 * math.sqrt(30 - 30**2 / N) / N)
    close = teacher_worse(predictions(range(0, 38), range(2, 42)))
    assert close["value"] == pytest.approx(2 / N)
    assert not close["triggered"]
    assert not teacher_worse(predictions(range(0, 40), range(0, 10)))["triggered"]
    assert not teacher_worse(predictions(range(0, 9), range(0, 9)))["triggered"]


def test_conflict_is_a_flat_teacher_against_the_label() -> None:
    found = conflict(predictions(range(0), range(0, 40), confidence=0.2))
    assert (found["value"], found["triggered"]) == (pytest.approx(0.2), True)
    assert found["details"]["flat"] == 1.0
    assert found["details"]["disagreement"] == pytest.approx(0.2)
    sharp = conflict(predictions(range(0), range(0, 40), confidence=6.0))
    assert (sharp["value"], sharp["triggered"]) == (0.0, False)


def test_normalized_entropy_against_the_definition() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 5))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(normalized_entropy(logits), -(p * np.log(p)).sum(axis=1) / np.log(5))
    np.testing.assert_allclose(normalized_entropy(np.array([[0.0, 0.0], [900.0, -900.0]])), [1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("labels", "student", "teacher"),
    [
        ((3,), (3, 2), (3, 3)),
        ((2,), (3, 2), (3, 2)),
        ((0,), (0, 2), (0, 2)),
        ((3,), (3,), (3,)),
        ((3,), (3, 1), (3, 1)),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(labels, student, teacher) -> None:
    with pytest.raises(ModelPressError, match="have shapes"):
        Predictions(np.zeros(labels, dtype=np.int64), np.zeros(student), np.zeros(teacher))

"""Named failures of distillation, read off predictions. Pure NumPy: no torch here.

Shapes: n items, C classes. Thresholds are rules of thumb, printed beside the values that they judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from modelpress.errors import ModelPressError

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]

MIN_TRAIN_AGREEMENT = 0.9
MAX_COPIED_MISTAKES = 0.8
MIN_MISTAKES = 30  # fewer mistakes of the teacher say nothing
ONE_SIDED_95 = 1.645
FLAT_ENTROPY = 0.8  # of log C; with two classes: no probability above 0.76
MAX_CONFLICT = 0.1


class Diagnostic(TypedDict):
    """One named failure: its measured value, from where on it counts, what it means and what to try."""

    name: str
    value: float | None  # None: too few items to tell
    threshold: float
    triggered: bool
    meaning: str
    advice: str
    details: dict[str, float]


@dataclass(frozen=True)
class Predictions:
    """Class scores (n, C) of student and teacher on the same items, columns in the same order, and labels (n,).

    Raises:
        ModelPressError: the arrays do not belong together, or there are no items.
    """

    labels: Integers
    student: Floats  # logits
    teacher: Floats  # logits

    def __post_init__(self) -> None:
        shapes = {"labels": self.labels.shape, "student": self.student.shape, "teacher": self.teacher.shape}
        if self.labels.ndim != 1 or self.student.ndim != 2 or not self.labels.size or self.student.shape[1] < 2:
            raise ModelPressError(
                f"Predictions have shapes {shapes}; expected labels (n,) and scores (n, C), n > 0, C > 1."
            )
        if self.student.shape != self.teacher.shape or len(self.student) != len(self.labels):
            raise ModelPressError(f"Predictions have shapes {shapes}; all must be of the same items and classes.")


def diagnose(train: Predictions, validation: Predictions) -> list[Diagnostic]:
    """All diagnostics, triggered or not, in the order in which to mend them."""
    return [
        teacher_worse(validation),
        underfitting(train),
        copied_mistakes(validation),
        conflict(train),
    ]


def underfitting(train: Predictions) -> Diagnostic:
    """Whether student and teacher still disagree on what the student was trained on."""
    value = float(np.mean(_answers(train.student) == _answers(train.teacher)))
    return Diagnostic(
        name="underfitting",
        value=value,
        threshold=MIN_TRAIN_AGREEMENT,
        triggered=value < MIN_TRAIN_AGREEMENT,
        meaning=f"On the training split the student gives the teacher's answer for {value:.1%} of the items.",
        advice="Train longer (trainer.max_epochs), raise optimizer.lr or weights.soft, or take a larger student.",
        details={
            "student_accuracy": _accuracy(train, train.student),
            "teacher_accuracy": _accuracy(train, train.teacher),
        },
    )


def copied_mistakes(validation: Predictions) -> Diagnostic:
    """How often the student repeats the teacher's answer where that answer is wrong."""
    student, teacher = _answers(validation.student), _answers(validation.teacher)
    wrong = teacher != validation.labels
    mistakes = int(wrong.sum())
    value = float(np.mean(student[wrong] == teacher[wrong])) if mistakes >= MIN_MISTAKES else None
    few = f"The teacher makes only {mistakes} mistakes on the validation split: too few to tell."
    return Diagnostic(
        name="copied_mistakes",
        value=value,
        threshold=MAX_COPIED_MISTAKES,
        triggered=value is not None and value > MAX_COPIED_MISTAKES,
        meaning=few if value is None else f"The student repeats {value:.1%} of the teacher's {mistakes} wrong answers.",
        advice="Raise weights.hard against weights.soft, or use a better teacher.",
        details={"teacher_mistakes": float(mistakes)},
    )


def teacher_worse(validation: Predictions) -> Diagnostic:
    """Whether the student is better than its teacher by more than chance.

    Paired on the same items: b items only the student gets right, c only the teacher;
    difference (b - c) / n, standard error sqrt(b + c - (b - c)^2 / n) / n, one-sided 95 %.
    """
    student = _answers(validation.student) == validation.labels
    teacher = _answers(validation.teacher) == validation.labels
    n, only_student, only_teacher = len(student), int((student & ~teacher).sum()), int((teacher & ~student).sum())
    value = (only_student - only_teacher) / n
    variance = max(0.0, only_student + only_teacher - n * value**2)
    threshold = ONE_SIDED_95 * float(np.sqrt(variance)) / n
    return Diagnostic(
        name="teacher_worse",
        value=value,
        threshold=threshold,
        triggered=value > threshold,
        meaning=f"On the validation split the student's accuracy minus the teacher's is {100 * value:+.1f} points "
        f"(more than {100 * threshold:.1f} is not chance).",
        advice="Train the teacher for this dataset first (teacher.trained=false), or choose a better one.",
        details={"student_accuracy": float(student.mean()), "teacher_accuracy": float(teacher.mean())},
    )


def conflict(train: Predictions) -> Diagnostic:
    """How often a flat teacher disagrees with the label, so that the soft and hard parts pull apart."""
    entropy = normalized_entropy(train.teacher)
    flat, disagrees = entropy >= FLAT_ENTROPY, _answers(train.teacher) != train.labels
    value = float(np.mean(flat & disagrees))
    return Diagnostic(
        name="conflict",
        value=value,
        threshold=MAX_CONFLICT,
        triggered=value > MAX_CONFLICT,
        meaning=f"For {value:.1%} of the training items the teacher is undecided and leans against the label.",
        advice="Lower temperature, lower weights.soft or weights.hard so that one of them leads, or check the labels.",
        details={
            "entropy": float(entropy.mean()),
            "flat": float(flat.mean()),
            "disagreement": float(disagrees.mean()),
        },
    )


def normalized_entropy(logits: Floats) -> Floats:
    """Entropy of softmax(logits), (n, C) -> (n,), divided by log C: 0 for a certain answer, 1 for a uniform one."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(shifted).sum(axis=1))
    mean_shift = (np.exp(shifted) * shifted).sum(axis=1) / np.exp(log_total)
    return np.asarray((log_total - mean_shift) / np.log(logits.shape[1]))


def _answers(scores: Floats) -> Integers:
    return np.asarray(scores.argmax(axis=1))


def _accuracy(predictions: Predictions, scores: Floats) -> float:
    return float(np.mean(_answers(scores) == predictions.labels))

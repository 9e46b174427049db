"""Every loss against NumPy in float64 written from its formula, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelpress.errors import ModelPressError
from modelpress.objectives import contrastive, functional

Matrix = NDArray[np.float64]
GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.tensor([3, 0, 3, 7, 0, 3])
SIZE, WIDTH = len(LABELS), 5
SCALE = torch.tensor(9.0)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR)


def unit(size: int = SIZE, width: int = WIDTH) -> Tensor:
    return torch.nn.functional.normalize(random(size, width), dim=-1)


def log_softmax(row: Matrix) -> Matrix:
    return np.asarray(row - np.log(np.sum(np.exp(row))))


def cross_entropy(logits: Matrix, labels: list[int], smoothing: float = 0.0) -> float:
    """Mean over rows of -sum target log p, the target shared by the columns whose label is the row's."""
    total = 0.0
    for row, label in enumerate(labels):
        log_p, answers = log_softmax(logits[row]), [column for column, other in enumerate(labels) if other == label]
        hit = np.mean([log_p[column] for column in answers])
        total -= (1 - smoothing) * hit + smoothing * np.mean(log_p)
    return total / len(labels)


def kl(p: Matrix, q: Matrix) -> float:
    """Mean over rows of KL(softmax(p) || softmax(q))."""
    rows = zip(p, q, strict=True)
    terms = [np.sum(np.exp(log_softmax(a)) * (log_softmax(a) - log_softmax(b))) for a, b in rows]
    return float(np.mean(terms))


def test_similarities_are_scaled_inner_products() -> None:
    image, text = random(3, 4), random(2, 4)
    found = contrastive.similarities(image, text, SCALE)
    expected = [[9.0 * sum(a * b for a, b in zip(i, t, strict=True)) for t in text.tolist()] for i in image.tolist()]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_similarities_are_float32_under_autocast() -> None:
    image, text = unit(), unit()
    exact = contrastive.similarities(image, text, SCALE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contrastive.similarities(image, text, SCALE)
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("labels", [LABELS, torch.arange(SIZE)])
def test_info_nce_is_cross_entropy_of_both_directions(labels: Tensor, smoothing: float) -> None:
    logits = 3 * random(SIZE, SIZE)
    matrix = logits.double().numpy()
    both = [cross_entropy(side, labels.tolist(), smoothing) for side in (matrix, matrix.T)]
    found = contrastive.info_nce(logits, labels, smoothing)
    assert found.item() == pytest.approx(np.mean(both), rel=1e-5)


def test_info_nce_without_shared_candidates_is_clips_loss() -> None:
    logits = 3 * random(SIZE, SIZE)
    diagonal = torch.arange(SIZE)
    cross = torch.nn.functional.cross_entropy
    expected = (cross(logits, diagonal) + cross(logits.t(), diagonal)) / 2
    torch.testing.assert_close(contrastive.info_nce(logits, torch.tensor([9, 4, 2, 7, 5, 0])), expected)


def test_info_nce_pulls_pairs_of_one_candidate_together() -> None:
    """By finite differences: the loss falls where an image comes closer to another text of its own candidate."""
    logits = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    gradient = torch.zeros(SIZE, SIZE)
    for row in range(SIZE):
        for column in range(SIZE):
            step = torch.zeros_like(logits)
            step[row, column] = 1e-2
            up, down = (contrastive.info_nce(logits + sign * step, LABELS).double() for sign in (1, -1))
            gradient[row, column] = (up - down) / 2e-2
    same = LABELS[:, None] == LABELS[None, :]
    assert (gradient[same] < 0).all()
    assert (gradient[~same] > 0).all()
    exact = logits.float().requires_grad_()
    contrastive.info_nce(exact, LABELS).backward()
    assert exact.grad is not None
    torch.testing.assert_close(exact.grad, gradient, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_similarities_are_kl_over_rows_and_columns(temperature: float) -> None:
    student, teacher = 3 * random(SIZE, SIZE), 3 * random(SIZE, SIZE)
    s, t = (each.double().numpy() / temperature for each in (student, teacher))
    expected = temperature**2 * (kl(t, s) + kl(t.T, s.T)) / 2
    found = contrastive.soft_similarities(student, teacher, temperature)
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert contrastive.soft_similarities(teacher, teacher, temperature).item() == pytest.approx(0, abs=1e-5)


def test_affinity_is_the_cross_entropy_of_distributions() -> None:
    student, teacher = 3 * random(SIZE, SIZE), 3 * random(SIZE, SIZE)
    s, t = student.double().numpy(), teacher.double().numpy()
    sides = ((s, t), (s.T, t.T))
    terms = [-np.exp(log_softmax(b)) @ log_softmax(a) for x, y in sides for a, b in zip(x, y, strict=True)]
    assert contrastive.affinity(student, teacher).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_affinity_teaches_what_soft_similarities_at_temperature_1_do() -> None:
    teacher, gradients = 3 * random(SIZE, SIZE), []
    start = random(SIZE, SIZE)
    for loss in (contrastive.affinity, lambda s, t: contrastive.soft_similarities(s, t, 1.0)):
        student = start.clone().requires_grad_()
        loss(student, teacher).backward()
        gradients.append(student.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_interactive_crosses_the_networks(smoothing: float) -> None:
    student, teacher = (unit(), unit()), (unit(), unit())
    (si, st), (ti, tt) = ([e.double().numpy() for e in pair] for pair in (student, teacher))
    expected = [cross_entropy(9.0 * x @ y.T, LABELS.tolist(), smoothing) for x, y in ((si, tt), (st, ti))]
    found = contrastive.interactive(student, teacher, SCALE, LABELS, smoothing)
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_features_are_compared_row_by_row() -> None:
    student, teacher = random(SIZE, WIDTH), unit()
    s, t = student.double().numpy(), teacher.double().numpy()
    squares = [np.sum((a - b) ** 2) for a, b in zip(s, t, strict=True)]
    cosines = [1 - a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(s, t, strict=True)]
    assert contrastive.feature_distance(student, teacher).item() == pytest.approx(np.mean(squares), rel=1e-5)
    assert contrastive.feature_cosine(student, teacher).item() == pytest.approx(np.mean(cosines), rel=1e-5)


def test_of_unit_vectors_the_distance_is_twice_the_cosine() -> None:
    student, teacher = unit(), unit()
    found = contrastive.feature_distance(student, teacher)
    torch.testing.assert_close(found, 2 * contrastive.feature_cosine(student, teacher))
    torch.testing.assert_close(functional.cosine_distance(student[:, None], teacher[:, None], torch.ones(SIZE, 1)),
                               contrastive.feature_cosine(student, teacher))  # fmt: skip


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ModelPressError, match="image embeddings have width 4, text embeddings 3"):
        contrastive.similarities(random(2, 4), random(2, 3), SCALE)
    for loss in (contrastive.affinity, lambda s, t: contrastive.soft_similarities(s, t, 1.0)):
        with pytest.raises(ModelPressError, match=r"shape \(2, 2\), the teacher's \(3, 3\); both must read the same"):
            loss(random(2, 2), random(3, 3))
    for loss in (contrastive.feature_distance, contrastive.feature_cosine):
        with pytest.raises(ModelPressError, match=r"shape \(2, 4\), the teacher's \(2, 6\)"):
            loss(random(2, 4), random(2, 6))

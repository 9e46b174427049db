"""Every loss against NumPy written from its formula, and padding without influence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelpress.errors import ModelPressError
from modelpress.objectives import functional

GENERATOR = torch.Generator().manual_seed(0)
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])


def log_softmax(x: np.ndarray) -> np.ndarray:
    return np.log(np.exp(x) / np.exp(x).sum(axis=1, keepdims=True))


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_targets_are_kl_times_temperature_squared(temperature: float) -> None:
    student, teacher = random(6, 3), random(6, 3)
    log_q, log_p = (log_softmax(x.double().numpy() / temperature) for x in (student, teacher))
    expected = temperature**2 * np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=1))
    assert functional.soft_targets(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-5)


def test_soft_targets_are_zero_for_equal_logits_and_keep_the_size_of_gradients() -> None:
    teacher = random(8, 4)
    assert functional.soft_targets(teacher, teacher, 3.0).item() == pytest.approx(0, abs=1e-6)
    sizes = []
    for temperature in (20.0, 40.0):
        student = torch.zeros(8, 4, requires_grad=True)
        functional.soft_targets(student, teacher, temperature).backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_targets_are_cross_entropy_with_smoothing(smoothing: float) -> None:
    logits, labels = random(5, 3), torch.tensor([0, 2, 1, 1, 0])
    target = np.full((5, 3), smoothing / 3) + (1 - smoothing) * np.eye(3)[labels.numpy()]
    expected = -np.mean(np.sum(target * log_softmax(logits.double().numpy()), axis=1))
    assert functional.hard_targets(logits, labels, smoothing).item() == pytest.approx(expected, rel=1e-5)


def test_hidden_states_are_the_mean_square_over_real_tokens() -> None:
    student, teacher = random(3, 5, 4), random(3, 5, 4)
    squares = [
        (student[b, s, d].item() - teacher[b, s, d].item()) ** 2
        for b in range(3) for s in range(5) for d in range(4) if MASK[b, s]
    ]  # fmt: skip
    assert len(squares) == 9 * 4
    assert functional.hidden_states(student, teacher, MASK).item() == pytest.approx(np.mean(squares), rel=1e-5)


def test_cosine_distance_is_the_mean_over_real_tokens() -> None:
    student, teacher = random(3, 5, 4), random(3, 5, 4)
    distances = []
    for b, s in np.argwhere(MASK.numpy()):
        x, y = student[b, s].double().numpy(), teacher[b, s].double().numpy()
        distances.append(1 - x @ y / np.sqrt((x @ x) * (y @ y)))
    assert functional.cosine_distance(student, teacher, MASK).item() == pytest.approx(np.mean(distances), rel=1e-5)


@pytest.mark.parametrize("teacher_heads", [2, 6])
def test_attention_scores_average_groups_of_teacher_heads(teacher_heads: int) -> None:
    student, teacher = random(3, 2, 5, 5), random(3, teacher_heads, 5, 5)
    group, squares = teacher_heads // 2, []
    for b in range(3):
        real = MASK[b].bool().numpy()
        for head in range(2):
            wanted = teacher[b].double().numpy()[head * group : (head + 1) * group].mean(axis=0)
            difference = student[b, head].double().numpy() - wanted
            squares += list((difference[np.ix_(real, real)] ** 2).ravel())
    assert len(squares) == 2 * (9 + 25 + 1)
    assert functional.attention_scores(student, teacher, MASK).item() == pytest.approx(np.mean(squares), rel=1e-5)


def test_heads_that_do_not_divide_are_refused_with_both_numbers() -> None:
    with pytest.raises(ModelPressError, match=r"12 heads, the student 10.*weights\.attention=0"):
        functional.attention_scores(random(1, 10, 2, 2), random(1, 12, 2, 2), torch.ones(1, 2))


STATES = [functional.hidden_states, functional.cosine_distance]


@pytest.mark.parametrize("junk", [1e6, float("inf"), float("nan"), 0.0])
@pytest.mark.parametrize("loss", STATES)
def test_padded_states_change_neither_loss_nor_gradient(loss, junk: float) -> None:
    student, teacher = random(3, 5, 4), random(3, 5, 4)
    results = []
    for value in (0.5, junk):
        padding = ~MASK.bool()[:, :, None]
        learned = student.masked_fill(padding, value).requires_grad_()
        total = loss(learned, teacher.masked_fill(padding, -value), MASK)
        total.backward()
        results.append((total.detach(), learned.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not results[0][1][~MASK.bool()].any()
    assert results[0][1][MASK.bool()].all()


@pytest.mark.parametrize("junk", [1e6, float("-inf"), float("nan")])
def test_padded_scores_change_neither_loss_nor_gradient(junk: float) -> None:
    pairs = (MASK[:, None, :, None] * MASK[:, None, None, :]).bool()
    student, teacher = random(3, 2, 5, 5), random(3, 4, 5, 5)
    results = []
    for value in (0.5, junk):
        learned = student.masked_fill(~pairs, value).requires_grad_()
        total = functional.attention_scores(learned, teacher.masked_fill(~pairs, value), MASK)
        total.backward()
        results.append((total.detach(), learned.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert torch.equal(results[0][1] != 0, pairs.expand_as(student))


def test_more_padding_changes_nothing() -> None:
    states, scores = (random(3, 5, 4), random(3, 5, 4)), (random(3, 2, 5, 5), random(3, 2, 5, 5))
    longer = torch.nn.functional.pad(MASK, (0, 3))
    wide = [torch.nn.functional.pad(x, (0, 0, 0, 3), value=9.0) for x in states]
    square = [torch.nn.functional.pad(x, (0, 3, 0, 3), value=9.0) for x in scores]
    for loss in STATES:
        torch.testing.assert_close(loss(*wide, longer), loss(*states, MASK))
    torch.testing.assert_close(functional.attention_scores(*square, longer), functional.attention_scores(*scores, MASK))


def test_losses_are_float32_for_bf16_inputs() -> None:
    states, logits = random(2, 3, 4).bfloat16(), random(2, 3).bfloat16()
    scores, mask = random(2, 2, 3, 3).bfloat16(), torch.ones(2, 3)
    losses = [
        functional.hidden_states(states, states * 1.5, mask),
        functional.cosine_distance(states, -states, mask),
        functional.attention_scores(scores, scores * 1.5, mask),
        functional.soft_targets(logits, -logits, 2.0),
        functional.hard_targets(logits, torch.tensor([0, 1])),
    ]
    assert [loss.dtype for loss in losses] == [torch.float32] * 5
    expected = (states.float() - (states * 1.5).float()).square().mean()
    torch.testing.assert_close(losses[0], expected)


def test_states_of_other_sizes_are_refused() -> None:
    with pytest.raises(ModelPressError, match=r"\(1, 2, 3\).*\(1, 2, 4\)"):
        functional.hidden_states(random(1, 2, 3), random(1, 2, 4), torch.ones(1, 2))

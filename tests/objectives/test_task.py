from __future__ import annotations

import pytest
import torch

from modelpress.errors import ModelPressError
from modelpress.models.base import Output
from modelpress.objectives.task import Task


def test_task_is_one_part_without_a_teacher() -> None:
    task = Task(label_smoothing=0.2)
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    losses = task(Output(logits=logits), {"labels": labels}, None, 0.0)
    assert losses.keys() == task.weights(0.0).keys() == {"hard"}
    assert (task.teacher, task.needs(0.5), task.teacher_layers()) == ("none", frozenset(), ())
    log_p = torch.log_softmax(logits, 1)
    expected = -(0.8 * log_p[torch.arange(4), labels] + 0.2 * log_p.mean(1)).mean()
    torch.testing.assert_close(losses["hard"], expected)
    assert not list(task.parameters())


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, "some", float("nan")])
def test_label_smoothing_is_checked(smoothing: float) -> None:
    with pytest.raises(ModelPressError, match="label_smoothing"):
        Task(label_smoothing=smoothing)


def test_a_model_without_logits_is_named() -> None:
    with pytest.raises(ModelPressError, match="no logits"):
        Task()(Output(), {"labels": torch.tensor([0])}, None, 0.0)

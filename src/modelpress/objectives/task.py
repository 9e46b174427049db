"""The plain task: no teacher. Fine-tuning, and the control arm of every other technique."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from modelpress.errors import ModelPressError
from modelpress.models.base import Batch, Output
from modelpress.objectives import contrastive, functional
from modelpress.objectives.base import Objective, Teacher
from modelpress.objectives.dual import pairwise
from modelpress.objectives.options import number


class Task(Objective):
    """The loss of the task itself, as one part named ``hard``; ``label_smoothing`` from 0 to below 1."""

    teacher: Teacher = "none"

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = number("label_smoothing", label_smoothing, at_least=0, below=1)

    def weights(self, progress: float) -> Mapping[str, float]:
        """One part, at full weight throughout."""
        return {"hard": 1.0}

    def forward(
        self, output: Output, batch: Batch, teacher_output: Output | None, progress: float
    ) -> dict[str, Tensor]:
        """``{"hard": loss}``, see :func:`task_loss`."""
        return {"hard": task_loss(output, batch["labels"], self.label_smoothing)}


def task_loss(output: Output, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean loss of a batch against ``labels`` (B,), the true answers.

    A classifier: cross-entropy with the class indices. A dual encoder: symmetric InfoNCE over the batch, where pairs of
    equal label are answers to each other (:func:`modelpress.objectives.contrastive.info_nce`).
    """
    if output.embeddings is not None:
        return contrastive.info_nce(pairwise(output), labels, label_smoothing)
    if output.logits is None:
        raise ModelPressError("The model returns no logits; objective task needs a classifier or a dual encoder.")
    return functional.hard_targets(output.logits, labels, label_smoothing)

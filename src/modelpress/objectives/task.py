"""The plain task: no teacher. Fine-tuning, and the control arm of every other technique."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from modelpress.errors import ModelPressError
from modelpress.models.base import Batch, Output
from modelpress.objectives import functional
from modelpress.objectives.base import Objective, Teacher
from modelpress.objectives.options import number


class Task(Objective):
    """Cross-entropy with the labels, as one part named ``hard``; ``label_smoothing`` from 0 to below 1."""

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
        """``{"hard": cross-entropy}``; ``batch["labels"]`` (B,) holds class indices."""
        if output.logits is None:
            raise ModelPressError("The model returns no logits; objective task needs a classifier.")
        return {"hard": functional.hard_targets(output.logits, batch["labels"], self.label_smoothing)}

"""The Objective contract: what a stage minimises, as named parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from modelpress.models.base import Batch, Model, Output

Teacher = Literal["external", "parent", "none"]


class Objective(nn.Module):
    """Named losses of one stage. ``total = sum(weight * loss)``; a part of weight 0 is never computed.

    ``teacher`` says who teaches: the run's ``teacher`` model, the stage's own parent, or nobody.
    Learned helpers (projections) are parameters of this module: they train, but never ship.
    """

    teacher: Teacher = "none"

    def needs(self, progress: float) -> frozenset[str]:
        """Extra outputs wanted from student and teacher now: ``hidden_states``, ``attentions``."""
        return frozenset()

    def teacher_layers(self) -> tuple[int, ...]:
        """Which of the teacher's hidden states are read (0: embeddings), ascending. Known after :meth:`bind`."""
        return ()

    def check(self, dual: bool) -> None:
        """Before anything trains: raise for what a student of this kind (``dual``: two towers) cannot learn."""

    def bind(self, student: Model, teacher: Model | None) -> None:
        """Called once before training: check compatibility, build projections and layer maps."""

    def terms(self, part: str, batch: Batch) -> Tensor:
        """Of how many terms the loss ``part`` is the mean: here items. Several devices weight theirs by it."""
        return torch.tensor(len(batch["labels"]), device=batch["labels"].device)

    def weights(self, progress: float) -> Mapping[str, float]:
        """Weight of each active part; ``progress`` runs from 0 to 1 over the stage."""
        raise NotImplementedError

    def forward(
        self, output: Output, batch: Batch, teacher_output: Output | None, progress: float
    ) -> dict[str, Tensor]:
        """Unweighted scalar losses by name, exactly the keys of :meth:`weights`."""
        raise NotImplementedError

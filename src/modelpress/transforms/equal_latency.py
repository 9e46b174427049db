"""The dense opponent of a structured result: the same parent, made just as fast by dropping whole layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from modelpress.errors import ModelPressError
from modelpress.pruning.latency import equal
from modelpress.pruning.shapes import Shape
from modelpress.pruning.sizing import Encoder
from modelpress.pruning.structure import classifier
from modelpress.transforms.base import Context
from modelpress.transforms.prune_structured import PruneStructured


class EqualLatency(PruneStructured):
    """What :class:`PruneStructured` does, with the size found by measuring: as slow as ``context.rival()``.

    Not chosen by users: a run adds this arm to a structured stage (``control: true``). It takes the arguments of the
    stage that it opposes, so that both are trained alike; ``remove`` differs, ``target`` and ``sparsity`` are not read.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "target": "parameters"})

    def check(self, model: nn.Module) -> None:
        """Nothing is asked for that could be out of reach: the nearest latency will do."""

    def _shape(self, model: Encoder, context: Context) -> Shape:
        if context.latency is None or context.rival is None:
            raise ModelPressError("An arm of equal latency needs a rival, and an engine to measure both on.")
        rival = classifier(context.rival())
        return equal(classifier(model), context.latency, rival, remove=self.remove, round_to=self.round_to)

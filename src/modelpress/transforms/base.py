"""The Transform contract: how a stage reshapes the network around its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn


class Transform:
    """Model in, model out. The default transform changes nothing (distillation, fine-tuning).

    ``kind`` is the name used by order rules; ``forbidden_after`` lists kinds that may not come
    before this one in a pipeline. ``config.check`` reads both before anything is built.
    """

    kind: ClassVar[str] = "identity"
    forbidden_after: ClassVar[tuple[str, ...]] = ()

    def prepare(self, model: nn.Module, example: Mapping[str, Tensor]) -> nn.Module:
        """Called before training, on the parent's weights."""
        return model

    def step(self, model: nn.Module, progress: float) -> None:
        """Called before every optimizer step; ``progress`` runs from 0 to 1."""

    def finalize(self, model: nn.Module) -> nn.Module:
        """Called after training on the best weights; what it returns is saved, tested and exported."""
        return model

    def coverage(self, model: nn.Module) -> Mapping[str, Any]:
        """What was touched: ``{"parameters": share in [0, 1], "excluded": [...]}``. Identity touches nothing."""
        return {}


class Identity(Transform):
    """Leave the structure as it is: the stage only trains."""

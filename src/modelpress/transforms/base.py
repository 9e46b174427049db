"""The Transform contract: how a stage reshapes the network around its training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from modelpress.models.base import Batch
from modelpress.report.record import Interval


@dataclass(frozen=True)
class Context:
    """What a transform may look at beside the model.

    ``calibration(samples, draw)``: that many items of the calibration split, in batches without padding; another
    ``draw`` takes other items. ``validation()``: the validation split, for choices that need the task's metric, to be
    gone through as often as one likes; a dual encoder's begins with the texts to choose from
    (:func:`modelpress.quantization.sensitivity.answers`).
    ``track(items, title)`` wraps a loop with a progress bar. ``latency(model)``: p50 of one request in ms with its 95 %
    interval, of a network pressed as it stands into the run's first engine; its shape matters, its weights do not.
    ``rival()``: the network whose latency this stage has to equal. No part of the test split is reachable from here.
    """

    example: Batch
    calibration: Callable[..., Sequence[Batch]]
    validation: Callable[[], Iterable[Batch]]
    track: Callable[[Iterable[Any], str], Iterable[Any]] = lambda items, title: items
    latency: Callable[[nn.Module], Interval] | None = None
    rival: Callable[[], nn.Module] | None = None


class Transform:
    """Model in, model out. The default transform changes nothing (distillation, fine-tuning).

    ``kind`` is the name used by order rules; ``forbidden_after`` lists kinds that may not come
    before this one in a pipeline. ``config.check`` reads both before anything is built. ``final_from`` is the share of
    the training from which the network has its final structure: no weights from before it are kept as the best ones.
    """

    kind: ClassVar[str] = "identity"
    forbidden_after: ClassVar[tuple[str, ...]] = ()
    final_from: float = 0.0

    def check(self, model: nn.Module) -> None:
        """Called before the run trains anything, with an untrained network like the one :meth:`prepare` will get.

        It may be changed, and is then thrown away. Raise :class:`ModelPressError` for what cannot work on it.
        """

    def reshaped(self, model: nn.Module) -> nn.Module | None:
        """A network as large and as fast as the one the stage ends with, from an untrained ``model`` as it begins with.

        Which units stay does not matter, nor do weights; ``model`` may be changed. ``None``: it cannot be known without
        training or measuring. A search asks before it trains (``modelpress.sweep.untrained``).
        """
        return None

    def prepare(self, model: nn.Module, context: Context) -> nn.Module:
        """Called before training, on the parent's weights, in evaluation mode."""
        return model

    def step(self, model: nn.Module, progress: float) -> None:
        """Called before every batch; ``progress``, the share of optimizer steps done, runs from 0 to below 1."""

    def gradients(self, model: nn.Module) -> None:
        """Called before every optimizer step, when the gradients are there and the weights still those they are of."""

    def metrics(self) -> Mapping[str, float]:
        """How far the reshaping is, logged beside the losses, e.g. ``{"sparsity": 0.4}``."""
        return {}

    def state(self) -> Mapping[str, Any]:
        """What a resumed training needs beside the weights: tensors and plain values, nested as you like."""
        return {}

    def restore(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`; called after :meth:`prepare` and before the checkpoint's weights are loaded."""

    def finalize(self, model: nn.Module) -> nn.Module:
        """Called after training on the best weights; what it returns is saved, tested and exported."""
        return model

    def coverage(self, model: nn.Module) -> Mapping[str, Any]:
        """What was touched: ``{"parameters": share in [0, 1], "excluded": [...]}``. Identity touches nothing."""
        return {}


class Identity(Transform):
    """Leave the structure as it is: the stage only trains."""

    # what was found safe in 16 bits was found on weights that training would change
    forbidden_after: ClassVar[tuple[str, ...]] = ("precision",)

    def reshaped(self, model: nn.Module) -> nn.Module:
        """As it is."""
        return model

"""From a float network to an INT8 one: look at calibration batches, choose ranges, balance, correct."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from modelpress.errors import ModelPressError
from modelpress.models.base import Batch, Model
from modelpress.quantization import balance, bias, observers
from modelpress.quantization.attach import quantizers_of, set_mode, twins_of

Track = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Recipe:
    """How ranges are found. ``balance``: SmoothQuant's α, ``search`` or ``None``. Raises for values not allowed."""

    calibrator: str = "minmax"
    options: dict[str, Any] = field(default_factory=dict)  # of the calibrator
    balance: float | str | None = "search"
    bias_correction: bool = True

    def __post_init__(self) -> None:
        self.observer("")
        if self.balance is not None:
            balance.alphas(self.balance)

    def observer(self, name: str) -> observers.Observer:
        """A new observer for the input called ``name``."""
        return observers.make(self.calibrator, **{**self.options, "name": name})


@torch.no_grad()
def calibrate(model: Model, batches: Sequence[Batch], recipe: Recipe, track: Track | None = None) -> dict[str, Any]:
    """Ranges for every quantizer of ``model``, from ``batches``; afterwards it computes in INT8.

    ``track`` wraps each pass over the batches with a progress bar. Returns what was decided, as JSON.
    """
    check(model, batches)
    watch: Track = track or (lambda items, title: items)
    model.eval()
    model.capture(frozenset())
    quantizers = quantizers_of(model)
    decided: dict[str, Any] = {"calibrator": recipe.calibrator, "balance": {}}
    if recipe.balance is not None:
        with balance.watching(twins_of(model)) as seen:
            run(model, watch(batches, "balancing"))
        decided["balance"] = balance.apply(twins_of(model), seen, recipe.balance)
    blind = {name: quantizer for name, quantizer in quantizers.items() if quantizer.needs_range}
    for name, quantizer in blind.items():
        quantizer.observer = recipe.observer(name)
    if blind:
        set_mode(model, "observe")
        run(model, watch(batches, "calibrating"))
    for quantizer in quantizers.values():
        quantizer.settle()
    for twin in twins_of(model).values():
        twin.refresh()
    set_mode(model, "int8")
    if recipe.bias_correction:
        bias.correct(model, watch(batches, "correcting biases"))
    return decided


def check(model: Model, batches: Sequence[Batch]) -> None:
    """Whether ``batches`` can be given to ``model`` at all, seen before anything runs."""
    if not batches:
        raise ModelPressError("Calibration got no batch: give it at least one sample.")
    for number, batch in enumerate(batches):
        for name, example in model.example().items():
            if name not in batch:
                raise ModelPressError(
                    f"Calibration batch {number} lacks the input {name!r} of {type(model).__name__}; it has "
                    f"{', '.join(map(repr, batch))}. Calibrate with data of the network's own task."
                )
            if batch[name].ndim != example.ndim:
                raise ModelPressError(
                    f"Calibration batch {number}: {name!r} has shape {tuple(batch[name].shape)}; "
                    f"{type(model).__name__} takes {example.ndim} axes, e.g. {tuple(example.shape)}."
                )


def run(model: Model, batches: Iterable[Batch]) -> None:
    """Forward passes for what the quantizers see."""
    for batch in batches:
        model(batch)

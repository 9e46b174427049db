"""Bias correction: what rounding shifts the mean of a layer's outputs by is added to its bias (arXiv:1906.04721)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from modelpress.models.base import Batch, Model
from modelpress.quantization.attach import set_mode, twins_of
from modelpress.quantization.layers import QuantizedLayer


class Shift:
    """Running mean over positions of float output minus INT8 output, both from the same float input: (channels,)."""

    def __init__(self, layer: QuantizedLayer) -> None:
        self.axis = 1 if isinstance(layer, nn.Conv2d) else -1
        self.total: Tensor | float = 0.0
        self.count = 0

    def add(self, difference: Tensor) -> None:
        rows = difference.movedim(self.axis, -1).flatten(0, -2)
        self.total = self.total + rows.double().sum(0)
        self.count += len(rows)

    @property
    def mean(self) -> Tensor:
        assert isinstance(self.total, Tensor)
        return (self.total / self.count).float()


@torch.no_grad()
def correct(model: Model, batches: Iterable[Batch]) -> None:
    """Give every layer what INT8 takes from the mean of its outputs, as a correction that holds in INT8 only.

    Each layer is judged on the float network's activations, so that one pass serves all layers and no shift is
    corrected twice. Layers without a bias keep theirs.
    """
    layers = {name: twin for name, twin in twins_of(model).items() if twin.plain_bias is not None}
    for layer in layers.values():
        layer.correction = None
    shifts = {name: Shift(layer) for name, layer in layers.items()}
    set_mode(model, "float")
    hooks = [layer.register_forward_hook(_comparing(shifts[name])) for name, layer in layers.items()]
    try:
        for batch in batches:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
        set_mode(model, "int8")
    _apply(layers, shifts)


def _comparing(shift: Shift) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, QuantizedLayer) and layer.inputs is not None
        layer.inputs.mode = "int8"
        shift.add(output - layer.forward(given[0]))
        layer.inputs.mode = "float"

    return hook


def _apply(layers: Mapping[str, QuantizedLayer], shifts: Mapping[str, Shift]) -> None:
    for name, layer in layers.items():
        if shifts[name].count:
            layer.correction = shifts[name].mean

"""A network that units were removed from, made again from its config: its shape is that of its saved weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def load_fitted(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load saved weights into a network that may have been larger when it was made. Raises as ``load_state_dict``."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.ModuleList):
            _drop_layers(module, f"{name}.", tensors)
    for name, module in network.named_modules():
        _resize(module, {key: tensors.get(f"{name}.{key}") for key in (*module._parameters, *module._buffers)})
    network.load_state_dict(dict(tensors))


def _drop_layers(layers: nn.ModuleList, prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Layers that stayed were numbered anew, so those that went are at the end."""
    while (
        len(layers)
        and layers[-1].state_dict()
        and not any(key.startswith(f"{prefix}{len(layers) - 1}.") for key in tensors)
    ):
        del layers[-1]


def _resize(module: nn.Module, saved: Mapping[str, Tensor | None]) -> None:
    changed = False
    for key, tensor in saved.items():
        own = getattr(module, key)
        if tensor is None or own is None or own.shape == tensor.shape:
            continue
        blank = own.new_zeros(tensor.shape)
        setattr(module, key, nn.Parameter(blank) if key in module._parameters else blank)
        changed = True
    if changed:
        _settle(module)


def _settle(module: Any) -> None:
    """Attributes say what the weights are."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv2d):
        depthwise = module.groups > 1
        module.out_channels = module.weight.shape[0]
        module.groups = module.out_channels if depthwise else 1
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        module.num_features = len(module.running_mean)  # type: ignore[arg-type]

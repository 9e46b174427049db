"""Batch normalisation folded into the layer before it, so that INT8 weights hold both and no engine computes it.

In evaluation ``BN(W x + b) = s (W x + b - mean) + beta`` with ``s = gamma / sqrt(var + eps)``, which is a layer itself:
weights ``s W``, bias ``s (b - mean) + beta`` ("Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", arXiv:1712.05877, section 3.2). QAT trains the folded weights; the statistics stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from modelpress.models.base import Model, Output

Norm = nn.BatchNorm1d | nn.BatchNorm2d
Layer = nn.Conv2d | nn.Linear
TOLERANCE = 1e-4  # of the largest output: above it something else reads the layer too


class Folded(nn.Module):
    """Stands where a batch normalisation was. ``owns_bias``: the layer had none of its own before."""

    layer: Layer
    norm: Norm

    def __init__(self, layer: Layer, norm: Norm, owns_bias: bool) -> None:
        super().__init__()
        object.__setattr__(self, "layer", layer)  # not submodules: nothing here is trained or saved
        object.__setattr__(self, "norm", norm)
        self.owns_bias = owns_bias

    def forward(self, x: Tensor) -> Tensor:
        return x


def fold(model: Model) -> list[tuple[str, str]]:
    """Fold every batch normalisation that alone reads a Conv2d's or Linear's output; names of both, pair by pair."""
    found = pairs(model)
    return [names for names in found if _folds(model, *names)]


@torch.no_grad()
def pairs(model: Model) -> list[tuple[str, str]]:
    """(layer, norm) where the norm reads the very tensor that the layer returns, in one forward pass."""
    norms = {name: module for name, module in model.named_modules() if _foldable(module)}
    if not norms:
        return []
    layers = {name: module for name, module in model.named_modules() if type(module) in (nn.Conv2d, nn.Linear)}
    wrote: dict[str, Tensor] = {}  # keeps the tensors alive, so that no two share an address
    read: dict[str, Tensor] = {}
    hooks = [layer.register_forward_hook(_keep(wrote, name, 1)) for name, layer in layers.items()]
    hooks += [norm.register_forward_hook(_keep(read, name, 0)) for name, norm in norms.items()]
    _answer(model)
    for hook in hooks:
        hook.remove()
    writers = {id(tensor): name for name, tensor in wrote.items()}
    return [(writers[id(tensor)], name) for name, tensor in read.items() if id(tensor) in writers]


def _foldable(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None


def _keep(into: dict[str, Tensor], name: str, result: int) -> Callable[..., None]:
    def note(_: nn.Module, given: tuple[Tensor, ...], returned: Tensor) -> None:
        into[name] = returned if result else given[0]

    return note


def _answer(model: Model) -> Tensor:
    """Everything the model returns for its example, as one vector; in evaluation mode."""
    was = model.training
    given: Output = model.eval()(model.example())
    model.train(was)
    found = [given.logits, *(given.embeddings or {}).values()]
    return torch.cat([tensor.detach().float().flatten() for tensor in found if tensor is not None])


@torch.no_grad()
def _folds(model: Model, layer_name: str, norm_name: str) -> bool:
    """Fold one pair; undone where the outputs change, because something else reads the layer."""
    layer, norm = model.get_submodule(layer_name), model.get_submodule(norm_name)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    before, weight, bias = _answer(model), layer.weight.detach().clone(), layer.bias
    fused_weight, fused_bias = _fused(layer, norm)
    layer.weight.copy_(fused_weight)
    layer.bias = nn.Parameter(fused_bias.detach().clone())
    model.set_submodule(norm_name, Folded(layer, norm, owns_bias=bias is None))
    if (_answer(model) - before).abs().max() <= TOLERANCE * before.abs().max().clamp_min(1):
        return True
    layer.weight.copy_(weight)
    layer.bias = bias
    model.set_submodule(norm_name, norm)
    return False


def _fused(layer: Layer, norm: Norm) -> tuple[Tensor, Tensor]:
    fuse: Any = fuse_conv_bn_weights if isinstance(layer, nn.Conv2d) else fuse_linear_bn_weights
    given = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    weight, bias = fuse(layer.weight, layer.bias, *given)
    return weight, bias


@torch.no_grad()
def refold(model: Model, names: Iterable[Iterable[str]]) -> None:
    """Take the shifts of a freshly loaded network's neutral norms (see :func:`unfolded`) back into the layers."""
    for layer_name, norm_name in names:
        layer, norm = model.get_submodule(layer_name), model.get_submodule(norm_name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        assert norm.running_mean is not None
        owns_bias = layer.bias is None
        if owns_bias:
            layer.bias = nn.Parameter(-norm.running_mean)
        model.set_submodule(norm_name, Folded(layer, norm, owns_bias))


@contextmanager
def unfolded(model: nn.Module) -> Iterator[None]:
    """Inside the block the network has its original modules: norms are there and do nothing but add the bias of a layer
    that had none.
    """
    folded = {name: module for name, module in model.named_modules() if isinstance(module, Folded)}
    biases = {name: module.layer.bias for name, module in folded.items()}
    try:
        for name, module in folded.items():
            _neutralise(module.norm, biases[name] if module.owns_bias else None)
            if module.owns_bias:
                module.layer.bias = None
            model.set_submodule(name, module.norm)
        yield
    finally:
        for name, module in folded.items():
            module.layer.bias = biases[name]
            model.set_submodule(name, module)


@torch.no_grad()
def _neutralise(norm: Norm, shift: Tensor | None) -> None:
    """``norm(x) = x + shift``: the mean takes the shift, because not every norm has a bias."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(torch.zeros_like(norm.running_mean) if shift is None else -shift)
    norm.running_var.fill_(1 - norm.eps)
    if norm.affine:
        norm.weight.fill_(1)
        norm.bias.zero_()

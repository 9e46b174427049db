"""Replace a network's layers by their quantized twins, and put the plain ones back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.models.attention import PRODUCTS
from modelpress.models.base import Model
from modelpress.patterns import check_patterns
from modelpress.quantization.batch_norm import unfolded
from modelpress.quantization.layers import TWINS, QuantizedEmbedding, QuantizedLayer
from modelpress.quantization.quantizers import DynamicQuantizer, FloatInput, InputQuantizer

OPERANDS = ("q", "k", "p", "v")  # of the two products of attention; p: after softmax
LEAST_COVERAGE = 0.95  # of the parameters in matrices


@dataclass(frozen=True)
class Scope:
    """What is quantized. ``exclude`` holds names or patterns (``*.attention.*``) of layers that stay float."""

    activations: str = "static"  # static | dynamic
    embeddings: bool = True
    attention: bool = False
    exclude: tuple[str, ...] = ()


PLAIN_SCOPE = Scope()


def attach(model: Model, scope: Scope) -> dict[str, QuantizedLayer]:
    """Twins by the name of the layer they replaced. Raises if nothing is left to quantize or an exclusion matches
    nothing.
    """
    chosen = candidates(model, scope)
    products = [owner for name, owner in _attentions(model, scope).items() if not _excluded(name, scope.exclude)]
    groups = shared_inputs(model, chosen)
    twins: dict[str, QuantizedLayer] = {}
    for members in groups:
        first = chosen[members[0]]
        inputs = None if isinstance(first, nn.Embedding) else _quantizer(scope, first, len(members))
        for reader, name in enumerate(members):
            twin = TWINS[type(chosen[name])]
            made = twin.__new__(twin)
            nn.Module.__init__(made)
            twins[name] = made.adopt(chosen[name], inputs, reader)
            _replace(model, chosen[name], made)
    device = next(model.parameters()).device
    for attention in products:
        attention.add_module(PRODUCTS, nn.ModuleDict({name: InputQuantizer() for name in OPERANDS}).to(device))
    return twins


def _quantizer(scope: Scope, layer: nn.Module, readers: int) -> InputQuantizer:
    convolution = isinstance(layer, nn.Conv2d)
    kind: type[InputQuantizer] = InputQuantizer
    if scope.activations == "dynamic":
        kind = FloatInput if convolution else DynamicQuantizer
    return kind(readers, axis=1 if convolution else -1).to(next(layer.parameters()).device)


def candidates(model: Model, scope: Scope) -> dict[str, nn.Module]:
    """The layers to quantize, by name."""
    known = {name: layer for name, layer in model.named_modules() if type(layer) in TWINS}
    layers = [name for name, layer in model.named_modules() if layer._parameters]
    check_patterns(scope.exclude, [*layers, *_attentions(model, scope)])
    patterns = (*scope.exclude, *model.sensitive())
    chosen = {
        name: layer
        for name, layer in known.items()
        if not _excluded(name, patterns) and (scope.embeddings or not isinstance(layer, nn.Embedding))
    }
    if not any(not isinstance(layer, nn.Embedding) for layer in chosen.values()):
        raise ModelPressError(
            f"{type(model).__name__} has no layer to quantize ({', '.join(sorted(t.__name__ for t in TWINS))} are "
            f"known, {len(known)} found, {len(known) - len(chosen)} excluded)."
        )
    return chosen


def _excluded(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _attentions(model: Model, scope: Scope) -> dict[str, nn.Module]:
    """Attention layers by the name of their two products, which are quantized together or not at all."""
    if not scope.attention:
        return {}
    owners = {id(layer) for layer in model.attention_layers()}
    return {f"{name}.{PRODUCTS}": layer for name, layer in model.named_modules() if id(layer) in owners}


@torch.no_grad()
def shared_inputs(model: Model, chosen: Mapping[str, nn.Module]) -> list[list[str]]:
    """Names grouped by the tensor they read in one forward pass; layers that are not reached stand alone.

    A Linear and a Conv2d that read one tensor do not share: they mean different axes by its channels.
    """
    read: dict[str, Tensor] = {}  # keeps the tensors alive, so that no two share an address

    def reads(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            read.setdefault(name, given[0])

        return note

    hooks = [
        layer.register_forward_pre_hook(reads(name))
        for name, layer in chosen.items()
        if not isinstance(layer, nn.Embedding)
    ]
    was = model.training
    try:
        model.eval()(model.example())
    finally:
        model.train(was)
        for hook in hooks:
            hook.remove()
    groups: dict[object, list[str]] = {}
    for name, layer in chosen.items():
        groups.setdefault((id(read[name]), type(layer)) if name in read else name, []).append(name)
    return list(groups.values())


def _replace(model: nn.Module, layer: nn.Module, other: nn.Module) -> None:
    """Put ``other`` wherever ``layer`` is: a module may have several names."""
    for module in model.modules():
        for name, child in module._modules.items():
            if child is layer:
                module._modules[name] = other


def twins_of(model: nn.Module) -> dict[str, QuantizedLayer]:
    """The quantized layers of a model, by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, QuantizedLayer)}


def float_layers(model: Model, scope: Scope = PLAIN_SCOPE) -> list[str]:
    """Layers (and products of attention, where ``scope`` has them) that could be quantized and are not, by name."""
    layers = [name for name, layer in model.named_modules() if type(layer) in TWINS]
    return layers + [name for name, owner in _attentions(model, scope).items() if PRODUCTS not in owner._modules]


def products_of(model: nn.Module) -> dict[str, nn.Module]:
    """The operands' quantizers of each attention layer whose products are quantized, by the products' name."""
    return {name: module for name, module in model.named_modules() if name.rpartition(".")[2] == PRODUCTS}


def quantizers_of(model: nn.Module) -> dict[str, InputQuantizer]:
    """Each input quantizer once, under the name of its first reader (or of the operand of an attention product)."""
    modules = model.named_modules()  # names a shared module once
    return {name.removesuffix(".inputs"): module for name, module in modules if isinstance(module, InputQuantizer)}


def set_mode(model: nn.Module, mode: str) -> None:
    """``float``, ``observe`` or ``int8`` for every quantized layer."""
    for module in model.modules():
        if isinstance(module, QuantizedEmbedding):
            module.active = mode == "int8"
        elif isinstance(module, InputQuantizer):
            module.mode = mode


def release(model: nn.Module, names: Iterable[str]) -> None:
    """Make these layers (and products of attention) plain float ones again, for good."""
    twins = twins_of(model)
    for name in names:
        if name in twins:
            _replace(model, twins[name], twins[name].original())
        else:
            del model.get_submodule(name.rpartition(".")[0])._modules[PRODUCTS]


@contextmanager
def plain(model: nn.Module) -> Iterator[nn.Module]:
    """The model with its original layers (the same parameters) inside the block; quantized again afterwards."""
    twins = list(twins_of(model).values())
    products = {module: module._modules[PRODUCTS] for module in model.modules() if PRODUCTS in module._modules}
    try:
        for twin in twins:
            _replace(model, twin, twin.original())
        for attention in products:
            del attention._modules[PRODUCTS]
        with unfolded(model):
            yield model
    finally:
        for twin in twins:
            _replace(model, twin.original(), twin)
        for attention, quantizers in products.items():
            attention.add_module(PRODUCTS, quantizers)


@contextmanager
def exporting(model: nn.Module) -> Iterator[None]:
    """Quantized layers appear as graph nodes on integer weights inside the block."""
    twins = list(twins_of(model).values())
    quantizers = list(quantizers_of(model).values())
    try:
        for twin in twins:
            twin.start_export()
        for quantizer in quantizers:
            quantizer.exporting = True
        yield
    finally:
        for quantizer in quantizers:
            quantizer.exporting = False
        for twin in twins:
            twin.end_export()


def coverage(model: nn.Module) -> float:
    """Share of the parameters in matrices (two axes or more) that lie in quantized layers."""
    matrices = {id(p): p.numel() for p in model.parameters() if p.ndim >= 2}
    covered = {id(twin.weight) for twin in twins_of(model).values()}
    return sum(n for key, n in matrices.items() if key in covered) / sum(matrices.values())


def escaped(model: nn.Module, exclude: Sequence[str]) -> tuple[float, list[str]]:
    """What nobody decided to leave in float: share of the parameters in matrices, and the modules that hold them.

    Layers of a known kind are quantized or left by name; of an unknown kind they escape unless ``exclude`` names them.
    """
    total, lost, names = 0, 0, []
    for name, module in model.named_modules():
        size = sum(p.numel() for p in module.parameters(recurse=False) if p.ndim >= 2)
        total += size
        known = isinstance(module, QuantizedLayer) or type(module) in TWINS
        if size and not known and not any(fnmatchcase(name, pattern) for pattern in exclude):
            lost += size
            names.append(f"{name} ({type(module).__name__})")
    return lost / total, names

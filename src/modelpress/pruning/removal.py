"""Which units stay, and the physical removal of the others: every weight that belongs to one, found by torch-pruning's
dependency graph ("DepGraph: Towards Any Structural Pruning", arXiv:2301.12900).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modelpress.errors import ModelPressError
from modelpress.models import layout
from modelpress.models.cut import READERS, Statistics, fold, prediction, stream, top
from modelpress.pruning.shapes import Shape


@dataclass(frozen=True)
class Scores:
    """How much every unit matters; the larger, the longer it stays. One entry a layer.

    ``statistics`` (see :mod:`modelpress.models.cut`): then what the removed units carried is predicted from the kept
    ones and folded into the weights that remain.
    """

    heads: tuple[Tensor, ...]  # (H,) each
    neurons: tuple[Tensor, ...]  # (F,) each
    width: Tensor  # (D,)
    pool: Tensor  # (D,) outputs of the dense layer before the head
    statistics: Statistics | None = field(default=None, compare=False)

    def of_layers(self, layers: Sequence[int]) -> Scores:
        """The same for a network that keeps only ``layers``. Its statistics would be others, so none are kept."""
        return Scores(
            tuple(self.heads[i] for i in layers), tuple(self.neurons[i] for i in layers), self.width, self.pool
        )


@dataclass(frozen=True)
class Kept:
    """Indices of the units that stay, ascending; heads as the dimensions they own."""

    inner: tuple[Tensor, ...]
    neurons: tuple[Tensor, ...]
    width: Tensor
    pool: Tensor


def choose(now: Shape, shape: Shape, scores: Scores | None) -> Kept:
    """The units with the largest scores; without scores the first ones."""
    if scores is None:
        width = torch.arange(shape.width)
        inner = tuple(torch.arange(layer.inner) for layer in shape.layers)
        return Kept(inner, tuple(torch.arange(layer.neurons) for layer in shape.layers), width, width)
    heads = [top(values.cpu(), new.heads) for values, new in zip(scores.heads, shape.layers, strict=True)]
    own = [torch.arange(layer.head_width) for layer in now.layers]
    return Kept(
        tuple((kept[:, None] * len(one) + one).flatten() for kept, one in zip(heads, own, strict=True)),
        tuple(top(values.cpu(), new.neurons) for values, new in zip(scores.neurons, shape.layers, strict=True)),
        top(scores.width.cpu(), shape.width),
        top(scores.pool.cpu(), shape.width),
    )


def keep_layers(network: PreTrainedModel, kept: Sequence[int]) -> None:
    """Drop all other layers."""
    holder = stack(network)
    every: Any = holder.layer
    holder.layer = nn.ModuleList(every[i] for i in kept)
    network.config.num_hidden_layers = len(kept)


def stack(network: PreTrainedModel) -> nn.Module:
    """The module whose ``layer`` is the list of layers."""
    first = next(name for name, _ in network.named_modules() if name.endswith(".layer.0"))
    return network.get_submodule(first.rpartition(".layer.0")[0])


@torch.no_grad()
def compensate(network: PreTrainedModel, kept: Kept, statistics: Statistics) -> None:
    """What the removed inputs of every layer carried is folded into the weights of the kept ones (``cut.fold``)."""
    modules = layout.modules(network)
    count = len(kept.inner)
    reads: dict[str, tuple[str, Tensor]] = {"pool": (stream("pool", count), kept.width), "head": ("head", kept.pool)}
    for i in range(count):
        at = f"layers.{i}."
        reads |= {f"{at}{name}": (stream(f"{at}{name}"), kept.width) for name in (*READERS, "up")}
        reads |= {f"{at}o": (f"{at}o", kept.inner[i]), f"{at}down": (f"{at}down", kept.neurons[i])}
    for name, (source, stay) in reads.items():
        _fold_into(modules[name], statistics, source, stay)


def _fold_into(module: nn.Module, statistics: Statistics, source: str, kept: Tensor) -> None:
    assert isinstance(module, nn.Linear)
    if len(kept) == module.in_features:
        return
    given = {f"x.{part}": tensor.detach().float().cpu() for part, tensor in module.named_parameters()}
    folded = fold(given, "x", statistics[source], kept)
    module.weight[:, kept.to(module.weight.device)] = folded["x.weight"].to(module.weight)
    module.bias.copy_(folded["x.bias"])


def widening(kept: Tensor, statistics: Statistics, layers: int) -> dict[int, tuple[Tensor, Tensor]]:
    """Hidden state (0: embeddings) -> (D, D_kept) and (D,): what the whole of it was, predicted from what is kept."""
    sources = ["layers.0.input", *(f"layers.{i}.norm2" for i in range(layers))]
    found = {}
    for place, source in enumerate(sources):
        moments = statistics[source]
        guess = prediction(moments, kept)
        found[place] = guess, moments.mean - guess @ moments.mean[kept]
    return found


def remove(network: PreTrainedModel, kept: Kept, example: Mapping[str, Tensor]) -> None:
    """Take every other unit out of ``network``.

    Raises:
        ModelPressError: the graph cannot be traced, or what hangs together in it is not what the layout says.
    """
    import torch_pruning as tp

    modules = layout.modules(network)
    linear = tp.prune_linear_out_channels
    goals: list[tuple[str, Callable[..., Any], Tensor]] = []
    for i, (inner, neurons) in enumerate(zip(kept.inner, kept.neurons, strict=True)):
        goals += [(f"layers.{i}.q", linear, inner), (f"layers.{i}.up", linear, neurons)]
    goals += [("pool", linear, kept.pool), ("word", tp.prune_embedding_out_channels, kept.width)]

    def forward() -> Tensor:
        logits: Tensor = network(**example).logits
        return logits

    with traced(network, forward) as graph:
        for name, function, stay in goals:
            if modules[name] not in graph.module2node:
                raise untraceable(network, f"no gradient comes back to {name}", (*graph.blocked, name)[0])
            gone = sorted(set(range(modules[name].weight.shape[name == "word"])) - set(stay.tolist()))  # type: ignore[index]
            if gone:
                group = graph.get_pruning_group(modules[name], function, gone)
                _check_group(network, name, group, gone)
                group.prune()


@contextmanager
def traced(network: nn.Module, forward: Callable[[], Tensor]) -> Iterator[Any]:
    """torch-pruning's graph of ``network``, whose parameters all take part whether they train or not.

    Raises:
        ModelPressError: it cannot be traced; the message names the layer and the operation.
    """
    import torch_pruning as tp

    trains = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    modes = {module: module.training for module in network.modules()}
    network.requires_grad_(True)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.filterwarnings("error", r"(?s)(\[Warning\] Unknown operation|Unwrapped parameters).*")
            yield _build(tp.DependencyGraph(), network, forward)
    finally:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(trains[name])
        for module, training in modes.items():
            module.training = training


def _build(graph: Any, network: nn.Module, forward: Callable[[], Tensor]) -> Any:
    entered: list[str] = []
    graph.blocked = []  # modules whose outputs no gradient passes, in order

    def watch(name: str, module: nn.Module) -> list[Any]:
        at = f"{name} ({type(module).__name__})"

        def after(_: nn.Module, given: Any, result: Any) -> None:
            if isinstance(result, Tensor) and result.is_floating_point() and result.grad_fn is None:
                graph.blocked.append(at)

        before = module.register_forward_pre_hook(lambda *_: entered.append(at))
        return [before, module.register_forward_hook(after)]

    hooks = [hook for name, module in network.named_modules() for hook in watch(name, module)]
    try:
        # fresh containers: torch-pruning keeps and changes those it is given by default
        return graph.build_dependency(
            network,
            (),
            forward_fn=lambda *_: forward(),
            customized_pruners={},
            ignored_layers=[],
            ignored_params=[],
        )
    except (Warning, Exception) as error:
        raise untraceable(network, error, entered[-1] if entered else "its first layer") from error
    finally:
        for hook in hooks:
            hook.remove()


def untraceable(network: nn.Module, error: BaseException | str, at: str) -> ModelPressError:
    """The error for a network whose parts cannot be told apart by its gradient graph."""
    return ModelPressError(
        f"The graph of {type(network).__name__} cannot be traced at {at}: {str(error).strip().splitlines()[0]}. "
        "Structured pruning follows gradients through ordinary PyTorch operations: keep that operation out of the "
        "network, or use technique=prune, which removes no unit."
    )


def _check_group(network: nn.Module, name: str, group: Any, gone: list[int]) -> None:
    """Every layer that hangs on these units loses exactly them; else an operation between was misread."""
    for dependency, indices in group:
        module = dependency.target.module
        if isinstance(module, nn.Linear | nn.LayerNorm | nn.Embedding) and sorted(indices) != gone:
            raise untraceable(network, f"its units are not those of {name}", str(dependency.target.name))

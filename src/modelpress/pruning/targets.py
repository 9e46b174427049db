"""Which weights of a model may be pruned one by one."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from modelpress.errors import ModelPressError
from modelpress.models.base import Model
from modelpress.patterns import check_patterns
from modelpress.pruning.masks import Pattern
from modelpress.quantization.attach import LEAST_COVERAGE

KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def targets(model: Model, *, embeddings: bool = False, exclude: Sequence[str] = ()) -> list[str]:
    """Names of the weights to prune: of every known layer but the excluded and the model's sensitive ones.

    Raises:
        ModelPressError: a pattern matches no layer, nothing is left to prune, or more than 5 % of the weights outside
            embeddings lie in layers of a kind that is not known and not excluded by name.
    """
    check_patterns(exclude, [name for name, layer in model.named_modules() if layer._parameters])
    _check_known(model, exclude)
    kinds = (*KINDS, nn.Embedding) if embeddings else KINDS
    patterns = (*exclude, *model.sensitive())
    found: dict[int, str] = {}  # a tied weight is one
    for name, layer in model.named_modules():
        if isinstance(layer, kinds) and not any(fnmatchcase(name, pattern) for pattern in patterns):
            found.setdefault(id(layer.weight), f"{name}.weight")
    if not found:
        raise ModelPressError(
            f"{type(model).__name__} has no layer left to prune: Linear and Conv layers are known, without those in "
            "transform.exclude and the last projection."
        )
    return list(found.values())


def excluded(model: Model, chosen: Sequence[str]) -> list[str]:
    """Layers with a matrix that are not pruned, by name."""
    matrices = {
        f"{name}.weight": name for name, layer in model.named_modules() if isinstance(layer, (*KINDS, nn.Embedding))
    }
    return [layer for weight, layer in matrices.items() if weight not in chosen]


def check_pattern(model: Model, chosen: Sequence[str], pattern: Pattern) -> None:
    """Raises :class:`ModelPressError` for weights whose inputs are no multiple of m."""
    odd = {
        name: model.get_parameter(name).shape[1] for name in chosen if model.get_parameter(name).shape[1] % pattern[1]
    }
    if odd:
        name, size = next(iter(odd.items()))
        raise ModelPressError(
            f"transform.pattern {pattern[0]}:{pattern[1]} needs a multiple of {pattern[1]} inputs; {name} has {size}"
            f"{f' (and {len(odd) - 1} more do not fit)' if len(odd) > 1 else ''}. Name such layers in "
            "transform.exclude."
        )


def _check_known(model: Model, exclude: Sequence[str]) -> None:
    total, lost, names = 0, 0, []
    for name, layer in model.named_modules():
        size = sum(p.numel() for p in layer.parameters(recurse=False) if p.ndim >= 2)
        size = 0 if isinstance(layer, nn.Embedding) else size
        total += size
        if size and not isinstance(layer, KINDS) and not any(fnmatchcase(name, pattern) for pattern in exclude):
            lost += size
            names.append(f"{name} ({type(layer).__name__})")
    if lost > (1 - LEAST_COVERAGE) * total:
        raise ModelPressError(
            f"{100 * lost / total:.0f} % of the weights lie in layers that cannot be pruned: {', '.join(names[:6])}"
            f"{' …' if len(names) > 6 else ''}. Name them in transform.exclude if they are to stay dense."
        )

"""Which weights are gone, and what keeps them gone: pure mask maths, and the masks that a model carries.

A mask is a bool tensor of its weight's shape, true where the weight is gone.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    from modelpress.models.base import Model

log = logging.getLogger(__name__)
FILE = "pruning.json"  # beside the weights of a pruned model
Pattern = tuple[int, int]  # (n, m): n of every m weights in a row stay


def parse_pattern(pattern: object) -> Pattern | None:
    """``"2:4"`` as (2, 4).

    >>> parse_pattern("2:4")
    (2, 4)
    """
    if pattern is None:
        return None
    found = re.fullmatch(r"(\d+):(\d+)", pattern) if isinstance(pattern, str) else None
    if found is None or not 0 < int(found[1]) < int(found[2]):
        raise ModelPressError(
            f'transform.pattern is {pattern!r}; allowed: null, or "n:m" with 0 < n < m, for n of every m weights that '
            'stay: "2:4". In a yaml file it needs its quotes.'
        )
    return int(found[1]), int(found[2])


def lowest(scores: Tensor, count: int) -> Tensor:
    """The ``count`` lowest scores, exactly; of equal ones the first."""
    flat = scores.flatten()
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    limit = flat.kthvalue(count).values
    below, ties = flat < limit, flat == limit
    below |= ties & (ties.cumsum(0) <= count - below.sum())
    return below.view_as(scores)


def outside(scores: Tensor, pattern: Pattern) -> Tensor:
    """What an n:m pattern gives up: all but the n highest of every m along the inputs, axis 1; of equal ones the last.

    Axis 1 is what a matrix product sums over: that is where sparse kernels want the pattern (2:4: arXiv:2104.08378).
    Its size must be a multiple of m.
    """
    n, m = pattern
    groups = scores.movedim(1, -1).unflatten(-1, (-1, m))
    kept = groups.sort(dim=-1, descending=True, stable=True).indices[..., :n]
    gone = torch.ones_like(groups, dtype=torch.bool).scatter_(-1, kept, False)
    return gone.flatten(-2).movedim(-1, 1).contiguous()


def choose(
    scores: Mapping[str, Tensor], sparsity: float, *, scope: str = "global", pattern: Pattern | None = None
) -> dict[str, Tensor]:
    """Masks that take the share ``sparsity`` of all weights, or of every layer's (``scope: layer``).

    With a pattern only what it gives up may go, so that a share on the way to 1 - n/m already lies inside it.
    """
    if pattern is not None:
        scores = {name: given.masked_fill(~outside(given, pattern), math.inf) for name, given in scores.items()}
    if scope == "layer":
        return {name: lowest(given, round(sparsity * given.numel())) for name, given in scores.items()}
    together = torch.cat([given.flatten() for given in scores.values()])
    parts = lowest(together, round(sparsity * len(together))).split([given.numel() for given in scores.values()])
    return {name: part.view_as(given) for (name, given), part in zip(scores.items(), parts, strict=True)}


@dataclass
class Masks:
    """The masks of a model (``model.masks``), by the name of the weight. ``details``: how they came about."""

    gone: dict[str, Tensor]
    details: dict[str, Any] = field(default_factory=dict)

    @torch.no_grad()
    def apply(self, model: Model) -> None:
        """Set to zero what is gone."""
        for name, mask in self.gone.items():
            weight = model.get_parameter(name)
            self.gone[name] = mask = mask.to(weight.device)
            weight.masked_fill_(mask, 0.0)

    def sparsity(self, names: Iterable[str] | None = None) -> float:
        """Share of the weights (those called ``names``, or all that are masked) that are gone."""
        masks = [self.gone[name] for name in (self.gone if names is None else names) if name in self.gone]
        return sum(int(mask.sum()) for mask in masks) / max(1, sum(mask.numel() for mask in masks))


def warn_of_empty(masks: Masks) -> None:
    """A layer without a single weight passes on nothing but its bias."""
    empty = [name.removesuffix(".weight") for name, mask in masks.gone.items() if bool(mask.all())]
    if empty:
        log.warning(
            "Nothing is left of %s%s. Compare weights across layers by transform.importance=lamp, or set "
            "transform.scope=layer.",
            ", ".join(empty[:5]),
            " …" if len(empty) > 5 else "",
        )


def hold(model: Model) -> None:
    """Put a pruned model's weights back to zero, wherever an optimizer moved them."""
    if model.masks is not None:
        model.masks.apply(model)


def zeros(model: Model, names: Iterable[str]) -> dict[str, Tensor]:
    """Masks of what is exactly zero."""
    return {name: model.get_parameter(name).detach() == 0 for name in names}


def save(model: Model, folder: Path) -> None:
    """Write ``pruning.json``: the names of the masked weights, their ``sparsity``, the details.

    The masks themselves are the zeros in the weights beside it. A dense model gets no such file (and loses that of an
    earlier save).
    """
    path = Path(folder) / FILE
    path.unlink(missing_ok=True)
    if model.masks is not None:
        record = {**model.masks.details, "sparsity": model.masks.sparsity(), "weights": list(model.masks.gone)}
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def restore(model: Model, folder: Path) -> None:
    """Give a freshly loaded model the masks it was saved with, so that later stages keep its zeros."""
    path = Path(folder) / FILE
    if path.is_file():
        details = json.loads(path.read_text(encoding="utf-8"))
        model.masks = Masks(zeros(model, details.pop("weights")), details)

"""How much each layer's quantization costs: one layer, or one part of the network, in INT8 at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from modelpress.models.base import Batch, Model, Output
from modelpress.models.dual import means
from modelpress.quantization.attach import products_of, set_mode, twins_of
from modelpress.quantization.layers import QuantizedLayer

Track = Callable[[Iterable[Any], str], Iterable[Any]]
Groups = Mapping[tuple[str, ...], Sequence[nn.Module]]


@dataclass(frozen=True)
class Sensitivity:
    """One group of layers in INT8 alone: those that share an input, or a part of the network.

    ``metric_drop``: accuracy of the float network minus its own, absolute. ``output_error``: mean squared difference
    of the logits. ``disagreement``: share of changed predictions.
    """

    layers: tuple[str, ...]
    parameters: int
    metric_drop: float
    output_error: float
    disagreement: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Answers:
    """Logits (n, C) and labels (n,) of a split."""

    logits: Tensor
    labels: Tensor

    @property
    def accuracy(self) -> float:
        return float((self.logits.argmax(1) == self.labels).double().mean())

    def against(self, reference: Answers) -> tuple[float, float, float]:
        """Metric drop, mean squared difference of logits, share of changed predictions."""
        changed = (self.logits.argmax(1) != reference.logits.argmax(1)).double().mean()
        error = (self.logits - reference.logits).square().mean()
        return reference.accuracy - self.accuracy, float(error), float(changed)


@torch.no_grad()
def answers(model: Model, batches: Iterable[Batch]) -> Answers:
    """The model's logits on labelled batches, as it stands.

    Of a dual encoder: all images against all texts, whose labels say which belong together; they may come in batches
    of their own.
    """
    model.eval()
    model.capture(frozenset())
    found = [(model(batch), batch["labels"]) for batch in batches]
    if found and found[0][0].embeddings is not None:
        return _matched(found)
    logits = [output.logits for output, _ in found if output.logits is not None]
    return Answers(torch.cat([z.float() for z in logits]), torch.cat([y for _, y in found]))


def _matched(found: Sequence[tuple[Output, Tensor]]) -> Answers:
    """Several texts of one label count by their mean."""

    def of(tower: str) -> tuple[Tensor, Tensor]:
        rows = [(o.embeddings[tower], y) for o, y in found if o.embeddings is not None and tower in o.embeddings]
        return torch.cat([e.float() for e, _ in rows]), torch.cat([y for _, y in rows])

    (images, labels), (texts, owners) = of("image"), of("text")
    known, numbers = owners.unique(return_inverse=True)
    scale = found[0][0].scale
    assert scale is not None
    return Answers(scale * images @ means(texts, numbers).T, torch.searchsorted(known, labels))


def groups(model: Model) -> Groups:
    """Layers by shared input: they are quantized together or not at all. Tables of embeddings stand alone, and so do
    the two products of an attention layer.
    """
    found: dict[int, dict[str, QuantizedLayer]] = {}
    for name, twin in twins_of(model).items():
        found.setdefault(id(twin.inputs) if twin.inputs is not None else id(twin), {})[name] = twin
    layers: dict[tuple[str, ...], list[nn.Module]] = {tuple(one): list(one.values()) for one in found.values()}
    return layers | {(name,): [operands] for name, operands in products_of(model).items()}


def switch(members: Sequence[nn.Module], on: bool) -> None:
    """INT8 on or off for the layers and products of one group only."""
    for member in members:
        set_mode(member, "int8" if on else "float")


def measure(
    model: Model, batches: Iterable[Batch], track: Track | None = None, chosen: Groups | None = None
) -> list[Sensitivity]:
    """Every group alone in INT8 on labelled ``batches``, the most harmful first (by output error).

    ``model`` is a calibrated network; it is left in INT8 throughout, as it came. ``chosen``: by default
    :func:`groups`. ``batches`` are gone through once per group and once before.
    """
    watch: Track = track or (lambda items, title: items)
    chosen = groups(model) if chosen is None else chosen
    set_mode(model, "float")
    reference = answers(model, batches)
    rows = []
    try:
        for names, members in watch(chosen.items(), "sensitivity of each layer"):
            switch(members, True)
            drop, error, changed = answers(model, batches).against(reference)
            switch(members, False)
            parameters = sum(layer.weight.numel() for layer in members if isinstance(layer, QuantizedLayer))
            rows.append(Sensitivity(names, parameters, drop, error, changed))
    finally:
        set_mode(model, "int8")
    return sorted(rows, key=lambda row: -row.output_error)


def as_table(rows: Sequence[Sensitivity]) -> list[Mapping[str, Any]]:
    """JSON of the rows, in order."""
    return [row.to_json() for row in rows]

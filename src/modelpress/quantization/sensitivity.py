"""How much each layer's quantization costs: one layer in INT8 at a time, all others in float."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from modelpress.models.base import Batch, Model
from modelpress.quantization.attach import products_of, set_mode, twins_of
from modelpress.quantization.layers import QuantizedLayer

Track = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Sensitivity:
    """One group of layers that share an input, in INT8 alone.

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
    """The model's logits on labelled batches, as it stands. Batches of texts alone are what a dual encoder chooses
    from; it encodes them anew every time.
    """
    model.eval()
    model.capture(frozenset())
    shown = list(batches)
    prompts = [batch for batch in shown if model.embedding_width is not None and "pixel_values" not in batch]
    if prompts:
        model.answer(prompts)
    found = [(model(batch).logits, batch["labels"]) for batch in shown[len(prompts) :]]
    return Answers(torch.cat([z.float() for z, _ in found if z is not None]), torch.cat([y for _, y in found]))


def groups(model: Model) -> dict[tuple[str, ...], list[nn.Module]]:
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


def measure(model: Model, batches: Sequence[Batch], track: Track | None = None) -> list[Sensitivity]:
    """Every group alone in INT8 on labelled ``batches``, the most harmful first (by output error).

    ``model`` is a calibrated network; it is left in INT8 throughout, as it came.
    """
    watch: Track = track or (lambda items, title: items)
    set_mode(model, "float")
    reference = answers(model, batches)
    rows = []
    try:
        for names, members in watch(groups(model).items(), "sensitivity of each layer"):
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

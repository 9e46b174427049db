"""What networks answer on a split, outside of Lightning. The data module says what they are asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modelpress.callbacks.progress import tracked
from modelpress.diagnostics import Predictions
from modelpress.models.base import Batch, Model, Output


def ask(model: Model, data: Any, split: str) -> None:
    """Show a dual encoder the texts of ``split``, among which it looks for an image's own; a classifier needs none."""
    if model.embedding_width is not None:
        model.answer(placed(batch, model) for batch in data.prompts(split))


def placed(batch: Batch, model: Model) -> Batch:
    """The batch on the model's device: after a training on a GPU a teacher is still there."""
    device = next(model.parameters()).device
    return {name: tensor.to(device) for name, tensor in batch.items()}


@dataclass(frozen=True)
class Questions:
    """Batches that can be gone through again and again, made anew each time: a split of images may not fit in memory.

    Before them come the texts to choose from that a dual encoder is shown first.
    """

    prompts: Sequence[Batch]
    batches: Iterable[Batch]

    def __iter__(self) -> Iterator[Batch]:
        yield from self.prompts
        yield from self.batches


def questions(model: Model, data: Any, split: str, limit: int | None = None) -> Questions:
    """The batches of ``split``; with ``limit`` at most so many items, drawn at random but always the same."""
    batches = data.eval_dataloader(split) if limit is None else data.labelled(split, limit)
    return Questions(data.prompts(split) if model.embedding_width is not None else (), batches)


@torch.no_grad()
def accuracy(model: Model, data: Any) -> float:
    """Share of right answers on the validation split, for a stage that trained nothing."""
    hits = items = 0
    ask(model, data, "validation")
    for batch in tracked(data.eval_dataloader("validation"), "validating"):
        hits += int((_scores(model, batch).argmax(1) == batch["labels"]).sum())
        items += len(batch["labels"])
    return hits / items


def predictions(members: Sequence[tuple[Model, Any]], split: str, every: int | None = None) -> Predictions:
    """Class scores of student and teacher, each with data as it wants them, on the same items of ``split``.

    With ``every``, on about so many batches spread over it.
    """
    (labels, student), (same, teacher) = (_answers(*member, split, every) for member in members)
    assert labels.equal(same), "student and teacher were shown different items"
    return Predictions(labels.numpy(), student.numpy(), teacher.numpy())


@torch.no_grad()
def _answers(model: Model, data: Any, split: str, every: int | None) -> tuple[Tensor, Tensor]:
    """Labels (n,) and scores (n, C)."""
    model.capture(frozenset())
    ask(model, data, split)
    loader = data.eval_dataloader(split)
    stride = max(1, len(loader) // every) if every else 1
    batches = [batch for number, batch in enumerate(loader) if number % stride == 0]
    return torch.cat([batch["labels"] for batch in batches]), torch.cat([_scores(model, batch) for batch in batches])


def _scores(model: Model, batch: Batch) -> Tensor:
    output: Output = model(placed(batch, model))
    assert output.logits is not None
    return output.logits.float().cpu()

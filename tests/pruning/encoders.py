"""A tiny encoder of every family, and batches for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modelpress.models.classifier import TextClassifier
from modelpress.pruning.shapes import LayerShape, Shape
from tests.models.conftest import tiny

FAMILIES = ("bert", "roberta", "electra", "distilbert")
UNEVEN = Shape(20, (LayerShape(1, 6, 16), LayerShape(3, 6, 48), LayerShape(2, 6, 8)))


def encoder(model_type: str = "bert", folder: Path = Path(), **numbers: Any) -> TextClassifier:
    """4 layers of 24, 4 heads of 6, 48 neurons, 3 labels; every weight random."""
    return TextClassifier(tiny(model_type, **numbers), ["a", "b", "c"], folder)


def batches(count: int = 4, size: int = 16) -> list[dict[str, Tensor]]:
    numbers = torch.Generator().manual_seed(5)
    ids = [torch.randint(5, 90, (size, 12), generator=numbers) for _ in range(count)]
    labels = [torch.randint(0, 3, (size,), generator=numbers) for _ in range(count)]
    return [
        {"input_ids": i, "attention_mask": torch.ones_like(i), "labels": label}
        for i, label in zip(ids, labels, strict=True)
    ]


def outside_embeddings(model: TextClassifier) -> int:
    return sum(p.numel() for name, p in model.network.named_parameters() if ".embeddings." not in name)

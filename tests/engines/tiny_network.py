"""A saved network that workers can load by its dotted path."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from modelpress.models.base import Batch, Model, Output


class TinyNetwork(Model):
    labels = ["no", "yes"]  # noqa: RUF012  (an instance attribute in the contract)

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.table = torch.nn.Parameter(torch.randn(50, 16, generator=generator))
        self.head = torch.nn.Parameter(torch.randn(16, 2, generator=generator))

    def forward(self, batch: Batch) -> Output:
        hidden = self.table[batch["input_ids"]] * batch["attention_mask"].unsqueeze(-1)
        return Output(logits=torch.tanh(hidden.mean(dim=1)) @ self.head)

    def capture(self, needs: frozenset[str]) -> None:
        self.needs = needs

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "modelpress.json").write_text(json.dumps({"class": f"{__name__}.TinyNetwork"}))

    @classmethod
    def load(cls, folder: Path) -> TinyNetwork:
        return cls()


def expected(inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The same in NumPy."""
    network = TinyNetwork()
    table, head = network.table.detach().numpy(), network.head.detach().numpy()
    return np.tanh((table[inputs["input_ids"]] * inputs["attention_mask"][..., None]).mean(axis=1)) @ head

"""A saved network of two Linear layers that workers can load by its dotted path."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from modelpress.models.base import Batch, Model, Output


class LinearNetwork(Model):
    labels = ["no", "yes"]  # noqa: RUF012  (an instance attribute in the contract)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.table = nn.Embedding(50, 32)
            self.hidden, self.head = nn.Linear(32, 48), nn.Linear(48, 2)

    def forward(self, batch: Batch) -> Output:
        return Output(logits=self.head(torch.tanh(self.hidden(self.table(batch["input_ids"]).mean(dim=1)))))

    def capture(self, needs: frozenset[str]) -> None:
        self.needs = needs

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "modelpress.json").write_text(json.dumps({"class": f"{__name__}.LinearNetwork"}))

    @classmethod
    def load(cls, folder: Path) -> LinearNetwork:
        return cls()

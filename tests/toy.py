"""The smallest network, objective and data that train under Lightning: for tests of what happens around training."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from modelpress.models.base import Batch, Model, Output
from modelpress.objectives.base import Objective
from modelpress.optimizer import OptimizerConfig
from modelpress.technique import Technique
from modelpress.transforms.base import Transform

WIDTH, BATCHES, SIZE = 4, 6, 8
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


class Toy(Model):
    """Dropout and a linear layer; remembers in which mode it was called and what was asked of it."""

    labels: list[str] = ["neg", "pos"]  # noqa: RUF012  (as in the contract)
    num_layers, width, num_heads = 1, WIDTH, 1

    def __init__(self, seed: int = 0, dropout: float = 0.5) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(WIDTH, 2)
        self.asked: frozenset[str] = frozenset()
        self.modes: list[bool] = []
        self.captured: list[frozenset[str]] = []

    def capture(self, needs: frozenset[str]) -> None:
        self.asked = needs

    def forward(self, batch: Batch) -> Output:
        self.modes.append(self.training)
        self.captured.append(self.asked)
        kept = self.dropout(batch["x"])
        states = (batch["x"][:, None], kept[:, None]) if "hidden_states" in self.asked else None
        return Output(logits=self.head(kept), hidden_states=states)

    def example(self) -> dict[str, Tensor]:
        return {"x": torch.zeros(1, WIDTH)}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.state_dict(), folder / "toy.pt")


class Spy(Transform):
    """Draws a random number at every step and writes down how far training is."""

    def __init__(self) -> None:
        self.draws: list[float] = []
        self.progress: list[float] = []

    def step(self, model: nn.Module, progress: float) -> None:
        self.draws.append(float(torch.rand(1)))
        self.progress.append(progress)


def batches(count: int = BATCHES, seed: int = 0) -> list[dict[str, Tensor]]:
    """Points whose label is the sign of their first number."""
    numbers = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        x = torch.randn(SIZE, WIDTH, generator=numbers)
        mask = torch.ones(SIZE, 1, dtype=torch.long)
        found.append({"x": x, "labels": (x[:, 0] > 0).long(), "attention_mask": mask})
    return found


class Loader:
    """The same batches in every epoch; continues after any of them, as the real loader does."""

    def __init__(self, batches: list[dict[str, Tensor]]) -> None:
        self.batches, self.done, self.skip = batches, 0, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        self.done, self.skip = self.skip, 0
        for batch in self.batches[self.done :]:
            self.done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.skip = state["done"]


def loader(count: int = BATCHES, seed: int = 0) -> Loader:
    return Loader(batches(count, seed))


def technique(objective: Objective, model: Model | None = None, **options: Any) -> Technique:
    given: dict[str, Any] = {"transform": Transform(), "optimizer": OptimizerConfig(lr=1e-2), "seed": 1, **options}
    return Technique(model or Toy(), objective, stage="toy", **given)


def trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    """Quiet, on the CPU, logging every step, nothing saved unless a callback does."""
    given: dict[str, Any] = {
        "max_epochs": 1,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "logger": False,
        **options,
    }
    return Trainer(accelerator="cpu", devices=1, default_root_dir=folder, callbacks=list(callbacks), **given)


@contextmanager
def known_warnings() -> Iterator[None]:
    """What Lightning says about loaders and sizes that are right here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")
        warnings.filterwarnings("ignore", ".*does not have many workers")
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint")
        warnings.filterwarnings("ignore", "You defined a `validation_step` but have no `val_dataloader`")
        yield

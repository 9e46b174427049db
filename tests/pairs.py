"""The smallest dual encoder and image-text data that train under Lightning: a stand-in for both contracts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.models.base import Batch, Model, Output
from tests.toy import Loader

CONCEPTS, WORDS, SIZE, BATCH = 12, 4, 4, 8
HELD_OUT = 6  # concepts of validation and test: other mixtures of the same parts


class Pair(Model):
    """A linear layer per tower, on pixels and on the mean of word embeddings."""

    def __init__(self, width: int = 8, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.labels, self._width = [f"concept {i}" for i in range(CONCEPTS)], width
        self.image, self.words = nn.Linear(3 * SIZE * SIZE, width), nn.Embedding(CONCEPTS * WORDS, width)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.candidates: Tensor | None = None
        self.calls, self.answered = 0, 0

    @property
    def embedding_width(self) -> int:
        return self._width

    def capture(self, needs: frozenset[str]) -> None:
        assert not needs

    def forward(self, batch: Batch) -> Output:
        self.calls += 1
        found = {}
        if "pixel_values" in batch:
            found["image"] = F.normalize(self.image(batch["pixel_values"].flatten(1)), dim=-1)
        if "input_ids" in batch:
            found["text"] = F.normalize(self.words(batch["input_ids"]).mean(1), dim=-1)
        scale, texts = self.logit_scale.exp().clamp(max=100), found.get("text", self.candidates)
        both = "image" in found and texts is not None
        logits = scale * found["image"] @ texts.t() if both and texts is not None else None
        return Output(logits=logits, embeddings=found, scale=scale)

    @torch.no_grad()
    def answer(self, prompts: Iterable[Batch]) -> None:
        self.answered += 1
        self.eval()
        batches = list(prompts)
        found = torch.cat([self.words(batch["input_ids"]).mean(1) for batch in batches])
        labels = torch.cat([batch["labels"] for batch in batches])
        means = [F.normalize(found[labels == label], dim=-1).mean(0) for label in labels.unique()]
        self.candidates = F.normalize(torch.stack(means), dim=-1)

    def example(self) -> dict[str, Tensor]:
        return batch_of(torch.tensor([0, 1]), "train")

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.state_dict(), folder / "pair.pt")


def texts_of(concepts: Tensor, split: str) -> Tensor:
    """(B,) -> (B, WORDS): a concept is named by words that other concepts share."""
    shift = {"train": 1, "validation": 5, "test": 7}[split]
    return torch.stack([(concepts * shift + word * (concepts % 3 + 1)) % CONCEPTS + CONCEPTS * word
                        for word in range(WORDS)], dim=1)  # fmt: skip


def images_of(concepts: Tensor, split: str, seed: int) -> Tensor:
    """The picture of each word added up, and noise."""
    parts = torch.randn(CONCEPTS * WORDS, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(CONCEPTS, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return parts[texts_of(concepts, split)].mean(1) + 0.1 * noise[concepts]


def batch_of(concepts: Tensor, split: str, seed: int = 1) -> dict[str, Tensor]:
    return {
        "pixel_values": images_of(concepts, split, seed),
        "input_ids": texts_of(concepts, split),
        "labels": concepts,
        "index": concepts.clone(),
    }


class PairData(LightningDataModule):
    """Every concept once an epoch, no concept twice in a batch; validation and test: images alone, and prompts."""

    metric = "recall_at_1"

    def train_dataloader(self) -> Any:
        order = torch.randperm(CONCEPTS, generator=torch.Generator().manual_seed(0))
        return Loader([batch_of(chunk, "train") for chunk in order.split(BATCH)])

    def eval_dataloader(self, split: str) -> Any:
        every = torch.arange(CONCEPTS if split == "train" else HELD_OUT)
        batches = [batch_of(chunk, split, seed) for seed in (3, 4) for chunk in every.split(5)]
        return Loader([{name: batch[name] for name in batch if name != "input_ids"} for batch in batches])

    def val_dataloader(self) -> Any:
        return self.eval_dataloader("validation")

    def test_dataloader(self) -> Any:
        return self.eval_dataloader("test")

    def prompts(self, split: str) -> list[dict[str, Tensor]]:
        every = torch.arange(CONCEPTS if split == "train" else HELD_OUT)
        return [{"input_ids": texts_of(chunk, split), "labels": chunk} for chunk in every.split(4)]

"""A small classifier whose layers differ much in how badly they take INT8, and labels that it sometimes gets wrong."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modelpress.models.attention import PRODUCTS
from modelpress.models.base import Batch, Model, Output
from modelpress.quantization.attach import OPERANDS, Scope, attach
from modelpress.quantization.calibrate import Recipe, calibrate

WIDTH, WORDS, CLASSES = 16, 32, 4


class Products(nn.Module):
    """Where an attention layer's quantizers would be; each sees the same tensor here."""

    def forward(self, x: Tensor) -> Tensor:
        if PRODUCTS in self._modules:
            for name in OPERANDS:
                x = self._modules[PRODUCTS][name](x)  # type: ignore[index]
        return x


class Uneven(Model):
    """table → left and right (one input) → products → each of ``loud`` on an input with an outlier → ``head``.

    The outlier is a channel of ``outliers[name]`` that the layer does not read (its weights are zero): float knows
    nothing of it, but in INT8 it decides the step of the whole tensor. What ``harmless`` adds is the same for every
    class: it changes all logits and no prediction.
    """

    labels: list[str] = [str(i) for i in range(CLASSES)]  # noqa: RUF012  (as in the contract)

    def __init__(self, outliers: dict[str, float], product_outlier: float = 0.0, harmless: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(WORDS, WIDTH)
        self.left, self.right = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.products, self.product_outlier = Products(), product_outlier
        self.loud = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH) for name in outliers})
        self.outliers = outliers
        self.harmless, self.harm = nn.Linear(WIDTH, 1, bias=False), harmless
        self.head = nn.Linear(WIDTH, CLASSES)
        with torch.no_grad():
            for layer in (*self.loud.values(), self.harmless):
                layer.weight[:, 0] = 0.0
            self.harmless.weight *= 20
        self.eval()

    def capture(self, needs: frozenset[str]) -> None:
        pass

    def forward(self, batch: Batch) -> Output:
        x = self.table(batch["ids"]).mean(1)
        x = torch.tanh(self.left(x) + self.right(x)) * 2
        if self.product_outlier:
            x = self.products(with_outlier(x, self.product_outlier))
        for name, layer in self.loud.items():
            x = torch.tanh(layer(with_outlier(x, self.outliers[name]))) * 2
        shift = self.harmless(with_outlier(x, self.harm))
        return Output(logits=self.head(x) + shift)

    def example(self) -> dict[str, Tensor]:
        return {"ids": torch.arange(6).reshape(2, 3)}

    def attention_layers(self) -> list[nn.Module]:
        return [self.products]


def with_outlier(x: Tensor, size: float) -> Tensor:
    """``x`` with ``size`` in its first channel, which nobody reads."""
    return torch.cat([torch.full_like(x[:, :1], size), x[:, 1:]], 1)


def batches(model: Model | None = None, count: int = 8, items: int = 64) -> list[dict[str, Tensor]]:
    """Random words. The labels are the model's own answers, one in eight of them made wrong."""
    numbers = torch.Generator().manual_seed(1)
    found = []
    for _ in range(count):
        batch = {"ids": torch.randint(WORDS, (items, 3), generator=numbers)}
        if model is not None:
            with torch.no_grad():
                answers = model(batch).logits.argmax(1)
            wrong = torch.rand(items, generator=numbers) < 0.125
            batch["labels"] = torch.where(wrong, (answers + 1) % CLASSES, answers)
        found.append(batch)
    return found


def calibrated(model: Model, labelled: Sequence[Batch], **scope: object) -> None:
    """Make the network INT8, with plain min-max ranges."""
    attach(model, Scope(**scope))  # type: ignore[arg-type]
    calibrate(model, labelled, Recipe("minmax", balance=None, bias_correction=False))

"""Small networks whose values leave fp16's range where we want them to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.quantization.small import Small

WIDTH = 8


class Network(nn.Module):
    """first → loud → norm → quiet → head; ``loud`` has weights of about 1e3, ``first`` lets inputs of 1e3 through."""

    def __init__(self, loudness: float) -> None:
        super().__init__()
        self.first, self.loud, self.norm = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.quiet, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)
        nn.init.orthogonal_(self.first.weight)
        nn.init.normal_(self.loud.weight, std=loudness)

    def forward(self, x: Tensor) -> Tensor:
        loud: Tensor = self.norm(torch.relu(self.loud(self.first(x))))
        logits: Tensor = self.head(torch.relu(self.quiet(loud)))
        return logits


class Wrapped(Small):
    """Any network from (B, WIDTH) to logits, as a model with one tower."""

    labels: list[str] = ["neg", "pos"]  # noqa: RUF012  (as in the contract)

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, torch.ones(2, WIDTH))

    def sensitive(self) -> tuple[str, ...]:
        return ()


def model(loudness: float = 1e3) -> Wrapped:
    torch.manual_seed(0)
    return Wrapped(Network(loudness))


def batches(count: int = 3, scale: float = 1e3, items: int = 16) -> list[dict[str, Tensor]]:
    numbers = torch.Generator().manual_seed(1)
    return [{"x": scale * torch.randn(items, WIDTH, generator=numbers)} for _ in range(count)]

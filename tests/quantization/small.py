"""Small networks of every kind that is quantized, as models, and the numbers that INT8 should give, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelpress.models.base import Batch, Model, Output, Tower
from modelpress.transforms.base import Context

WIDTH = 16
Floats = NDArray[np.float32]


class Shared(nn.Module):
    """q, k and v read the input itself, so their common tensor is a batch's; ``out`` and ``head`` follow."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH, bias=bias) for bias in (True, False, True))
        self.out, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.out(torch.sigmoid(self.q(x)) * self.k(x) + self.v(x))))
        return logits


class Convolutions(nn.Module):
    """Images (B, 3, 8, 8): two convolutions, the second strided and in groups, then the head on the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, stride=2, groups=2, bias=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))
        return logits


class Tables(nn.Module):
    """Words (B, S): a table of embeddings whose mean goes through ``body`` to ``head``."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.body, self.head = nn.Embedding(32, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.body(self.table(ids).mean(1))))
        return logits


class Whole(nn.Module):
    """The graph that is exported: positional inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: Tensor) -> Any:
        return self.network(*tensors)


class Small(Model):
    """Any of these networks as a model with one tower; the head is sensitive."""

    labels: list[str] = ["a", "b", "c"]  # noqa: RUF012  (as in the contract)

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.network, self._example = network, example
        self.eval()

    def capture(self, needs: frozenset[str]) -> None:
        pass

    def forward(self, batch: Batch) -> Output:
        return Output(logits=self.network(batch["x"]))

    def example(self) -> dict[str, Tensor]:
        return {"x": self._example}

    def sensitive(self) -> tuple[str, ...]:
        return ("network.head",)

    def towers(self) -> list[Tower]:
        return [Tower("main", Whole(self.network), self.example(), ("logits",), {"x": {0: "batch"}})]


EXAMPLES: Mapping[type[nn.Module], Callable[[], Tensor]] = {
    Shared: lambda: torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(9)),
    Convolutions: lambda: torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(9)),
    Tables: lambda: torch.arange(8).reshape(2, 4),
}


def model(kind: type[nn.Module] = Shared, seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small(kind(), EXAMPLES[kind]())


def batches(kind: type[nn.Module] = Shared, count: int = 4, items: int = 16, seed: int = 1) -> list[dict[str, Tensor]]:
    """Random inputs with labels."""
    numbers = torch.Generator().manual_seed(seed)
    shape = (items, *EXAMPLES[kind]().shape[1:])
    found = []
    for _ in range(count):
        x = torch.randint(32, shape, generator=numbers) if kind is Tables else torch.randn(shape, generator=numbers)
        found.append({"x": x, "labels": torch.randint(3, (items,), generator=numbers)})
    return found


def context(kind: type[nn.Module] = Shared, asked: list[tuple[int, int]] | None = None) -> Context:
    """What a transform is given; ``asked`` collects the (samples, draw) of every calibration."""

    def calibration(samples: int, draw: int = 0) -> list[dict[str, Tensor]]:
        if asked is not None:
            asked.append((samples, draw))
        return batches(kind, seed=draw)

    return Context({"x": EXAMPLES[kind]()}, calibration, lambda: batches(kind, seed=77))


def logits(model: Model, batch: Batch) -> Tensor:
    found = model(batch).logits
    assert found is not None
    return found


def layer(model: nn.Module, name: str) -> Any:
    return model.get_submodule(f"network.{name}")


def integers(x: Floats, scale: Any) -> Floats:
    """Symmetric INT8, rounded half to even; ``scale`` broadcasts."""
    return np.clip(np.rint(x / np.asarray(scale, np.float32)), -128, 127).astype(np.float32)


def rounded(x: Floats, axis: int | None = None, amax: float | None = None) -> Floats:
    """``x`` on its grid of 8 bits; the range ends at its largest magnitude (or ``amax``), per channel of ``axis``."""
    others = tuple(a for a in range(x.ndim) if axis is None or a != axis % x.ndim)
    largest = np.abs(x).max(axis=others, keepdims=True) if amax is None else np.float32(amax)
    scale = (np.maximum(largest, 1e-8) / 127).astype(np.float32)
    return (integers(x, scale) * scale).astype(np.float32)

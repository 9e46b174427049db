"""What flows through a teacher, measured on sentences of random tokens: cutting a student out needs no data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modelpress.models import layout
from modelpress.models.cut import Moments

SENTENCES, LENGTH, BATCH = 240, 24, 48


class Sum:
    """Running sums of x and x xᵀ over tokens, around the first batch's mean so that fp32 products lose nothing."""

    def __init__(self) -> None:
        self.count = 0
        self.pivot = self.first = self.second = torch.zeros(())

    def add(self, values: Tensor) -> None:
        rows = values.detach().flatten(0, -2).float().cpu()
        if self.count == 0:
            self.pivot = rows.mean(0)
        centred = rows - self.pivot
        self.first = self.first + centred.sum(0)
        self.second = self.second + centred.T @ centred
        self.count += len(rows)

    def moments(self) -> Moments:
        shift = self.first / self.count
        return Moments(self.pivot + shift, self.second / self.count - torch.outer(shift, shift))


def measure(
    teacher: PreTrainedModel, layers: Sequence[int], *, seed: int = 0, frame: tuple[int, int] | None = None
) -> dict[str, Moments]:
    """Moments under the student's names (layer ``i`` is teacher layer ``layers[i]``), as :func:`cut.narrow` wants them.

    ``frame`` holds the ids of the tokens that open and close a sentence.
    """
    drawn = sentences(teacher, seed, frame).split(BATCH)
    return observe(teacher, layers, ({"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in drawn))


@torch.no_grad()
def observe(
    network: PreTrainedModel, layers: Sequence[int], batches: Iterable[Mapping[str, Tensor]]
) -> dict[str, Moments]:
    """The same on ``batches`` of inputs, which hold no padding."""
    sums: dict[str, Sum] = {}
    with _watching(layout.modules(network), layers, sums), evaluating(network):
        for batch in batches:
            network(**batch)
    return {name: total.moments() for name, total in sums.items()}


def sentences(teacher: PreTrainedModel, seed: int, frame: tuple[int, int] | None) -> Tensor:
    """(SENTENCES, LENGTH) token ids drawn evenly from the vocabulary, without the padding token."""
    config, device = teacher.config, next(teacher.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    longest = len(layout.read_positions(teacher))
    ids = torch.randint(0, config.vocab_size - 1, (SENTENCES, min(LENGTH, longest)), generator=generator)
    if config.pad_token_id is not None:
        ids += ids >= config.pad_token_id
    if frame is not None:
        ids[:, 0], ids[:, -1] = frame
    return ids.to(device)


@contextmanager
def _watching(modules: dict[str, nn.Module], layers: Sequence[int], sums: dict[str, Sum]) -> Iterator[None]:
    """Hooks that add up inputs of ``o``, ``down``, ``head`` and of attention, and outputs of the norms."""
    handles = []

    def watch(source: str, name: str, *, output: bool = False) -> None:
        total = sums.setdefault(name, Sum())

        def hook(_: nn.Module, given: tuple[Any, ...], result: Tensor) -> None:
            total.add(result if output else given[0])

        handles.append(modules[source].register_forward_hook(hook))

    for i, layer in enumerate(layers):
        watch(f"layers.{layer}.q", f"layers.{i}.input")
        for name in ("o", "down"):
            watch(f"layers.{layer}.{name}", f"layers.{i}.{name}")
        for name in ("norm1", "norm2"):
            watch(f"layers.{layer}.{name}", f"layers.{i}.{name}", output=True)
    watch("head", "head")
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; every module's own mode after it."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training

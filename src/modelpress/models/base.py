"""The Model contract: what every network offers to stages, objectives, exporters and engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Batch = Mapping[str, Tensor]


@dataclass
class Output:
    """What one forward pass returns. Anything not asked for is ``None``.

    Shapes: B batch, S sequence, C classes, H heads, D hidden width.
    """

    logits: Tensor | None = None  # (B, C)
    hidden_states: tuple[Tensor, ...] | None = None  # embeddings first, then one (B, S, D) per layer
    attentions: tuple[Tensor, ...] | None = None  # scores before softmax, one (B, H, S, S) per layer, mask not added
    embeddings: Mapping[str, Tensor] | None = None  # towers of a dual encoder: name -> (B, E)


@dataclass(frozen=True)
class Tower:
    """One exportable graph of a model: a classifier has one, CLIP has an image and a text tower."""

    name: str
    module: nn.Module  # positional tensors in the order of ``example``; returns a tensor or a tuple
    example: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    dynamic_axes: Mapping[str, Mapping[int, str]]  # input name -> {axis: axis name}


class Model(nn.Module):
    """A network with a name for its task. Subclasses: ``models/text.py`` (later clip, detection)."""

    labels: list[str]

    def forward(self, batch: Batch) -> Output:
        raise NotImplementedError

    def capture(self, needs: frozenset[str]) -> None:
        """Ask for ``hidden_states`` and/or ``attentions`` in every following forward (empty set: none, fastest)."""
        raise NotImplementedError

    def example(self) -> dict[str, Tensor]:
        """A small valid batch without labels."""
        raise NotImplementedError

    def towers(self) -> list[Tower]:
        """The graphs to export."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write ``modelpress.json``, weights as safetensors and whatever pre-processing needs (tokenizer, labels)."""
        raise NotImplementedError


class Loadable(Protocol):
    @classmethod
    def load(cls, folder: Path) -> Model: ...


def parameter_count(model: nn.Module) -> int:
    """Number of scalar parameters, shared ones counted once."""
    return sum(p.numel() for p in model.parameters())


def load(folder: Path) -> Model:
    """Open what :meth:`Model.save` wrote. Reads JSON and safetensors only, unpickles nothing."""
    import json

    from hydra.utils import get_class

    record: dict[str, Any] = json.loads((Path(folder) / "modelpress.json").read_text())
    cls: Any = get_class(record["class"])
    with torch.device("cpu"):
        model: Model = cls.load(Path(folder))
    return model

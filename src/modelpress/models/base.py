"""The Model contract: what every network offers to stages, objectives, exporters and engines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.models.numerics import Numerics

if TYPE_CHECKING:
    from modelpress.pruning.masks import Masks

Batch = Mapping[str, Tensor]
NUMERICS = "numerics.json"


@dataclass
class Output:
    """What one forward pass returns. Anything not asked for is ``None``.

    Shapes: B batch, S sequence, C classes, H heads, D hidden width.
    """

    logits: Tensor | None = None  # (B, C)
    hidden_states: tuple[Tensor, ...] | None = None  # embeddings first, then one (B, S, D) per layer
    attentions: tuple[Tensor, ...] | None = None  # scores before softmax, one (B, H, S, S) per layer, mask not added
    embeddings: Mapping[str, Tensor] | None = None  # towers of a dual encoder: name -> (B, E), of length 1
    scale: Tensor | None = None  # of a dual encoder: what cosines are multiplied by to be logits, learned


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
    numerics: Numerics | None = None  # how its numbers are stored and computed once exported; None: float32
    masks: Masks | None = None  # which weights are pruned, in this stage and all later ones; None: dense

    @property
    def embedding_width(self) -> int | None:
        """E of a dual encoder; ``None``: a classifier."""
        return None

    def forward(self, batch: Batch) -> Output:
        raise NotImplementedError

    def answer(self, prompts: Iterable[Batch]) -> None:
        """Keep the texts that a dual encoder chooses from in evaluation; ``labels`` (B,) say whose each text is.

        A classifier has its classes and needs none.
        """

    def capture(self, needs: frozenset[str]) -> None:
        """Ask for ``hidden_states`` and/or ``attentions`` in every following forward (empty set: none, fastest)."""
        raise NotImplementedError

    def example(self) -> dict[str, Tensor]:
        """A small valid batch without labels."""
        raise NotImplementedError

    def towers(self) -> list[Tower]:
        """The graphs to export."""
        raise NotImplementedError

    def attention_layers(self) -> list[nn.Module]:
        """Layers whose two matrix products can be quantized; from now on they run a function that allows it.

        Raises:
            ModelPressError: this kind of model does not offer it.
        """
        raise ModelPressError(f"{type(self).__name__}: the products inside its attention cannot be quantized.")

    def sensitive(self) -> tuple[str, ...]:
        """Names of layers that stay in floating point unless the user says otherwise."""
        return ()

    def save(self, folder: Path) -> None:
        """Write ``modelpress.json``, weights as safetensors and whatever pre-processing needs (tokenizer, labels)."""
        raise NotImplementedError


class Loadable(Protocol):
    @classmethod
    def load(cls, folder: Path) -> Model: ...


def parameter_count(model: nn.Module) -> int:
    """Number of scalar parameters, shared ones counted once."""
    return sum(p.numel() for p in model.parameters())


def save(model: Model, folder: Path) -> None:
    """:meth:`Model.save`, and beside the weights what pruning made of them (``pruning.json``) and what INT8,
    FP16 or BF16 makes of them (``numerics.*``).
    """
    from modelpress.pruning import masks
    from modelpress.quantization import attach, files

    with attach.plain(model):
        model.save(folder)
    masks.save(model, folder)
    files.save(model, folder)


def load(folder: Path) -> Model:
    """Open what :func:`save` wrote. Reads JSON and safetensors only, unpickles nothing."""
    import json

    from hydra.utils import get_class

    from modelpress.pruning import masks

    record: dict[str, Any] = json.loads((Path(folder) / "modelpress.json").read_text())
    cls: Any = get_class(record["class"])
    with torch.device("cpu"):
        model: Model = cls.load(Path(folder))
    masks.restore(model, Path(folder))
    if (Path(folder) / NUMERICS).is_file():
        from modelpress.quantization import files

        files.restore(model, Path(folder))
    return model

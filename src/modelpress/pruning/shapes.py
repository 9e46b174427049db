"""The physical shape of an encoder: read off a network, written to a record, given back to a network on loading."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from modelpress.models import layout
from modelpress.models.architecture import SPELLING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

READERS = ("q", "k", "v", "up")  # read the residual stream
HEADS = ("num_attention_heads", "n_heads")  # what an attention layer calls its number of heads
INNER = ("all_head_size", "dim")  # and the width of all of them together


@dataclass(frozen=True)
class LayerShape:
    """One layer: attention heads, dimensions of each, feed-forward neurons."""

    heads: int
    head_width: int
    neurons: int

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_width


@dataclass(frozen=True)
class Shape:
    """An encoder: width of the residual stream, and its layers. Hashable."""

    width: int
    layers: tuple[LayerShape, ...]

    @property
    def uniform(self) -> bool:
        """Whether all layers are alike."""
        return len(set(self.layers)) <= 1

    @property
    def plain(self) -> bool:
        """Whether the numbers of a Hugging Face config say it all: equal layers, heads that add up to the width."""
        return self.uniform and all(layer.inner == self.width for layer in self.layers)

    def record(self) -> dict[str, Any]:
        """As JSON: ``{"width": D, "layers": [{"heads": …, "head_width": …, "neurons": …}, …]}``."""
        return {"width": self.width, "layers": [asdict(layer) for layer in self.layers]}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Shape:
        """The inverse of :meth:`record`."""
        return cls(int(record["width"]), tuple(LayerShape(**layer) for layer in record["layers"]))


def read(network: PreTrainedModel) -> Shape:
    """The shape of a network of a supported layout (``layout.supported``), from its weights."""
    parts = layout.modules(network)
    count = int(network.config.num_hidden_layers)
    return Shape(_sizes(parts["word"])[1], tuple(_layer(network, parts, i) for i in range(count)))


def _layer(network: PreTrainedModel, parts: Mapping[str, nn.Module], i: int) -> LayerShape:
    head_width = int(attention(network, parts[f"layers.{i}.q"]).attention_head_size)
    return LayerShape(_sizes(parts[f"layers.{i}.q"])[0] // head_width, head_width, _sizes(parts[f"layers.{i}.up"])[0])


def _sizes(module: nn.Module) -> torch.Size:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.shape


def attention(network: nn.Module, query: nn.Module) -> Any:
    """The attention layer that owns the projection ``query``."""
    return next(module for module in network.modules() if query in module.children())


def settle(network: PreTrainedModel, shape: Shape) -> None:
    """Attributes and config say what the weights of ``network`` already are.

    A config has one number of heads, which must divide the width. Where the shape is not plain it holds the largest
    one that does, as a place holder: the record in ``modelpress.json`` is what counts.
    """
    parts = layout.modules(network)
    for i, layer in enumerate(shape.layers):
        module = attention(network, parts[f"layers.{i}.q"])
        for name, value in ((HEADS, layer.heads), (INNER, layer.inner)):
            for spelling in name:
                if hasattr(module, spelling):
                    setattr(module, spelling, value)
        owners: list[Any] = [owner for owner in network.modules() if module in owner.children()]
        for owner in owners:
            if hasattr(owner, "dim"):  # DistilBERT repeats its width
                owner.dim = shape.width
    _configure(network.config, shape)


def _configure(config: Any, shape: Shape) -> None:
    heads = max(layer.heads for layer in shape.layers)
    numbers = {
        "hidden_size": shape.width,
        "num_hidden_layers": len(shape.layers),
        "num_attention_heads": next(n for n in range(heads, 0, -1) if shape.width % n == 0),
        "intermediate_size": max(layer.neurons for layer in shape.layers),
    }
    spelling = SPELLING.get(config.model_type, {})
    for name, value in numbers.items():
        setattr(config, spelling.get(name, name), value)
    if getattr(config, "embedding_size", None) is not None:
        config.embedding_size = shape.width  # electra


@torch.no_grad()
def resize(network: PreTrainedModel, shape: Shape) -> None:
    """Give a network made from the config of ``shape`` its shape, so that its weights can be loaded. They are lost."""
    parts = layout.modules(network)
    for i, layer in enumerate(shape.layers):
        for name in READERS:
            _linear(parts[f"layers.{i}.{name}"], layer.neurons if name == "up" else layer.inner, shape.width)
        _linear(parts[f"layers.{i}.o"], shape.width, layer.inner)
        _linear(parts[f"layers.{i}.down"], shape.width, layer.neurons)
        attention(network, parts[f"layers.{i}.q"]).attention_head_size = layer.head_width
        attention(network, parts[f"layers.{i}.q"]).scaling = layer.head_width**-0.5
    settle(network, shape)


def _linear(module: nn.Module, out: int, given: int) -> None:
    assert isinstance(module, nn.Linear)
    module.out_features, module.in_features = out, given
    module.weight = nn.Parameter(module.weight.new_zeros(out, given))
    module.bias = nn.Parameter(module.bias.new_zeros(out))


def blank(kind: type[PreTrainedModel], config: PreTrainedConfig, shape: Shape) -> PreTrainedModel:
    """A network of ``shape`` to load weights into. ``config`` and PyTorch's global random state stay as they were."""
    config = copy.deepcopy(config)
    _configure(config, shape)
    with torch.random.fork_rng(devices=[]):
        network = kind(config)
    resize(network, shape)
    return network


def open_sized(folder: Path, shape: Shape) -> PreTrainedModel:
    """A classifier that was saved with a shape no config can say."""
    from safetensors.torch import load_file
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(folder)
    classes: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    network = blank(classes[type(config)], config, shape)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network

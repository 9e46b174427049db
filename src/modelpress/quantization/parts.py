"""The parts of a network that one may want in float as a whole: a tower, its attention, its MLP or its patches."""

from __future__ import annotations

from torch import nn

from modelpress.models.attention import PRODUCTS
from modelpress.models.base import Model
from modelpress.quantization.sensitivity import groups

# components of the names of modules, in open_clip, timm and transformers; a layer of both is part of attention
ATTENTION = {"attn", "attention", "self_attn", PRODUCTS}
MLP = {"mlp", "ffn", "intermediate"}
BERT_MLP = ".output.dense"  # the second half of BERT's, which has no name of its own
PIXEL_CHANNELS = 3


def parts(model: Model) -> dict[str, tuple[tuple[str, ...], list[nn.Module]]]:
    """Title -> names and modules of the quantized layers that belong to it, as :func:`groups` gives them.

    Of a dual encoder ``image: attention`` and, whole, ``image``.
    """
    found: dict[str, tuple[tuple[str, ...], list[nn.Module]]] = {}
    for names, members in groups(model).items():
        kind, tower = kind_of(names[0], model), names[0].partition(".")[0]
        for title in [kind] if model.embedding_width is None else [tower, f"{tower}: {kind}"]:
            others, modules = found.get(title, ((), []))
            found[title] = others + names, [*modules, *members]
    return found


def kind_of(name: str, model: nn.Module) -> str:
    """``attention``, ``MLP``, ``patch embedding``, ``convolutions``, ``embeddings`` or ``projections`` (all else)."""
    steps, layer = set(name.split(".")), model.get_submodule(name)
    if steps & ATTENTION:
        return "attention"
    if steps & MLP or name.endswith(BERT_MLP):
        return "MLP"
    if isinstance(layer, nn.Embedding):
        return "embeddings"
    if isinstance(layer, nn.Conv2d):
        patches = layer.in_channels == PIXEL_CHANNELS and layer.kernel_size == layer.stride
        return "patch embedding" if patches else "convolutions"
    return "projections"

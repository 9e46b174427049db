"""The graphs that are exported of a dual encoder: from pixels or token ids to embeddings of length 1."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from modelpress.models.attention import PLAIN, using
from modelpress.models.layout import FAMILIES
from modelpress.models.tower import additive_mask


def huggingface(text: nn.Module) -> PreTrainedModel | None:
    """The transformers network inside a text tower, if there is one."""
    encoder = getattr(text, "transformer", None)
    return encoder if isinstance(encoder, PreTrainedModel) else None


def resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (B, 3, H, W) of another size brought to (height, width)."""
    if pixels.shape[-2:] == size:
        return pixels
    return F.interpolate(pixels, size, mode="bicubic", antialias=True)


class ImageTower(nn.Module):
    """(B, 3, H, W) -> (B, E)."""

    def __init__(self, image: nn.Module) -> None:
        super().__init__()
        self.image = image
        self.eval()

    def forward(self, *tensors: Tensor) -> Tensor:
        return F.normalize(self.image(*tensors), dim=-1)


class TextTower(nn.Module):
    """(B, S) token ids -> (B, E). The attention of the usual encoders is spelled so that runtimes fuse it."""

    def __init__(self, text: nn.Module, longest: int) -> None:
        super().__init__()
        self.text = text
        self.longest = longest  # tokens
        self.eval()

    def forward(self, *tensors: Tensor) -> Tensor:
        (input_ids,), encoder = tensors, huggingface(self.text)
        if encoder is None or encoder.config.model_type not in FAMILIES:
            return F.normalize(self.text(input_ids), dim=-1)
        text: Any = self.text
        present = input_ids != encoder.config.pad_token_id
        given = {"input_ids": input_ids, "attention_mask": additive_mask(present)}
        if "token_type_ids" in inspect.signature(encoder.forward).parameters:  # else they are gathered from a buffer
            given["token_type_ids"] = torch.zeros_like(input_ids)
        with using(encoder, PLAIN):
            states = encoder(**given)
        return F.normalize(text.proj(text.pooler(states, present.long())), dim=-1)

"""The graphs that are exported of a dual encoder: from pixels or token ids to embeddings of length 1."""

from __future__ import annotations

from typing import Any

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


class ImageTower(nn.Module):
    """(B, 3, H, W) -> (B, E)."""

    def __init__(self, image: nn.Module) -> None:
        super().__init__()
        self.image = image
        self.eval()

    def forward(self, pixel_values: Tensor) -> Tensor:
        return F.normalize(self.image(pixel_values), dim=-1)


class TextTower(nn.Module):
    """(B, S) token ids -> (B, E). The attention of the usual encoders is spelled so that runtimes fuse it."""

    def __init__(self, text: nn.Module, longest: int) -> None:
        super().__init__()
        self.text = text
        self.longest = longest  # tokens
        self.eval()

    def forward(self, input_ids: Tensor) -> Tensor:
        encoder = huggingface(self.text)
        if encoder is None or encoder.config.model_type not in FAMILIES:
            return F.normalize(self.text(input_ids), dim=-1)
        text: Any = self.text
        present = input_ids != encoder.config.pad_token_id
        with using(encoder, PLAIN):
            states = encoder(input_ids=input_ids, attention_mask=additive_mask(present))
        return F.normalize(text.proj(text.pooler(states, present.long())), dim=-1)

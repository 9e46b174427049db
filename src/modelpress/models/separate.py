"""Attention with its projections as Linear layers of their own, in place of modules that hide them from transforms.

``nn.MultiheadAttention`` keeps queries, keys and values in one bare parameter and calls none of its submodules, so a
third of each block would escape quantization and pruning. open_clip's attention pooling does the like.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modelpress.models.attention import plain_attention

MASKED = -1e4  # added to a score: exp of it is zero, and unlike -inf it fits every number format


class SeparateAttention(nn.Module):
    """What ``nn.MultiheadAttention(batch_first=True)`` computes. The number of heads follows from the projections."""

    def __init__(self, query: int, key: int, value: int, inner: int, head_width: int, out: int, bias: bool) -> None:
        super().__init__()
        self.head_width = head_width
        self.scaling = head_width**-0.5
        self.q = nn.Linear(query, inner, bias=bias)
        self.k = nn.Linear(key, inner, bias=bias)
        self.v = nn.Linear(value, inner, bias=bias)
        self.out = nn.Linear(inner, out, bias=bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, None]:
        """(B, T, D), (B, S, K), (B, S, V) -> (B, T, D). ``attn_mask`` is additive: (T, S), of which a longer one is
        cut, or (B · heads, T, S).
        """
        q, k, v = (
            projection(states).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for projection, states in ((self.q, query), (self.k, key), (self.v, value))
        )
        if attn_mask is not None:
            attn_mask = attn_mask[..., : query.shape[1], : key.shape[1]]
            attn_mask = attn_mask.unflatten(0, (-1, q.shape[1])) if attn_mask.ndim == 3 else attn_mask
        context, _weights = plain_attention(self, q, k, v, attn_mask, scaling=self.scaling)
        return self.out(context.flatten(2)), None

    @classmethod
    @torch.no_grad()
    def of(cls, layer: nn.MultiheadAttention) -> SeparateAttention:
        """The same numbers as ``layer``, apart."""
        if not layer.batch_first or layer.bias_k is not None or layer.add_zero_attn or layer.dropout:
            raise NotImplementedError("attention with batch_first=False, added keys or dropout")
        biased = layer.in_proj_bias is not None
        made = cls(layer.embed_dim, layer.kdim, layer.vdim, layer.embed_dim, layer.head_dim, layer.embed_dim, biased)
        packed = layer.in_proj_weight
        weights = (
            packed.chunk(3) if packed is not None else (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        )
        for part, weight in zip((made.q, made.k, made.v), weights, strict=True):
            part.weight.copy_(weight)
        made.out.weight.copy_(layer.out_proj.weight)
        if biased:
            for part, bias in zip((made.q, made.k, made.v), layer.in_proj_bias.chunk(3), strict=True):
                part.bias.copy_(bias)
            made.out.bias.copy_(layer.out_proj.bias)
        return made


class AttentionPool(nn.Module):
    """The pooling of open_clip's ResNets: the mean of all places asks all places. (B, C, H, W) -> (B, E)."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        width = layer.q_proj.in_features
        head_width = width // layer.num_heads
        self.positional_embedding = layer.positional_embedding
        self.attn = SeparateAttention(width, width, width, width, head_width, layer.c_proj.out_features, bias=True)
        self.attn.q, self.attn.k, self.attn.v, self.attn.out = layer.q_proj, layer.k_proj, layer.v_proj, layer.c_proj

    def forward(self, x: Tensor) -> Tensor:
        places = x.flatten(2).transpose(1, 2)
        places = torch.cat([places.mean(1, keepdim=True), places], 1) + self.positional_embedding
        pooled: Tensor = self.attn(places[:, :1], places, places)[0][:, 0]
        return pooled


def separate(network: nn.Module) -> nn.Module:
    """Replace every such module in ``network``, in place; returns it."""
    from open_clip.modified_resnet import AttentionPool2d

    for owner in list(network.modules()):
        for name, child in owner.named_children():
            if type(child) is nn.MultiheadAttention:
                setattr(owner, name, SeparateAttention.of(child))
            elif isinstance(child, AttentionPool2d):
                setattr(owner, name, AttentionPool(child))
    return network

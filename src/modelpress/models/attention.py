"""Attention functions of our own, chosen per network through transformers' attention interface.

``SCORES`` keeps the scores before softmax while it computes the same output as sdpa (Hugging Face returns only the maps
after softmax, and only in eager mode). ``PLAIN`` spells attention as MatMul, Add, Softmax, MatMul, which exports to the
graph that inference runtimes fuse best.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

SCORES = "modelpress_scores"
PLAIN = "modelpress_plain"
SHORT = 256  # tokens
PRODUCTS = "product_inputs"  # submodule of an attention layer: the quantizers of q, k, p (after softmax) and v

_sink: ContextVar[list[Tensor] | None] = ContextVar("attention_scores", default=None)


def scores_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention that also hands its scores to :func:`collecting`.

    Shapes: query, key, value (B, H, S, D); mask (B, 1, S, S), boolean (true: attend) or additive; output (B, S, H, D).
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(quantized(module, "q", query * scale), quantized(module, "k", key.transpose(2, 3)))
    sink = _sink.get()
    if sink is not None:
        sink.append(scores)
    weights = torch.softmax(_masked(scores, attention_mask), dim=-1).to(query.dtype)
    weights = F.dropout(quantized(module, "p", weights), p=dropout, training=module.training)
    return torch.matmul(weights, quantized(module, "v", value)).transpose(1, 2), None


def plain_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Inference-only attention; ``attention_mask`` is additive and broadcasts, as (B, 1, 1, S)."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query = query * scale  # before the product: a smaller tensor to scale than the scores
    scores = torch.matmul(quantized(module, "q", query), quantized(module, "k", key.transpose(2, 3)))
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = quantized(module, "p", torch.softmax(scores, dim=-1))
    return torch.matmul(weights, quantized(module, "v", value)).transpose(1, 2), None


def quantized(module: nn.Module, name: str, x: Tensor) -> Tensor:
    """An operand of the two products, through its quantizer if the attention layer has some (``PRODUCTS``).

    It comes as the product takes it, the keys transposed: in the graph nothing lies between quantizer and product.
    """
    quantizers = module._modules.get(PRODUCTS)
    if quantizers is None:
        return x
    result: Tensor = quantizers.get_submodule(name)(x)
    return result


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores + mask


@contextmanager
def collecting() -> Iterator[list[Tensor]]:
    """Scores of every attention layer run inside the block, in order of execution."""
    scores: list[Tensor] = []
    token = _sink.set(scores)
    try:
        yield scores
    finally:
        _sink.reset(token)


@contextmanager
def using(network: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Run ``network`` with another attention function inside the block."""
    before = network.config._attn_implementation
    network.set_attn_implementation(implementation)
    try:
        yield
    finally:
        network.set_attn_implementation(before)


@contextmanager
def training_kernel(tokens: Tensor) -> Iterator[None]:
    """The faster of PyTorch's attention kernels to train with on a CPU, for (B, S) tokens.

    Without dropout PyTorch takes its fused kernel, whose backward pass in bf16 costs four times as much as the plain
    one at 27 tokens, twice as much at 128, and half as much at 512.
    """
    if tokens.device.type != "cpu" or tokens.shape[1] > SHORT:
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


AttentionInterface.register(SCORES, scores_attention)
AttentionMaskInterface.register(SCORES, sdpa_mask)
AttentionInterface.register(PLAIN, plain_attention)
AttentionMaskInterface.register(PLAIN, sdpa_mask)

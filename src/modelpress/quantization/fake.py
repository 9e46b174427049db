"""The maths of symmetric INT8. Pure functions; x is real, q an integer in [-128, 127], the zero point is 0.

    scale = amax / 127        q = clamp(round(x / scale), -128, 127)        x̂ = q · scale

"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", arXiv:1712.05877.
Rounding is to the nearest, ties to even, as in ONNX. ``axis=None``: one scale for the whole tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOW, HIGH = -128, 127
TINY = 1e-8  # amax of an all-zero channel: its scale must stay positive


def scale_of(amax: Tensor) -> Tensor:
    """Scale at which ``amax`` is the largest value represented."""
    return amax.detach().float().clamp_min(TINY) / HIGH


def channel_amax(x: Tensor, axis: int) -> Tensor:
    """Largest absolute value of each slice along ``axis``: (n,) for a tensor with n slices."""
    x = x.detach()
    others = [a for a in range(x.ndim) if a != axis % x.ndim]
    return torch.maximum(-x.amin(others), x.amax(others)) if others else x.abs()  # amin([]) would take all axes


def quantize(x: Tensor, scale: Tensor, axis: int | None = None) -> Tensor:
    """Integers as int8, the shape of ``x``."""
    return torch.clamp(torch.round(x.float() / _spread(scale, x, axis)), LOW, HIGH).to(torch.int8)


def dequantize(q: Tensor, scale: Tensor, axis: int | None = None) -> Tensor:
    """``q · scale`` in float32."""
    return q.float() * _spread(scale, q, axis)


def fake_quantize(x: Tensor, scale: Tensor, axis: int | None = None) -> Tensor:
    """``dequantize(quantize(x))`` in float32, with the straight-through gradient: 1 inside the range, 0 outside
    (arXiv:1308.3432).
    """
    zero = torch.zeros(scale.shape, dtype=torch.int32, device=x.device)
    if axis is None:
        return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, LOW, HIGH)
    return torch.fake_quantize_per_channel_affine(x.float(), scale, zero, axis % x.ndim, LOW, HIGH)


def learned_fake_quantize(x: Tensor, scale: Tensor) -> Tensor:
    """:func:`fake_quantize` per tensor whose scale learns too ("Learned Step Size Quantization", arXiv:1902.08153).

    Inside the range d x̂ / d scale = q - x / scale, outside it is the bound; scaled by 1 / sqrt(numel · 127).
    """
    zero = torch.zeros(1, dtype=torch.float32, device=x.device)
    factor = float((x.numel() * HIGH) ** -0.5)
    return torch._fake_quantize_learnable_per_tensor_affine(x.float(), scale.reshape(1), zero, LOW, HIGH, factor)


def spread(vector: Tensor, ndim: int, axis: int) -> Tensor:
    """(n,) shaped to run along ``axis`` of a tensor with ``ndim`` axes."""
    shape = [1] * ndim
    shape[axis] = -1
    return vector.reshape(shape)


def _spread(scale: Tensor, like: Tensor, axis: int | None) -> Tensor:
    """The scale as it broadcasts over ``like``."""
    return scale if axis is None else spread(scale, like.ndim, axis)

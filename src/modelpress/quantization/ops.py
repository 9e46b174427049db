"""Quantization as graph nodes: two operators that ``torch.onnx.export`` turns into QuantizeLinear and DequantizeLinear.

``aten.fake_quantize_*`` cannot be exported with dynamic axes (torch 2.15 has no Meta kernel for it); these can.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from modelpress.quantization import fake


@torch.library.custom_op("modelpress::quantize", mutates_args=())
def quantize(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """int8 of ``x``, one scale; ``zero`` is int8 0."""
    return fake.quantize(x, scale)


@quantize.register_fake
def _(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=torch.int8)


@torch.library.custom_op("modelpress::dequantize", mutates_args=())
def dequantize(q: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    """float32 of int8 ``q``; a scale of one axis runs along ``axis``."""
    return fake.dequantize(q, scale, axis if scale.ndim else None)


@dequantize.register_fake
def _(q: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    return torch.empty_like(q, dtype=torch.float32)


@cache
def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For ``torch.onnx.export(custom_translation_table=…)``."""
    from onnxscript import opset20 as op

    def quantize_linear(x: Any, scale: Any, zero: Any) -> Any:
        return op.QuantizeLinear(x, scale, zero)

    def dequantize_linear(q: Any, scale: Any, zero: Any, axis: int) -> Any:
        return op.DequantizeLinear(q, scale, zero, axis=axis)

    return {
        torch.ops.modelpress.quantize.default: quantize_linear,
        torch.ops.modelpress.dequantize.default: dequantize_linear,
    }

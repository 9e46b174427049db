"""Quantized twins of PyTorch's layers. They share the parameters of the layer they replace, names included."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.quantization import fake, ops
from modelpress.quantization.quantizers import InputQuantizer


class QuantizedLayer(nn.Module):
    """What the twins share: INT8 weights, one scale per channel along ``channels``.

    While training the scale follows the weights; in evaluation mode and in the exported graph it stands.
    """

    weight: Tensor
    weight_scale: Tensor
    correction: Tensor | None  # of the bias, while in INT8
    channels = 0
    _plain: nn.Module
    export_bias: Tensor | None = None
    integers: Tensor | None = None  # while exporting: the weights as int8, as the graph wants them
    inputs: InputQuantizer | None  # set in adopt: a class attribute would hide the submodule

    def adopt(self, layer: nn.Module, inputs: InputQuantizer | None, reader: int = 0) -> Self:
        """Become the twin of ``layer``, the ``reader``-th of those that share ``inputs``."""
        self.__dict__.update({k: v for k, v in layer.__dict__.items() if k not in ("_modules", "_buffers")})
        self._buffers, self._modules = dict(layer._buffers), {}
        object.__setattr__(self, "_plain", layer)  # not a submodule: its parameters are ours
        self.inputs, self.reader = inputs, reader
        self.register_buffer("weight_scale", torch.ones(self.weight.shape[self.channels], device=self.weight.device))
        self.register_buffer("correction", None)
        self.refresh()
        return self

    def original(self) -> nn.Module:
        """The plain layer, on the same parameters."""
        return self._plain

    @property
    def plain_bias(self) -> Tensor | None:
        """The bias of the plain layer, if it has one."""
        return self._parameters.get("bias")

    @property
    def quantizes(self) -> bool:
        """Whether the forward pass is the quantized one."""
        return self.inputs is None or self.inputs.mode == "int8"

    def full_weight(self) -> Tensor:
        """The weights before rounding, balanced against the activations."""
        if self.inputs is None or self.inputs.balance is None:
            return self.weight
        return self.weight * fake.spread(self.inputs.balance, self.weight.ndim, 1)

    def corrected_bias(self) -> Tensor | None:
        """The bias that belongs to the rounded weights."""
        bias = self.plain_bias
        return bias if bias is None or self.correction is None else bias + self.correction

    @torch.no_grad()
    def refresh(self) -> None:
        """Scales from the weights as they are now."""
        self._follow(self.full_weight())

    @torch.no_grad()
    def _follow(self, weight: Tensor) -> None:
        self.weight_scale.copy_(fake.scale_of(fake.channel_amax(weight, self.channels)))

    def fake_weight(self) -> Tensor:
        """Float weights on the grid of 8 bits."""
        weight = self.full_weight()
        if self.training:
            self._follow(weight)
        return fake.fake_quantize(weight, self.weight_scale, self.channels)

    def train(self, mode: bool = True) -> Self:
        self.refresh()
        return super().train(mode)

    def start_export(self) -> None:
        """Hold the integers ready: an exported graph must not compute them."""
        self.refresh()
        self.integers = fake.quantize(self.full_weight(), self.weight_scale, self.channels)
        self.register_buffer("weight_zero", torch.zeros_like(self.weight_scale, dtype=torch.int8), persistent=False)
        bias = self.corrected_bias()
        self.export_bias = None if bias is None else bias.detach()  # a Parameter could not take the attribute's place

    def end_export(self) -> None:
        """Let go of what :meth:`start_export` made, as far as it came."""
        self.integers = self.export_bias = None
        if "weight_zero" in self._buffers:
            del self.weight_zero


class QuantizedLinear(QuantizedLayer, nn.Linear):
    """``Linear`` on INT8 inputs and weights; the bias and what comes out are float."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.inputs is not None
        x = self.inputs(x, self.reader)
        y: Tensor
        if not self.quantizes:
            y = F.linear(x, self.weight, self.plain_bias)
        elif self.integers is None:
            y = F.linear(x, self.fake_weight(), self.corrected_bias())
        else:  # the graph holds the product and the bias apart, and the weights as the product wants them
            y = x @ ops.dequantize(self.integers, self.weight_scale, self.weight_zero, 1)
            y = y if self.export_bias is None else y + self.export_bias
        return y

    def start_export(self) -> None:
        super().start_export()
        assert self.integers is not None
        self.integers = self.integers.T.contiguous()  # (in, out): the graph then multiplies without a Transpose


class QuantizedConv2d(QuantizedLayer, nn.Conv2d):
    """``Conv2d`` on INT8 inputs and weights."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.inputs is not None
        x = self.inputs(x, self.reader)
        y: Tensor
        if not self.quantizes:
            y = self._conv_forward(x, self.weight, self.plain_bias)
        elif self.integers is None:
            y = self._conv_forward(x, self.fake_weight(), self.corrected_bias())
        else:
            weight = ops.dequantize(self.integers, self.weight_scale, self.weight_zero, 0)
            y = self._conv_forward(x, weight, self.export_bias)
        return y


class QuantizedEmbedding(QuantizedLayer, nn.Embedding):
    """A table of INT8 rows, one scale per column. Rows are taken first and become float after, so that no engine turns
    the whole table into floats for every request.

    While training its scale follows the weights from validation to validation only: looking at the whole table in
    every step would cost more than the layer does.
    """

    channels = 1
    active = True  # off while calibrating

    def forward(self, ids: Tensor) -> Tensor:
        rows: Tensor
        if not self.active:
            rows = super().forward(ids)
        elif self.integers is None:
            rows = fake.fake_quantize(super().forward(ids), self.weight_scale, -1)
        else:
            rows = ops.dequantize(F.embedding(ids, self.integers), self.weight_scale, self.weight_zero, -1)
        return rows


TWINS: dict[type[nn.Module], type[QuantizedLayer]] = {
    nn.Linear: QuantizedLinear,
    nn.Conv2d: QuantizedConv2d,
    nn.Embedding: QuantizedEmbedding,
}

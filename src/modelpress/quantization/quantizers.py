"""What happens to the activations that a quantized layer reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.quantization import fake, ops
from modelpress.quantization.observers import Observer

MEMORY = "_modelpress_quantized"  # on a tensor: what a quantizer made of it
SMALLEST_SHARE = 1 / 16  # of its calibrated scale that a learned one may shrink to


@dataclass
class Memory:
    """What the quantizer that owns ``scale`` made of a tensor, for the readers that have not asked for it yet.

    The owner itself is not compared: while torch.export traces, it comes in another guise for each reader.
    """

    scale: Tensor
    mode: str
    versions: tuple[int, int]  # of the tensor and the scale: nobody wrote into them since
    value: Tensor
    served: set[int] = field(default_factory=set)  # a reader that asks again runs in another forward pass

    def serves(self, quantizer: InputQuantizer, x: Tensor, reader: int) -> bool:
        same = self.scale is quantizer.scale and self.mode == quantizer.mode
        return same and self.versions == (x._version, self.scale._version) and reader not in self.served


class InputQuantizer(nn.Module):
    """One activation tensor; layers that read the same tensor (q, k and v) share one quantizer.

    ``float``: values pass unchanged. ``observe``: they pass and an observer sees them. ``int8``: they are quantized.
    ``balance`` (n,) divides the channels (last axis for Linear, axis 1 for Conv2d) before anything else
    ("SmoothQuant", arXiv:2211.10438); the readers multiply their weights by it.
    """

    scale: Tensor
    balance: Tensor | None
    needs_range = True

    def __init__(self, readers: int = 1, axis: int = -1) -> None:
        super().__init__()
        self.readers, self.axis = readers, axis
        self.mode = "float"
        self.momentum: float | None = None  # of the running range while training; None: the range stands
        self.observer: Observer | None = None
        self.watch: Callable[[Tensor], None] | None = None  # sees the tensor as it comes, unbalanced
        self.exporting = False
        self.least = 0.0  # that a learned scale may become
        self.register_buffer("scale", torch.tensor(float("nan")))
        self.register_buffer("balance", None)
        self.register_buffer("zero", torch.zeros((), dtype=torch.int8), persistent=False)

    def forward(self, x: Tensor, reader: int = 0) -> Tensor:
        """``x`` as the layer sees it; ``reader`` tells apart those that share it."""
        if self.mode == "float" and self.watch is None:
            return x
        if self.readers == 1 or x.is_inference():  # an inference tensor does not tell whether it was written into
            return self._read(x)
        return self._shared(x, reader)

    def _shared(self, x: Tensor, reader: int) -> Tensor:
        """Read once per forward pass; the last reader clears the memory, because ``x`` may be a batch's tensor."""
        known: Memory | None = getattr(x, MEMORY, None)
        if known is None or not known.serves(self, x, reader):
            value = self._read(x)
            known = Memory(self.scale, self.mode, (x._version, self.scale._version), value)
            setattr(x, MEMORY, known)
        known.served.add(reader)
        if len(known.served) == self.readers:
            delattr(x, MEMORY)
        return known.value

    def _read(self, x: Tensor) -> Tensor:
        if self.mode == "int8":
            return self.quantized(x)
        if self.watch is not None:
            self.watch(x.detach())
        if self.mode == "observe" and self.observer is not None:
            self.observer.observe(self.balanced(x.detach()))
        return x

    def balanced(self, x: Tensor) -> Tensor:
        """``x / balance``."""
        if self.balance is None:
            return x
        return x * (1 / self.balance if self.axis == -1 else fake.spread(1 / self.balance, x.ndim, self.axis))

    def quantized(self, x: Tensor) -> Tensor:
        """Float values on the grid of 8 bits; while exporting, the graph's QuantizeLinear and DequantizeLinear."""
        x = self.balanced(x)
        if self.exporting:
            pair: Tensor = ops.dequantize(ops.quantize(x, self.scale, self.zero), self.scale, self.zero, 0)
            return pair
        if self.training and self.momentum is not None:
            self.follow(x)
        if self.training and isinstance(self.scale, nn.Parameter):
            return fake.learned_fake_quantize(x, self.scale)
        return fake.fake_quantize(x, self.scale.detach())

    @torch.no_grad()
    def follow(self, x: Tensor) -> None:
        """Move the range a little towards this batch's."""
        assert self.momentum is not None
        amax = fake.channel_amax(x.reshape(-1, 1), 1)[0]
        if torch.distributed.is_initialized():  # several devices share a batch
            torch.distributed.all_reduce(amax, torch.distributed.ReduceOp.MAX)
        self.scale.lerp_(fake.scale_of(amax), 1 - self.momentum)

    def settle(self) -> None:
        """Take the range that the observer has found."""
        if self.observer is None:
            raise ModelPressError("This input was never observed: calibrate first.")
        self.scale = fake.scale_of(self.observer.amax())
        self.observer = None

    def learn(self) -> None:
        """Make the scale a parameter that training changes."""
        scale = self.scale.detach().clone()
        del self.scale
        self.scale = nn.Parameter(scale)
        self.least = SMALLEST_SHARE * float(scale)

    @torch.no_grad()
    def hold(self) -> None:
        """Keep a learned scale positive: an optimizer's step does not know that it must be."""
        if isinstance(self.scale, nn.Parameter):
            self.scale.clamp_(min=self.least)

    def freeze(self) -> None:
        """The range stands from now on."""
        self.momentum = None
        self.hold()
        self.scale.requires_grad_(False)


class DynamicQuantizer(InputQuantizer):
    """The range of each tensor at run time, asymmetric, unsigned: ONNX's DynamicQuantizeLinear.

    It needs no calibration, and the graph holds nothing of it: the runtime's lowering adds it.
    """

    needs_range = False

    def quantized(self, x: Tensor) -> Tensor:
        x = self.balanced(x)
        return x if self.exporting else dynamic_fake_quantize(x)

    def settle(self) -> None:
        self.scale, self.observer = torch.ones(()), None


class FloatInput(DynamicQuantizer):
    """The input of a convolution whose weights alone are INT8: no runtime here quantizes it at run time."""

    def quantized(self, x: Tensor) -> Tensor:
        return x


def dynamic_fake_quantize(x: Tensor) -> Tensor:
    """Round trip through uint8: scale = (max - min) / 255 with 0 inside the range; straight-through gradient."""
    with torch.no_grad():
        low, high = x.detach().float().aminmax()
        low, high = low.clamp_max(0), high.clamp_min(0)
        scale = ((high - low) / 255).clamp_min(fake.TINY)
        zero = torch.clamp(torch.round(-low / scale), 0, 255)
        x_hat = (torch.clamp(torch.round(x.float() / scale) + zero, 0, 255) - zero) * scale
    return x.float() + (x_hat - x.float()).detach()

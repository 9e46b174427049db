"""PyTorch on an NVIDIA GPU: strict FP32 or TF32, pinned copies, and events that split a request into its parts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from modelpress.engines.base import Arrays
from modelpress.engines.torch import TorchSession

PARTS = ("h2d", "compute", "d2h")
PRODUCTS = {"fp32": "ieee", "tf32": "tf32"}  # of float32 matrices and convolutions


def set_fp32_products(precision: str) -> None:
    """Products of float32 tensors keep all 23 bits of mantissa unless ``precision`` is tf32. Holds for the process."""
    import torch

    kind = PRODUCTS.get(precision, "ieee")
    torch.backends.cuda.matmul.fp32_precision = kind
    torch.backends.cudnn.conv.fp32_precision = kind  # type: ignore[attr-defined]


def fp32_products() -> str:
    """``fp32`` or ``tf32``, read back. Raises RuntimeError where matrices and convolutions differ."""
    import torch

    convolutions = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    found = {torch.backends.cuda.matmul.fp32_precision, convolutions}
    if len(found) != 1:
        raise RuntimeError(f"matrices and convolutions run in different precisions: {sorted(found)}")
    return {kind: name for name, kind in PRODUCTS.items()}[found.pop()]


class CudaSession(TorchSession):
    """A request begins and ends in memory of the CPU; the stream is synchronised before the answer is given."""

    def __init__(self, call: Any, network: Any) -> None:
        super().__init__(call, network)
        if self.precision == "fp32":
            self.precision = fp32_products()
        self.marks = [self.torch.cuda.Event(enable_timing=True) for _ in range(len(PARTS) + 1)]

    def run(self, inputs: Arrays) -> dict[str, Any]:
        """As on the CPU, with an event before and after every part."""
        begin, copied, computed, end = self.marks
        with self.torch.inference_mode():
            begin.record()
            batch = self.placed(inputs)
            copied.record()
            output = self.call(batch)
            computed.record()
            answers = self.arrays(output)
            end.record()
        end.synchronize()
        return answers

    def placed(self, inputs: Arrays) -> dict[str, Any]:
        """Copied through pinned memory, so that the copy is one transfer and the host does not wait for it."""
        pinned = {name: self.torch.from_numpy(array).pin_memory() for name, array in inputs.items()}
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in pinned.items()}
        return {k: v.to(self.kind) if v.is_floating_point() else v for k, v in batch.items()}

    def device_ms(self) -> dict[str, float]:
        """Between the events of the last request; eager PyTorch's gaps between kernels are part of ``compute``."""
        spent = [before.elapsed_time(after) for before, after in pairwise(self.marks)]
        return dict(zip(PARTS, spent, strict=True))

    def details(self) -> dict[str, Any]:
        """As on the CPU, with the GPU's name and how float32 products run."""
        cuda = self.torch.cuda
        peak_mb = cuda.max_memory_allocated() / 2**20
        return {**super().details(), "gpu": cuda.get_device_name(), "products": fp32_products(), "tensors_mb": peak_mb}

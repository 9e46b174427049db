"""A typed graph run with its own roundings: no runtime here does that on a CPU.

ONNX Runtime widens fp16 to float32 as a whole, so that no overflow shows, and has no bf16 kernels; OpenVINO computes
fp16 graphs in float32 or bf16. ONNX's reference evaluator rounds each operator's result to its type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

if TYPE_CHECKING:
    from torch import Tensor

    from modelpress.models.base import Model

Array = NDArray[Any]


class MatMul(OpRun):
    """Sums in float32, as hardware does; the evaluator's own sums in 16 bits, a thousand times slower."""

    def _run(self, a: Array, b: Array) -> tuple[Array]:
        return (np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype),)


class Gemm(OpRun):
    """See :class:`MatMul`."""

    def _run(
        self,
        a: Array,
        b: Array,
        c: Array | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        transA: int = 0,
        transB: int = 0,
    ) -> tuple[Array]:
        left, right = (x.astype(np.float32).T if t else x.astype(np.float32) for x, t in ((a, transA), (b, transB)))
        total = alpha * (left @ right) + (0.0 if c is None else beta * c.astype(np.float32))
        return (total.astype(a.dtype),)


class Conv(OpRun):
    """See :class:`MatMul`. (B, C, H, W) and (O, C / groups, h, w) -> (B, O, H', W')."""

    def _run(
        self,
        x: Array,
        weight: Array,
        bias: Array | None = None,
        auto_pad: str | None = None,
        dilations: list[int] | None = None,
        group: int | None = None,
        kernel_shape: list[int] | None = None,
        pads: list[int] | None = None,
        strides: list[int] | None = None,
    ) -> tuple[Array]:
        (top, left, bottom, right), groups = pads or (0, 0, 0, 0), group or 1
        (down, across), (tall, wide) = strides or (1, 1), dilations or (1, 1)
        out, _, h, w = weight.shape
        padded = np.pad(x.astype(np.float32), ((0, 0), (0, 0), (top, bottom), (left, right)))
        seen = np.lib.stride_tricks.sliding_window_view(padded, ((h - 1) * tall + 1, (w - 1) * wide + 1), axis=(2, 3))
        seen = seen[:, :, ::down, ::across, ::tall, ::wide]  # (B, C, H', W', h, w)
        seen = seen.reshape(len(x), groups, -1, *seen.shape[2:])
        kernels = weight.astype(np.float32).reshape(groups, out // groups, -1, h, w)
        total = np.stack([np.tensordot(seen[:, g], kernels[g], ((1, 4, 5), (1, 2, 3))) for g in range(groups)], 1)
        total = np.moveaxis(total, -1, 2).reshape(len(x), out, *total.shape[2:4])
        total = total if bias is None else total + bias.astype(np.float32)[:, None, None]
        return (total.astype(x.dtype),)


def run(graph: onnx.ModelProto | Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name. Seconds for a small network: for checks on a few requests, not for data sets."""
    proto = onnx.load(str(graph)) if isinstance(graph, Path) else graph
    evaluator = ReferenceEvaluator(proto, new_ops=[MatMul, Gemm, Conv])
    with np.errstate(all="ignore"):  # an overflow shall arrive at the outputs
        values = evaluator.run(None, dict(inputs))
    return dict(zip(evaluator.output_names, values, strict=True))


def parity(model: Model, onnx_path: Path, batches: Iterable[Mapping[str, Tensor]], tower: str = "main") -> float:
    """Largest absolute difference: the network in PyTorch float32 against the typed file; NaN counts as inf.

    ``batches`` as for :func:`modelpress.export.check.parity`. Raises ``ValueError`` for no batch.
    """
    from modelpress.export.check import max_difference

    proto = onnx.load(str(onnx_path))
    names = [value.name for value in proto.graph.input]

    def theirs(batch: Mapping[str, Tensor]) -> Array:
        return next(iter(run(proto, {name: batch[name].cpu().numpy() for name in names}).values()))

    return max_difference(model, theirs, batches, tower)

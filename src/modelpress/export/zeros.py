"""Zeros in an exported file, counted: in the weights that matrix products read, in all, and after compression."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelpress.export.graph_view import GraphView

if TYPE_CHECKING:
    import onnx

PRODUCTS = ("MatMul", "Gemm", "Conv", "MatMulInteger", "ConvInteger")
SAME_ZEROS = ("DequantizeLinear", "Cast", "Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze")
LEVEL, CHUNK = 6, 1 << 20  # zlib's default level


def product_weights(proto: onnx.ModelProto) -> list[NDArray[Any]]:
    """Constants of two axes or more that a product multiplies by, each once; what only turns or casts them is looked
    through. Tables that are looked up are not among them: no kernel could skip their zeros.
    """
    view = GraphView(proto)
    read = (name for node in proto.graph.node if node.op_type in PRODUCTS for name in node.input[:2])
    found = dict.fromkeys(name for name in (_constant(view, name) for name in read) if name is not None)
    arrays = (view.array(name) for name in found)
    return [array for array in arrays if array is not None and array.ndim >= 2]


def _constant(view: GraphView, name: str) -> str | None:
    """The constant that ``name`` has its zeros from, if there is one."""
    while name not in view.tensors:
        node = view.producer.get(name)
        if node is None or node.op_type not in SAME_ZEROS:
            return None
        name = node.input[0]
    return name


def share(arrays: Iterable[NDArray[Any]]) -> float:
    """Share of zeros among all entries; 0 where there are none."""
    sizes = [(array.size, int(np.count_nonzero(array))) for array in arrays]
    entries = sum(size for size, _ in sizes)
    return 1.0 - sum(filled for _, filled in sizes) / entries if entries else 0.0


def compressed_mb(path: Path) -> float:
    """Size of a file in 10⁶ bytes after zlib: what scattered zeros save on disk and on the wire."""
    squeeze, size = zlib.compressobj(LEVEL), 0
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(squeeze.compress(chunk))
    return (size + len(squeeze.flush())) / 1e6

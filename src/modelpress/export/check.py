"""What an exported file really is: does it answer like the network, and what does it hold. Torch only in :func:`parity`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

    from modelpress.models.base import Model

MATRIX_PRODUCTS = ("MatMul", "Gemm", "Conv")


def parity(model: Model, onnx_path: Path, batches: Iterable[Mapping[str, Tensor]]) -> float:
    """Largest absolute difference of logits: the network in PyTorch fp32 against the file in ONNX Runtime fp32.

    ``batches`` hold at least the file's inputs, (B, S) each; vary both sizes, and pad. Raises ``ValueError`` for no batch.
    """
    import torch

    from modelpress.export.onnx import evaluation

    session = _session(onnx_path)
    names = [entry.name for entry in session.get_inputs()]
    worst: list[float] = []
    with evaluation(model), torch.no_grad():
        for batch in batches:
            ours = model(batch).logits
            theirs = session.run(["logits"], {name: batch[name].cpu().numpy() for name in names})[0]
            worst.append(float(np.abs(ours.float().cpu().numpy() - theirs).max()))
    if not worst:
        raise ValueError("parity needs at least one batch")
    return max(worst)


def _session(onnx_path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # An idle pool that spins would disturb whatever this process measures next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])


def probe_batches(model: Model, sizes: Sequence[tuple[int, int]] = ((1, 2), (1, 9), (3, 16), (2, 33))) -> list[dict[str, Tensor]]:
    """Batches of (batch, sequence) ``sizes`` grown from the model's example; in the larger ones the last row is padded."""
    grown = []
    for rows, length in sizes:
        batch = {name: _tile(tensor[:1], rows, length) for name, tensor in model.example().items()}
        if rows > 1 and "attention_mask" in batch:
            batch["attention_mask"][-1, length // 2 :] = 0
        grown.append(batch)
    return grown


def _tile(row: Tensor, rows: int, length: int) -> Tensor:
    repeats = -(-length // row.shape[1])
    return row.repeat(rows, repeats)[:, :length].clone()


def inspect(onnx_path: Path) -> dict[str, Any]:
    """Facts of a file, without torch.

    ``params_m`` (millions of scalars in weight initializers), ``size_mb`` (10⁶ bytes), ``sparsity`` (share of zeros in
    weights of two axes or more), ``ops`` (node type -> count), ``opset``, ``ir_version``, ``inputs`` and ``outputs``
    (name -> list of sizes and axis names), ``dynamic_axes`` (names).
    """
    import onnx

    proto = onnx.load(str(onnx_path))
    weights = list(_weights(proto))
    matrices = [array for array in weights if array.ndim >= 2]
    entries = sum(array.size for array in matrices)
    inputs = {entry.name: _shape(entry) for entry in proto.graph.input}
    return {
        "params_m": sum(array.size for array in weights) / 1e6,
        "size_mb": Path(onnx_path).stat().st_size / 1e6,
        "sparsity": 1.0 - sum(int(np.count_nonzero(array)) for array in matrices) / entries if entries else 0.0,
        "ops": dict(Counter(node.op_type for node in proto.graph.node).most_common()),
        "opset": next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")),
        "ir_version": proto.ir_version,
        "inputs": inputs,
        "outputs": {entry.name: _shape(entry) for entry in proto.graph.output},
        "dynamic_axes": sorted({size for shape in inputs.values() for size in shape if isinstance(size, str)}),
    }


def _weights(proto: onnx.ModelProto) -> Iterable[np.ndarray[Any, Any]]:
    """Initializers that hold weights; int64 and bool ones are shapes, axes and indices."""
    from onnx import TensorProto, numpy_helper

    bookkeeping = (TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING)
    for tensor in proto.graph.initializer:
        if tensor.data_type not in bookkeeping and tensor.dims:
            yield numpy_helper.to_array(tensor)


def _shape(entry: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or int(dim.dim_value) for dim in entry.type.tensor_type.shape.dim]


def macs_g(onnx_path: Path, axes: Mapping[str, int] | None = None) -> float | None:
    """Multiply–adds of one inference in 10⁹, counting MatMul, Gemm and Conv; ``None`` where a shape stays unknown.

    ``axes`` sizes the dynamic axes by name; by default one request of 128 tokens.
    """
    import onnx
    from onnx import shape_inference

    proto = onnx.load(str(onnx_path))
    sizes = {"batch": 1, "sequence": 128} if axes is None else axes
    for entry in proto.graph.input:
        for dim in entry.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    for entry in proto.graph.output:
        entry.type.tensor_type.ClearField("shape")
    graph = shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {entry.name: _shape(entry) for entry in (*graph.value_info, *graph.input, *graph.output)}
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    counts = [_node_macs(node, shapes) for node in graph.node if node.op_type in MATRIX_PRODUCTS]
    known = [count for count in counts if count is not None]
    return sum(known) / 1e9 if len(known) == len(counts) else None


def _node_macs(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int | str]]) -> int | None:
    """Every output element of a product is a sum over the contracted axis (for Conv: channels of a group x kernel)."""
    output, left, right = shapes.get(node.output[0]), shapes.get(node.input[0]), shapes.get(node.input[1])
    if not output or not left or not right or not all(isinstance(n, int) and n > 0 for n in (*output, *left, *right)):
        return None
    if node.op_type == "Conv":
        contracted = int(np.prod(right[1:]))
    else:
        transposed = node.op_type == "Gemm" and any(entry.name == "transA" and entry.i for entry in node.attribute)
        contracted = int(left[0] if transposed else left[-1])
    return int(np.prod(output)) * contracted

"""What an exported file is: does it answer like the network, and what does it hold. Torch-free but for parity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

    from modelpress.models.base import Model, Output, Tower

MATRIX_PRODUCTS = ("MatMul", "Gemm", "Conv")


def parity(model: Model, onnx_path: Path, batches: Iterable[Mapping[str, Tensor]], tower: str = "main") -> float:
    """Largest absolute difference of logits (or embeddings): the network in PyTorch fp32 against the file in ONNX
    Runtime fp32.

    ``batches`` hold the tower's inputs, which vary in their dynamic axes. Raises ``ValueError`` for no batch.
    """
    session = _session(onnx_path)
    names = [entry.name for entry in session.get_inputs()]

    def theirs(batch: Mapping[str, Tensor]) -> Any:
        return session.run(None, {name: batch[name].cpu().numpy() for name in names})[0]

    return max_difference(model, theirs, batches, tower)


def max_difference(
    model: Model, theirs: Callable[[Mapping[str, Tensor]], Any], batches: Iterable[Mapping[str, Tensor]], tower: str
) -> float:
    """Largest absolute difference between a tower's first output and ``theirs``; NaN counts as inf."""
    import torch

    from modelpress.export.onnx import evaluation

    worst: list[float] = []
    with evaluation(model), torch.no_grad():
        for batch in batches:
            ours = answer(model(batch), tower).float().cpu().numpy()
            worst.append(float(np.nan_to_num(np.abs(ours - theirs(batch)), nan=np.inf).max()))
    if not worst:
        raise ValueError("parity needs at least one batch")
    return max(worst)


def answer(output: Output, tower: str) -> Tensor:
    """What a tower's graph returns: logits, or the tower's embeddings."""
    found = output.embeddings[tower] if output.embeddings else output.logits
    assert found is not None
    return found


def _session(onnx_path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # An idle pool that spins would disturb whatever this process measures next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])


def probe_batches(
    tower: Tower, sizes: Sequence[tuple[int, int]] = ((1, 2), (1, 9), (3, 16), (2, 33))
) -> list[dict[str, Tensor]]:
    """Batches of (batch, sequence) ``sizes`` grown from the tower's example; the last of several rows is padded.

    Axes that are not dynamic stay as they are; no sequence is longer than the tower takes.
    """
    from modelpress.export.onnx import longest_sequence

    grown, longest = [], longest_sequence(tower.module)
    for rows, length in sizes:
        sized = {"batch": rows, "sequence": min(length, longest)}
        batch = {
            name: _tile(tensor[:1], {axis: sized[which] for axis, which in tower.dynamic_axes[name].items()})
            for name, tensor in tower.example.items()
        }
        if rows > 1 and "attention_mask" in batch:
            batch["attention_mask"][-1, batch["attention_mask"].shape[1] // 2 :] = 0
        grown.append(batch)
    return grown


def _tile(row: Tensor, sizes: Mapping[int, int]) -> Tensor:
    """``row`` repeated along each axis of ``sizes`` and cut to its size."""
    for axis, size in sizes.items():
        repeats = [1] * row.dim()
        repeats[axis] = -(-size // row.shape[axis])
        row = row.repeat(repeats).narrow(axis, 0, size)
    return row.clone()


def inspect(onnx_path: Path) -> dict[str, Any]:
    """Facts of a file, without torch.

    ``params_m`` (millions of scalars in weight initializers), ``size_mb`` (10⁶ bytes) and ``compressed_mb`` (by zlib),
    ``sparsity`` (share of zeros in the weights that matrix products read: INT8 ones too, where rounding adds some) and
    ``sparsity_file`` (in all weights of two axes or more, so with embedding tables), ``ops`` (node type -> count),
    ``opset``, ``ir_version``, ``inputs`` and ``outputs`` (name -> list of sizes and axis names), ``dynamic_axes``
    (names).
    """
    import onnx

    from modelpress.export import zeros

    proto = onnx.load(str(onnx_path))
    weights = list(_weights(proto))
    inputs = {entry.name: _shape(entry) for entry in proto.graph.input}
    return {
        "params_m": sum(array.size for array in weights) / 1e6,
        "size_mb": Path(onnx_path).stat().st_size / 1e6,
        "compressed_mb": zeros.compressed_mb(onnx_path),
        "sparsity": zeros.share(zeros.product_weights(proto)),
        "sparsity_file": zeros.share(array for array in weights if array.ndim >= 2),
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


def macs_g(onnx_path: Path, axes: Mapping[str, int] | None = None) -> float:
    """Multiply–adds of one inference in 10⁹, counting MatMul, Gemm and Conv.

    ``axes`` sizes the dynamic axes by name; by default one request of 128 tokens. The graph is run once on zeros, for
    the true shapes: ONNX's own shape inference loses them at slices and reshapes of dynamic size.
    """
    import onnx

    proto = onnx.load(str(onnx_path))
    products = [node for node in proto.graph.node if node.op_type in MATRIX_PRODUCTS]
    shapes = _run_shapes(proto, products, {"batch": 1, "sequence": 128} if axes is None else axes)
    return sum(_node_macs(node, shapes) for node in products) / 1e9


def _run_shapes(
    proto: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], axes: Mapping[str, int]
) -> dict[str, list[int]]:
    """Shapes of everything that goes in and out of ``nodes``."""
    import onnx
    from onnx import helper

    shapes = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    fixed = {
        entry.name: [axes.get(n, 1) if isinstance(n, str) else n for n in _shape(entry)] for entry in proto.graph.input
    }
    types = {
        entry.name: helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type) for entry in proto.graph.input
    }
    watched = dict.fromkeys(name for node in nodes for name in (*node.input[:2], *node.output[:1]))
    del proto.graph.output[:]
    names = [name for name in watched if name not in shapes and name not in fixed]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    arrays = _run(proto, names, {name: np.zeros(shape, types[name]) for name, shape in fixed.items()})
    return shapes | fixed | {name: list(array.shape) for name, array in zip(names, arrays, strict=True)}


def _run(proto: onnx.ModelProto, names: list[str], feeds: dict[str, Any]) -> list[Any]:
    """In ONNX Runtime, unoptimized; a bf16 graph, for which it has no kernels, in ONNX's own evaluator."""
    import onnxruntime
    from onnx import TensorProto

    if any(tensor.data_type == TensorProto.BFLOAT16 for tensor in proto.graph.initializer):
        from modelpress.export import typed_run

        found = typed_run.run(proto, feeds)
        return [found[name] for name in names]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    arrays: list[Any] = session.run(names, feeds)
    return arrays


def _node_macs(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """Every output element of a product is a sum over the contracted axis (for Conv: channels of a group x kernel)."""
    output, left, right = shapes[node.output[0]], shapes[node.input[0]], shapes[node.input[1]]
    if node.op_type == "Conv":
        return int(np.prod(output)) * int(np.prod(right[1:]))
    transposed = node.op_type == "Gemm" and any(entry.name == "transA" and entry.i for entry in node.attribute)
    return int(np.prod(output)) * int(left[0] if transposed else left[-1])

"""What the installed ONNX Runtime refuses, asked from ONNX Runtime itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import onnx
from onnx import NodeProto, TensorProto, helper

from modelpress.export.graph_view import MICROSOFT, GraphView, called, opset

CPU = "CPUExecutionProvider"
OLD_IR = 8  # every ONNX Runtime that ModelPress accepts reads it


def refused(proto: onnx.ModelProto) -> list[str]:
    """Opsets and versions it does not know, operators without a kernel, pairs of unlike types."""
    header = _header(proto)
    return header or [*_operators(proto), *_types(GraphView(proto))]


def _header(proto: onnx.ModelProto) -> list[str]:
    """Open a graph of one node under the same opsets and IR version."""
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    why = _opens(tuple(sorted(versions.items())), proto.ir_version)
    if not why:
        return []
    named = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in versions.items())
    said = f"ONNX Runtime does not read opset {named} with IR version {proto.ir_version}"
    return [f"{said}; {_older(proto, tuple(sorted(versions.items())))}. It says: {why}."]


def _older(proto: onnx.ModelProto, versions: tuple[tuple[str, int], ...]) -> str:
    """What would open."""
    if not _opens(versions, OLD_IR):
        newest = next(v for v in range(proto.ir_version - 1, OLD_IR - 1, -1) if not _opens(versions, v))
        return f"save the file with IR version {newest} or older"
    opsets = (v for v in range(opset(proto) - 1, 0, -1) if not _opens((("", v),), OLD_IR))
    return f"export with opset {next(opsets, 'of a released ONNX')} or older"


@cache
def _opens(opsets: tuple[tuple[str, int], ...], ir_version: int) -> str:
    """Why such a file does not open; empty if it does."""
    import onnxruntime

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", value[:1], value[1:])
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
    probe = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=[CPU])
    except Exception as error:  # its exceptions share no public base class
        return str(error).splitlines()[0].rstrip(". ").rpartition(". ")[2]
    return ""


def _operators(proto: onnx.ModelProto) -> Iterator[str]:
    """Operators that have neither a CPU kernel nor a body that ONNX Runtime could run instead."""
    versions = {_plain(entry.domain): entry.version for entry in proto.opset_import}
    local = {(_plain(function.domain), function.name) for function in proto.functions}
    for node in proto.graph.node:
        domain = _plain(node.domain)
        if (domain, node.op_type) not in local | _known() and not _has_body(node, versions.get(domain, 1)):
            yield (
                f"{called(node)}: ONNX Runtime's CPU has no {node.op_type} of {domain or 'ai.onnx'} "
                f"{versions.get(domain, '')}; export with another opset or replace this layer."
            )


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


@cache
def _known() -> frozenset[tuple[str, str]]:
    """(domain, operator) of every CPU kernel in the installed wheel, and all operators of its own domain.

    The CPU's kernels alone are asked for: onnxruntime-gpu, asked for those of all providers, crashes the process where
    a library of CUDA or TensorRT is missing.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kernels = {(_plain(k.domain), k.op_name) for k in state.get_registered_ep_kernel_defs(CPU)}
    own = {(s.domain, s.name) for s in state.get_all_operator_schema() if s.domain == MICROSOFT}
    return frozenset(kernels | own | {("", "Constant")})


def _has_body(node: NodeProto, version: int) -> bool:
    """Whether ONNX defines the operator by others."""
    try:
        schema = onnx.defs.get_schema(node.op_type, version, _plain(node.domain))
    except onnx.defs.SchemaError:
        return False
    body = schema.has_function or schema.has_context_dependent_function  # type: ignore[attr-defined]  # not in its stub
    return bool(body)


def _types(view: GraphView) -> Iterator[str]:
    """Weights and zero points of unlike types."""
    for node in view.graph.node:
        if node.op_type != "DequantizeLinear" or len(node.input) < 3:
            continue
        values, zero = view.tensors.get(node.input[0]), view.tensors.get(node.input[2])
        if values is not None and zero is not None and values.data_type != zero.data_type:
            name = TensorProto.DataType.Name
            yield (
                f"{called(node)}: values are {name(values.data_type)}, the zero point is {name(zero.data_type)}; "
                "give both the same type."
            )

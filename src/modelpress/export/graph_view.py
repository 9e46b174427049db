"""A graph indexed by names, for passes that read or rewrite it. Imports ``onnx`` only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, TensorProto, numpy_helper

MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators
OURS = "modelpress/"  # begins names that a pass makes, so that none of the file's own is taken


class GraphView:
    """Constants, producers and readers of every name in ``proto``'s main graph; branches count as readers."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.graph = proto.graph
        self.tensors: dict[str, TensorProto] = {t.name: t for t in self.graph.initializer} | _constant_nodes(self.graph)
        self.producer: dict[str, NodeProto] = {name: node for node in self.graph.node for name in node.output if name}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.graph.node:
            for name in dict.fromkeys(reads(node)):
                self.readers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in self.graph.output}

    def array(self, name: str) -> NDArray[Any] | None:
        """The constant of this name; ``None`` if it is computed or an input."""
        return numpy_helper.to_array(self.tensors[name]) if name in self.tensors else None

    def made_by(self, name: str, kind: str) -> NodeProto | None:
        """The node that computes ``name``, if it is of this operator type."""
        node = self.producer.get(name)
        return node if node is not None and node.op_type == kind else None

    def only_reader(self, name: str) -> NodeProto | None:
        """The one node that reads ``name``; ``None`` if there are several, or if it is an output of the graph."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def reads(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, with those that its branches take from outside."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from reads(inner)


def opset(proto: onnx.ModelProto) -> int:
    """Version of ONNX's own operators; 0 if the file names none."""
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attributes that are present, as Python values."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def called(node: NodeProto) -> str:
    """How messages name a node: its type, and its name or what it computes."""
    return f"{node.op_type} {node.name or next(iter(node.output), '')!r}"


def rewrite(
    proto: onnx.ModelProto,
    replaced: Mapping[int, Sequence[NodeProto]],
    removed: Iterable[NodeProto] = (),
    constants: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Put other nodes in the place of some (``id(node)`` -> nodes), then drop whatever nothing reads any more.

    ``id`` is that of the node object in a :class:`GraphView` of this ``proto`` that is still alive.
    """
    gone = {id(node) for node in removed}
    nodes = [new for node in proto.graph.node if id(node) not in gone for new in replaced.get(id(node), (node,))]
    nodes = _alive([_copy(node) for node in nodes], {value.name for value in proto.graph.output})
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in (constants or {}).items())
    used = {name for node in nodes for name in reads(node)} | {value.name for value in proto.graph.output}
    for index in reversed(range(len(proto.graph.initializer))):
        if proto.graph.initializer[index].name not in used:
            del proto.graph.initializer[index]
    proto.graph.ClearField("value_info")  # it may describe what is gone
    _import_domains(proto)


def _alive(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Nodes that an output of the graph depends on, in their order."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if any(name in needed for name in node.output):
            needed |= set(reads(node))
            kept.append(node)
    return kept[::-1]


def _import_domains(proto: onnx.ModelProto) -> None:
    used = any(node.domain == MICROSOFT for node in proto.graph.node)
    if used and all(entry.domain != MICROSOFT for entry in proto.opset_import):
        proto.opset_import.add(domain=MICROSOFT, version=1)


def _constant_nodes(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    return {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value" and attribute.type == AttributeProto.TENSOR
    }


def _copy(node: NodeProto) -> NodeProto:
    result = NodeProto()
    result.CopyFrom(node)
    return result


def is_zero(array: NDArray[Any] | None) -> bool:
    """Whether a zero point is given and zero everywhere."""
    return array is not None and not np.any(array.astype(np.int64))

"""A float32 graph rewritten as a strongly typed 16-bit one: every tensor has one type, casts stand where types meet.

Our own pass, because no maintained one does all of it: the converters of ONNX Runtime and onnxconverter-common know no
bf16 and clamp what does not fit; ModelOpt's AutoCast pins packages that exclude ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import onnx
import onnx.inliner
from onnx import NodeProto, TensorProto, helper, numpy_helper

from modelpress.errors import ModelPressError, one_of
from modelpress.export.typed_nodes import KEEP, NUMPY, Typing

KINDS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
ANY_TYPE = frozenset({"Cast", "Shape", "Size"})  # take every type as it comes
QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
BF16_CONV_OPSET = 22  # where Conv and the pools learned bfloat16


def convert(
    proto: onnx.ModelProto,
    kind: str,
    keep: Sequence[str] = KEEP,
    pinned: Sequence[str] = (),
    *,
    quantized: bool = False,
) -> onnx.ModelProto:
    """A copy of the float32 graph ``proto`` whose products, and what lies between them, compute in ``kind``.

    As in PyTorch's autocast: products and embedding tables take the 16-bit type; operator types in ``keep``, the
    product behind each output of the graph and everything inside the modules (or nodes) that ``pinned`` names stay
    float32; any other operator computes in 16 bits if all its inputs have 16 bits, else in float32. A constant that
    the type cannot hold (a mask's lowest float) keeps its operator, and what is computed from it up to the next product
    or softmax, in float32. Weights are stored in the type they are used in. Inputs, outputs, dynamic axes and metadata
    stay as they are. A bf16 graph with convolutions is raised to opset 22.

    ``quantized`` takes an INT8 graph and converts what it left in float32 to fp16: mixed precision. Its scales become
    fp16 too, where that changes none by more than 0.2 %.

    Raises:
        ModelPressError: ``kind`` is not fp16 or bf16; the graph is quantized, branches, or has nothing to convert.
    """
    one_of("kind", kind, ("fp16",) if quantized else KINDS)
    _refuse(proto, kind, () if quantized else QUANTIZED)
    result = onnx.ModelProto()
    result.CopyFrom(onnx.inliner.inline_local_functions(proto) if proto.functions else proto)
    result.graph.ClearField("value_info")
    _constants_to_initializers(result.graph)
    if kind == "bf16":
        _raise_opset(result)
    typing = Typing(result, kind, keep, pinned)
    if not typing.low:
        raise ModelPressError(f"The graph has no product that can compute in {kind}; all of it would stay float32.")
    _Writer(result.graph, typing).write()
    onnx.checker.check_model(result, full_check=True)
    return result


def _refuse(proto: onnx.ModelProto, kind: str, operators: Collection[str]) -> None:
    types = {node.op_type for node in proto.graph.node}
    if quantized := types.intersection(operators):
        raise ModelPressError(f"The graph is quantized ({min(quantized)}); {kind} wants a float32 one.")
    if branches := types & {"If", "Loop", "Scan"}:
        raise ModelPressError(f"The graph branches ({min(branches)}); {kind} wants one without control flow.")


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        attribute = node.attribute[0]
        value = helper.get_attribute_value(attribute)
        if attribute.name == "value":
            graph.initializer.add().CopyFrom(value)
        elif attribute.name in ("value_float", "value_floats"):
            graph.initializer.add().CopyFrom(numpy_helper.from_array(np.asarray(value, np.float32)))
        else:
            continue
        graph.initializer[-1].name = node.output[0]
        graph.node.remove(node)


def _raise_opset(proto: onnx.ModelProto) -> None:
    """Opsets 21 and 22 add types and change the meaning of one operator only, GroupNormalization."""
    types = {node.op_type for node in proto.graph.node}
    main = next(entry for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if "Conv" in types and "GroupNormalization" not in types and 20 <= main.version < BF16_CONV_OPSET:
        main.version = BF16_CONV_OPSET


class _Writer:
    """Rewrites the nodes of ``graph`` in place, in the types that ``typing`` chose."""

    def __init__(self, graph: onnx.GraphProto, typing: Typing) -> None:
        self.graph = graph
        self.typing = typing
        self.low = KINDS[typing.kind]
        self.casts: dict[tuple[str, int], str] = {}  # (tensor, wanted type) -> its copy in that type
        self.sources = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
        self.low_constants: dict[str, str] = {}
        self.nodes: list[NodeProto] = []

    def write(self) -> None:
        outputs = {value.name for value in self.graph.output}
        for index, node in enumerate(self.typing.nodes):
            slots = self.typing.low.get(index)
            for position, name in enumerate(node.input):
                if name in self.typing.floats and node.op_type not in ANY_TYPE:
                    low = slots is not None and position in slots.inputs
                    node.input[position] = self._in_type(name, self.low if low else TensorProto.FLOAT)
            self.nodes.append(node)
        kept = _needed(self.nodes, outputs)
        del self.graph.node[:]
        self.graph.node.extend(kept)
        self._store_constants({name for node in kept for name in node.input})

    def _in_type(self, name: str, wanted: int) -> str:
        """The name under which a float tensor is found in a type; a cast is written before its first reader."""
        if name in self.typing.constants:
            return name if wanted == TensorProto.FLOAT else self.low_constants.setdefault(name, self._copy(name))
        if (name in self.typing.low_tensors) == (wanted == self.low):
            return name
        if (name, wanted) not in self.casts:
            copy = self._copy(name) if wanted == self.low else f"{name}.fp32"
            source = self.sources.get(name, name)  # one cast from where it comes from, not a chain of two
            self.nodes.append(helper.make_node("Cast", [source], [copy], name=f"cast_{copy}", to=wanted))
            self.casts[name, wanted] = copy
        return self.casts[name, wanted]

    def _copy(self, name: str) -> str:
        return f"{name}.{self.typing.kind}"

    def _store_constants(self, needed: set[str]) -> None:
        """Each constant in the types it is read in; under its own name where that is one type."""
        kept = [tensor for name, tensor in self.typing.constants.items() if name in needed]
        alone = {low: name for name, low in self.low_constants.items() if name not in needed}
        for name, low in self.low_constants.items():
            if low in needed:
                array = numpy_helper.to_array(self.typing.constants[name]).astype(NUMPY[self.typing.kind])
                kept.append(numpy_helper.from_array(array, alone.get(low, low)))
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        for node in self.graph.node:
            for position, name in enumerate(node.input):
                node.input[position] = alone.get(name, name)


def _needed(nodes: Sequence[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """Nodes that an output depends on, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]

"""Which operators of a float32 graph compute in a 16-bit type: PyTorch's autocast rules, on ONNX."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import ml_dtypes
import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

from modelpress.errors import ModelPressError

NUMPY = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
ONNX_NAMES = {"fp16": "tensor(float16)", "bf16": "tensor(bfloat16)"}
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
SCALED = frozenset({"DequantizeLinear", "QuantizeLinear"})
SCALE_ERROR = 2**-9  # relative: that rounding a scale to 16 bits may change: half of what rounding to INT8 does
# Sums over many numbers and steep functions: in 16 bits they lose digits or overflow.
KEEP = (
    *("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization"),
    *("CumSum", "Exp", "Log", "LogSoftmax", "MeanVarianceNormalization", "Pow", "Reciprocal", "Softmax", "Softplus"),
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum"),
    *("ReduceSumSquare", "Sqrt"),
)
SCOPES = "pkg.torch.onnx.name_scopes"  # torch.onnx writes each node's modules, outermost first, and its own name last


@dataclass(frozen=True)
class Slots:
    """Positions of a node's inputs and outputs that have its 16-bit type once it computes in it."""

    inputs: frozenset[int]
    outputs: frozenset[int]


class Typing:
    """The choice for one graph. ``low`` maps node index -> the slots that become 16-bit; all else stays float32."""

    def __init__(self, proto: onnx.ModelProto, kind: str, keep: Collection[str], pinned: Sequence[str]) -> None:
        self.nodes: list[NodeProto] = list(proto.graph.node)
        self.kind = kind
        self.keep = frozenset(keep)
        self.opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
        self.constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.floats = float_tensors(proto)
        self.producers = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        self.held = self._heads(proto.graph) | {
            i for i, scope in enumerate(scopes(proto)) if inside(scope, pinned) or inside(self.nodes[i].name, pinned)
        }
        self.low_tensors: set[str] = set()
        self.low: dict[int, Slots] = {}
        self._choose()

    def _choose(self) -> None:
        """In the order of execution: a node's type follows from those of its inputs."""
        wide = {name for name, tensor in self.constants.items() if name in self.floats and not fits(tensor, self.kind)}
        wide |= {name for name in self._scales() if not exact(self.constants[name], self.kind)}
        for i, node in enumerate(self.nodes):
            product = node.op_type in (*PRODUCTS, "DequantizeLinear") or self._looks_up_a_table(node)
            if node.op_type in self.keep:
                continue
            if wide.intersection(node.input):
                wide.update(() if product or node.op_type in SCALED else node.output)
                continue
            given = [name for name in node.input if name in self.floats and name not in self.constants]
            follows = bool(given) and all(name in self.low_tensors for name in given)
            slots = self._slots(node) if i not in self.held and (product or follows) else None
            if slots is not None:
                self.low[i] = slots
                self.low_tensors.update(node.output[k] for k in slots.outputs)

    def _scales(self) -> set[str]:
        return {node.input[1] for node in self.nodes if node.op_type in SCALED and node.input[1] in self.constants}

    def _looks_up_a_table(self, node: NodeProto) -> bool:
        return node.op_type == "Gather" and node.input[0] in self.constants and node.input[0] in self.floats

    def _slots(self, node: NodeProto) -> Slots | None:
        """``None``: this operator does not exist in the 16-bit type, or its result is no float."""
        quantizes = node.op_type == "QuantizeLinear"
        floats = node.output[0] in self.floats or quantizes
        if node.domain not in ("", "ai.onnx") or node.op_type == "Cast" or not floats:
            return None
        schema = onnx.defs.get_schema(node.op_type, self.opset)
        variable = (schema.inputs if quantizes else schema.outputs)[0].type_str
        allowed = {entry.type_param_str: entry.allowed_type_strs for entry in schema.type_constraints}
        if ONNX_NAMES[self.kind] not in allowed.get(variable, ()):
            return None
        return Slots(
            frozenset(i for i, name in enumerate(node.input) if name and _formal(schema.inputs, i) == variable),
            frozenset(i for i, name in enumerate(node.output) if name and _formal(schema.outputs, i) == variable),
        )

    def _heads(self, graph: onnx.GraphProto) -> set[int]:
        """The product behind each output of the graph, and what follows it: logits are computed in float32."""
        found: set[int] = set()
        for output in graph.output:
            name = output.name
            while name in self.producers and self.producers[name] not in found:
                index = self.producers[name]
                node = self.nodes[index]
                given = [given for given in node.input if given in self.floats and given not in self.constants]
                found.add(index)
                if node.op_type in PRODUCTS or node.op_type in self.keep or len(given) != 1:
                    break
                name = given[0]
        fed = {name for index in found for name in self.nodes[index].input if name in self.producers}
        return found | {self.producers[name] for name in fed if self.nodes[self.producers[name]].op_type in SCALED}


def _formal(parameters: Sequence[onnx.defs.OpSchema.FormalParameter], index: int) -> str:
    """Type of a parameter; the last one of an operator may repeat."""
    return parameters[min(index, len(parameters) - 1)].type_str


def float_tensors(proto: onnx.ModelProto) -> set[str]:
    """Names of the float32 tensors, constants included. Raises ModelPressError where ONNX cannot tell a type."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if unknown := [name for name in node.output if name and not types.get(name)]:
            raise ModelPressError(f"ONNX cannot infer the type of {unknown[0]} ({node.op_type} {node.name}).")
    return {name for name, kind in types.items() if kind == TensorProto.FLOAT}


def fits(tensor: TensorProto, kind: str) -> bool:
    """Whether no finite number of a float32 tensor becomes infinite in the 16-bit type, and none is infinite.

    The lowest float of a mask rounds to minus infinity in both types.
    """
    array = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        return bool(np.isfinite(array.astype(NUMPY[kind]).astype(np.float32)).all())


def exact(tensor: TensorProto, kind: str) -> bool:
    """Whether scales keep their value in the 16-bit type, up to :data:`SCALE_ERROR`."""
    scales = numpy_helper.to_array(tensor).astype(np.float64)
    return bool((np.abs(scales.astype(NUMPY[kind]).astype(np.float64) - scales) <= SCALE_ERROR * np.abs(scales)).all())


def scopes(proto: onnx.ModelProto) -> list[str]:
    """The PyTorch module that each node comes from, e.g. ``network.classifier``; empty where nobody knows.

    A node outside all modules (attention spelled by a function) belongs to the innermost module that all its named
    sources share.
    """
    found: list[str] = []
    owners: dict[str, str] = {}
    for node in proto.graph.node:
        found.append(_recorded(node) or shared(owners.get(name, "") for name in node.input))
        owners.update(dict.fromkeys(node.output, found[-1]))
    return found


def _recorded(node: NodeProto) -> str:
    text = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
    modules: list[str] = ast.literal_eval(text)
    return next((name for name in reversed(modules[:-1]) if name and not name.startswith("_empty")), "")


def shared(names: Iterable[str]) -> str:
    """The innermost module that holds all named ones; empty names are passed over.

    >>> shared(["layer.1.attention.query", "", "layer.1.attention.key"])
    'layer.1.attention'
    """
    levels = zip(*(name.split(".") for name in names if name), strict=False)
    return ".".join(level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels))


def inside(name: str, pinned: Iterable[str]) -> bool:
    """Whether a module (or node) is one of ``pinned`` or lies in one of them."""
    return any(name == pin or name.startswith((f"{pin}.", f"{pin}/")) for pin in pinned if pin)

"""What OpenVINO's runtime model says about the layers that were really executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpress.engines.int8 import named, summary
from modelpress.engines.precision import NAMES

WORK = frozenset({"FullyConnected", "MatMul", "Convolution", "Deconvolution", "ScaledDotProductAttention", "RNNSeq"})
NO_COMPUTATION = frozenset({"Const", "Input", "Output"})
FUSED = "Subgraph"  # several operators in one kernel, such as the two products of attention with their softmax


@dataclass(frozen=True)
class Layer:
    """``precision``: of the kernel; ``stored``: what the layer is filed under, for a product that of its weights."""

    kind: str
    precision: str | None
    stored: str | None
    name: str
    made_of: tuple[str, ...]  # names of the operators it was fused from
    sparse: bool = False  # whether its kernel reads packed weights and skips their zeros


def layers(compiled: Any) -> list[Layer]:
    """Executed layers of a compiled model in their order."""
    return [_layer(node) for node in compiled.get_runtime_model().get_ordered_ops()]


def _layer(node: Any) -> Layer:
    facts = {key: str(getattr(value, "value", value)) for key, value in node.get_rt_info().items()}
    stored = NAMES.get(facts["runtimePrecision"])
    # A product of INT8 weights and float activations has runtimePrecision i8, but its kernel is one for floats.
    kernel = NAMES.get(facts.get("primitiveType", "").rpartition("_")[2], stored)
    made_of = tuple(name for name in facts.get("originalLayersNames", "").split(",") if name)
    name, sparse = node.get_friendly_name().partition("/Dequantization")[0], "sparse" in facts.get("primitiveType", "")
    return Layer(facts["layerType"], kernel, stored, name, made_of, sparse)


def counts(found: Sequence[Layer], kinds: frozenset[str] | None) -> dict[str, int]:
    """Layers per precision; ``kinds`` picks layer types, ``None`` takes all that compute."""
    wanted = [
        layer for layer in found if (layer.kind in kinds if kinds is not None else layer.kind not in NO_COMPUTATION)
    ]
    return dict(Counter(layer.precision for layer in wanted if layer.precision).most_common())


def int8_matmuls(found: Sequence[Layer], products: Mapping[str, str]) -> dict[str, Any]:
    """:func:`modelpress.engines.int8.summary`; ``products`` maps nodes of the ONNX file to names of layers."""
    pairs = [(products.get(layer.name, layer.name), layer.precision) for layer in found if layer.kind in WORK]
    for layer in found:
        if layer.kind == FUSED:
            inside = dict.fromkeys(products[name] for name in layer.made_of if name in products)
            pairs += [(name, layer.precision) for name in inside]
    floating = [name for name, precision in pairs if precision != "int8"]
    return summary(len(pairs) - len(floating), floating)


def unfused(found: Sequence[Layer], products: Mapping[str, str]) -> list[str]:
    """INT8 weights whose products run in floating-point kernels."""
    sentences = []
    for precision in ("fp32", "bf16", "fp16"):
        mixed = [x for x in found if x.kind in WORK and x.stored == "int8" and x.precision == precision]
        if mixed:
            names = named([products.get(layer.name, layer.name) for layer in mixed])
            sentences.append(
                f"{len(mixed)} with INT8 weights ({names}) have inputs that the graph does not quantize: "
                f"OpenVINO reports {precision.upper()} kernels for them"
            )
    return sentences


def sparse_weights(found: Sequence[Layer], asked: float, amx: bool) -> dict[str, Any]:
    """What became of sparse weight decompression: ``asked``, ``layers`` that use it, and ``why`` where none does."""
    used = sum(layer.sparse for layer in found)
    missing = "" if amx else "; this processor has no AMX"
    why = (
        f"OpenVINO keeps weights packed only with AMX, in INT8 layers whose sizes are multiples of 64 and of whose "
        f"weights {100 * asked:g} % or more are zero{missing}"
    )
    return {"asked": asked, "layers": used, **({} if used else {"why": why})}

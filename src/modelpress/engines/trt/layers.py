"""What TensorRT's engine inspector says about the layers that are executed, in the spelling of 10.12 to 11.4."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpress.engines.int8 import summary

SOURCE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
TYPES = (  # how a tensor's type is spelled, alone or in "Row major linear FP16 format (kLINEAR)"
    ("int8", re.compile(r"\bint8\b", re.IGNORECASE)),
    ("bf16", re.compile(r"\b(bf16|bfloat16)\b", re.IGNORECASE)),
    ("fp16", re.compile(r"\b(half|fp16)\b", re.IGNORECASE)),
    ("fp32", re.compile(r"\b(float|fp32|tf32)\b", re.IGNORECASE)),
)


@dataclass(frozen=True)
class Layer:
    """An executed layer that multiplies matrices: the products of the graph in it and the type of what it reads."""

    products: tuple[str, ...]
    precision: str


def read(information: str, products: Mapping[str, str]) -> list[Layer]:
    """Layers of the inspector's JSON that come from ``products`` (node of the ONNX file -> name of its layer).

    Engines built without details hold names only: then there is nothing to read.
    """
    found = []
    for layer in json.loads(information)["Layers"]:
        if not isinstance(layer, dict):
            continue
        nodes = SOURCE.findall(layer.get("Metadata", ""))
        inside = tuple(dict.fromkeys(products[node] for node in nodes if node in products))
        if inside and (precision := precision_of(layer)):
            found.append(Layer(inside, precision))
    return found


def precision_of(layer: Mapping[str, Any]) -> str | None:
    """The narrowest type among its inputs: what its kernel multiplies."""
    spellings = [tensor.get("Format/Datatype", "") for tensor in layer.get("Inputs", ())]
    return next((name for name, pattern in TYPES if any(pattern.search(text) for text in spellings)), None)


def counts(found: Sequence[Layer]) -> dict[str, int]:
    """Products per precision."""
    kinds = Counter[str]()
    for layer in found:
        kinds[layer.precision] += len(layer.products)
    return dict(kinds.most_common())


def int8_matmuls(found: Sequence[Layer]) -> dict[str, Any]:
    """:func:`modelpress.engines.int8.summary` of the products."""
    floating = [name for layer in found if layer.precision != "int8" for name in layer.products]
    return summary(sum(counts(found).values()) - len(floating), floating)

"""One portable quantized graph, spelled as each runtime runs it best: the same numbers, other operators."""

from __future__ import annotations

import json
import platform
from typing import Any

import onnx

from modelpress.errors import ModelPressError, one_of

ENGINES = ("onnxruntime", "openvino", "tensorrt")
X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
NUMERICS = "modelpress.numerics"  # key of the file's metadata


def lower(proto: onnx.ModelProto, engine: str, *, machine: str | None = None) -> onnx.ModelProto:
    """A copy of ``proto`` in the spelling of ``engine``; ``proto`` stays as it is.

    Only graphs that ModelPress quantized (metadata ``modelpress.numerics`` of kind ``int8``) are rewritten: a file that
    somebody else made is measured as it is. OpenVINO takes the portable spelling. ``machine`` is the processor's name
    as ``platform.machine()`` tells it, by default this one's.

    Raises:
        ModelPressError: ``engine`` is none of :data:`ENGINES`.
    """
    one_of("engine", engine, ENGINES)
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    if engine == "onnxruntime" and quantized_here(proto):
        from modelpress.export import lower_onnxruntime

        x86 = (machine or platform.machine()).lower() in X86
        lower_onnxruntime.lower(result, dynamic=(numerics(proto) or {}).get("activations") == "dynamic", x86=x86)
    elif engine == "tensorrt" and quantized_here(proto):
        from modelpress.export import lower_tensorrt

        lower_tensorrt.lower(result)
    return result


def numerics(proto: onnx.ModelProto) -> dict[str, Any] | None:
    """In which numbers ModelPress wrote this graph (``kind``, ``activations``, ``float_layers``); else ``None``.

    Raises:
        ModelPressError: the file's metadata is no such record.
    """
    text = next((entry.value for entry in proto.metadata_props if entry.key == NUMERICS), None)
    if text is None:
        return None
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ModelPressError(
            f"The file's metadata {NUMERICS} is not JSON ({error}); export the model again."
        ) from error
    if not isinstance(record, dict) or "kind" not in record:
        raise ModelPressError(f"The file's metadata {NUMERICS} is {text}; it needs a kind. Export the model again.")
    return record


def quantized_here(proto: onnx.ModelProto) -> bool:
    """Whether ModelPress quantized this graph to INT8, so that the portable contract holds."""
    kept = numerics(proto)
    return kept is not None and kept["kind"] == "int8"

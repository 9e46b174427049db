"""Which precision really ran, from counts of the layers that do the work. No runtime is imported here."""

from __future__ import annotations

from collections.abc import Mapping

from modelpress.engines.base import Unsupported

# spellings of ONNX, OpenVINO (old and new) and torch -> the closed list of report.record.PRECISIONS
NAMES = {
    "f32": "fp32", "float": "fp32", "float32": "fp32", "fp32": "fp32",
    "bf16": "bf16", "bfloat16": "bf16",
    "f16": "fp16", "float16": "fp16", "fp16": "fp16",
    "i8": "int8", "u8": "int8", "int8": "int8", "uint8": "int8", "int8_t": "int8", "uint8_t": "int8",
}  # fmt: skip


def effective(layers: Mapping[str, int]) -> str:
    """The precision of most of the working layers; ``mixed`` where none has half of them.

    >>> effective({"int8": 26, "fp32": 8}), effective({"int8": 4, "bf16": 5, "fp32": 2})
    ('int8', 'mixed')
    """
    total = sum(layers.values())
    for name, count in layers.items():
        if 2 * count >= total:
            return name
    return "mixed" if total else "fp32"


def require_cpu(accelerator: str, engine: str) -> None:
    """Raise Unsupported unless the target is a CPU."""
    if accelerator != "cpu":
        raise Unsupported(f"{engine} is built for CPUs here; hardware.accelerator is {accelerator!r}")

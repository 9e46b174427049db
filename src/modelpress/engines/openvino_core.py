"""The one OpenVINO core of this process, and what it can compute here."""

from __future__ import annotations

import functools
from typing import Any

CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}


@functools.cache
def core() -> Any:
    """The process's ``openvino.Core``: made on first use, never let go.

    Each core's CPU plugin swaps the thread's alternate signal stack for its own and puts back what it found when the
    core dies. Two cores that do not die in reverse order of birth leave the stack of a dead one installed, and the
    next signal with a Python handler (SIGTERM, SIGCHLD of a data loader) kills the process.
    """
    import openvino as ov

    return ov.Core()


def capabilities() -> list[str]:
    """What OpenVINO's CPU plugin can compute on this machine, e.g. ``["FP32", "BF16", "INT8"]``."""
    return [str(name) for name in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")]


def lacking(precision: str) -> str | None:
    """Why this machine cannot run a float precision in OpenVINO; ``None`` if it can."""
    have = capabilities()
    if CAPABILITIES[precision] in have:
        return None
    return f"this processor has no {precision} instructions that OpenVINO can use (it offers {', '.join(have)})"

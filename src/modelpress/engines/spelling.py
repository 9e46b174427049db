"""Check a quantized file for an engine and spell it as that engine runs it best. Imports ``onnx`` (parent only)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelpress.engines.base import Unsupported
from modelpress.engines.graph import Graph, load
from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    import onnx


def spelled(file: Path, graph: Graph, engine: str) -> onnx.ModelProto | None:
    """The graph to give to ``engine``; ``None`` where the file itself is to be used.

    Raises:
        ModelPressError: ModelPress quantized the file and it breaks the portable contract; names every violation.
        Unsupported: the engine's runtime refuses this quantized file; names every violation.
    """
    if graph.precision != "int8":
        return None
    from modelpress.export.lower import lower, quantized_here
    from modelpress.export.quantized import check_portable, check_quantized

    proto = load(file)
    if quantized_here(proto) and (found := check_portable(proto)):
        raise ModelPressError(f"{file.name} is no portable quantized graph:{_listed(found)}")
    if found := check_quantized(proto, engine):
        raise Unsupported(f"{engine} does not run {file.name}:{_listed(found)}")
    result = lower(proto, engine)
    return None if result == proto else result


def _listed(sentences: Sequence[str]) -> str:
    return "".join(f"\n  - {sentence}" for sentence in sentences)

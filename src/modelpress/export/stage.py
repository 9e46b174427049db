"""Export a finished stage: its graphs, and ``facts.json`` with what was counted and checked on them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    from modelpress.models.base import Model

COUNTED_TOKENS = 128  # macs_g is that of one such request
PARITY_LIMIT = 1e-3  # fp32 engines round differently in the last bits; ten times more is a wrong graph


def export_stage(model_folder: Path, folder: Path) -> dict[str, Any]:
    """Write ``model.onnx`` (one file per tower) and ``facts.json`` into ``folder``; return the facts of the main tower.

    ``facts.json``: what :func:`modelpress.export.check.inspect` tells, ``macs_g`` (1x128), ``parity_max_abs`` and
    ``labels``. INT8 is judged by metric and agreement on the engine, not here: noise of 1e-7 moves its logits by 0.2.

    Raises:
        ModelPressError: the file does not answer like the network.
    """
    from modelpress.export.check import inspect, macs_g, probe_batches
    from modelpress.export.onnx import export, longest_sequence
    from modelpress.models.base import load, parameter_count

    model = load(model_folder)
    paths = export(model, folder)
    main = paths["main"]
    difference, limit = _parity(model, main, probe_batches(model))
    if difference is not None and not difference <= limit:
        raise ModelPressError(
            f"{main} differs from the network by {difference:.2g} (limit {limit:g}): export is wrong."
        )
    fits = longest_sequence(model.towers()[0].module) >= COUNTED_TOKENS
    facts = {
        **inspect(main),
        "macs_g": macs_g(main) if fits else None,
        "parity_max_abs": difference,
        "labels": model.labels,
    }
    facts["params_m"] = parameter_count(model) / 1e6  # the file shares equal tensors and would count them once
    (Path(folder) / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def _parity(model: Model, file: Path, batches: list[Any]) -> tuple[float | None, float]:
    """Largest difference of logits, and how large it may be."""
    from modelpress.export import check, typed_run

    if model.numerics is None:
        return check.parity(model, file, batches), PARITY_LIMIT
    if model.numerics.kind == "int8":
        return None, math.inf
    return typed_run.parity(model, file, batches), float(model.numerics.details["max_difference"])

"""Export a finished stage: its graphs, and ``facts.json`` with what was counted and checked on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    from modelpress.models.base import Model, Tower

COUNTED_TOKENS = 128  # macs_g is that of one such request
PARITY_LIMIT = 1e-3  # fp32 engines round differently in the last bits; ten times more is a wrong graph


def export_stage(model_folder: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Write one ONNX file per tower (``model.onnx``) and ``facts.json`` into ``folder``; return the facts by tower.

    Facts: ``file``, what :func:`modelpress.export.check.inspect` tells, ``macs_g`` of one request of ``counted_shape``
    (``None`` where no such shape fits), ``parity_max_abs`` and ``labels``. INT8 is judged by metric and agreement on
    the engine, not here: noise of 1e-7 moves its logits by 0.2.

    Raises:
        ModelPressError: a file does not answer like the network.
    """
    from modelpress.export.onnx import export
    from modelpress.models.base import load

    model = load(model_folder)
    paths = export(model, folder)
    facts = {tower.name: _facts(model, tower, paths[tower.name]) for tower in model.towers()}
    (Path(folder) / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def _facts(model: Model, tower: Tower, file: Path) -> dict[str, Any]:
    from modelpress.export.check import inspect, macs_g
    from modelpress.models.base import parameter_count

    difference = _parity(model, tower, file)
    shape = counted_shape(tower)
    facts = {
        "file": file.name,
        **inspect(file),
        "counted_shape": shape,
        "macs_g": macs_g(file) if shape else None,
        "parity_max_abs": difference,
        "labels": model.labels,
    }
    if tower.name == "main":  # the file shares equal tensors and would count them once
        facts["params_m"] = parameter_count(model) / 1e6
    return facts


def counted_shape(tower: Tower) -> str | None:
    """The shape of one request whose multiply-adds are counted: ``1x128``, or the input's own if only batch varies."""
    from modelpress.export.onnx import longest_sequence

    if any("sequence" in axes.values() for axes in tower.dynamic_axes.values()):
        return f"1x{COUNTED_TOKENS}" if longest_sequence(tower.module) >= COUNTED_TOKENS else None
    return "x".join(map(str, (1, *next(iter(tower.example.values())).shape[1:])))


def _parity(model: Model, tower: Tower, file: Path) -> float | None:
    """Largest difference of what a tower answers; ``None`` for INT8."""
    from modelpress.export import check, typed_run

    if model.numerics is not None and model.numerics.kind == "int8":
        return None
    batches = check.probe_batches(tower)
    if model.numerics is None:
        difference, limit = check.parity(model, file, batches, tower.name), PARITY_LIMIT
    else:
        difference = typed_run.parity(model, file, batches, tower.name)
        limit = float(model.numerics.details["max_difference"])
    if not difference <= limit:
        raise ModelPressError(
            f"{file} differs from the network by {difference:.2g} (limit {limit:g}): export is wrong."
        )
    return difference

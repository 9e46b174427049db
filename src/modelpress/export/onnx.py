"""From a network to portable ONNX graphs with dynamic batch and sequence, one file per tower."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from modelpress.quantization.attach import exporting
from modelpress.quantization.ops import translations

if TYPE_CHECKING:
    import onnx

    from modelpress.models.base import Model, Tower
    from modelpress.models.numerics import Numerics

OPSET = 20  # the first with Gelu as one node; OpenVINO 2026 and ONNX Runtime 1.31 run it fully
MAX_BATCH = 4096
# Raised inside torch.onnx when several inputs share an axis, which is what we ask for.
_SHARED_AXIS = r"# The axis name: .* will not be used, since it shares the same shape constraints"


def export(model: Model, folder: Path) -> dict[str, Path]:
    """Write ``<folder>/<tower>.onnx`` (``model.onnx`` for the tower ``main``) and return the paths by tower.

    fp32, opset 20, weights inside the file. Labels, opset and IR version are kept in the file's metadata. The model is
    left in the mode (training or evaluation) and the precision it had. Files appear whole or not at all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.capture(frozenset())
    written: dict[str, Path] = {}
    with evaluation(model), exporting(model):
        for tower in model.towers():
            target = folder / ("model.onnx" if tower.name == "main" else f"{tower.name}.onnx")
            proto = in_numerics(graph_of(tower), model.numerics)
            save_atomic(annotate(proto, model.labels, tower, model.numerics), target)
            written[tower.name] = target
    return written


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; every module's own mode afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def in_numerics(proto: onnx.ModelProto, numerics: Numerics | None) -> onnx.ModelProto:
    """The graph in 16 bits if that is asked for; INT8 is in it already, as nodes."""
    if numerics is None or numerics.kind == "int8":
        return proto
    from modelpress.export import typed

    return typed.convert(proto, numerics.kind, pinned=numerics.details["float_layers"])


def graph_of(tower: Tower) -> onnx.ModelProto:
    """The checked graph of one tower."""
    import onnx

    module = tower.module.eval()
    tensors = tuple(tower.example.values())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", _SHARED_AXIS, UserWarning)
        program: Any = torch.onnx.export(
            module,
            tensors,
            input_names=list(tower.example),
            output_names=list(tower.outputs),
            dynamic_shapes=(dynamic_shapes(tower),),
            opset_version=OPSET,
            dynamo=True,
            custom_translation_table=translations(),
            external_data=False,
            verbose=False,
        )
    proto: onnx.ModelProto = program.model_proto
    # torch writes value_info that ONNX's own shape inference contradicts, and quantizers stop on that.
    proto.graph.ClearField("value_info")
    without_stack_traces(proto)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def without_stack_traces(proto: onnx.ModelProto) -> None:
    """PyTorch writes where each node came from, with the paths of the machine that exported it."""
    for node in proto.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key != "pkg.torch.onnx.stack_trace"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)


def dynamic_shapes(tower: Tower) -> tuple[dict[int, Any], ...]:
    """One dict per input: axis -> Dim. Axes of one name are one Dim; a sequence has at least two tokens."""
    names = {name for axes in tower.dynamic_axes.values() for name in axes.values()}
    longest = longest_sequence(tower.module)
    dims: dict[str, Any] = {
        name: torch.export.Dim(name, min=1, max=MAX_BATCH)
        if name == "batch"
        else torch.export.Dim(name, min=2, max=longest)
        for name in sorted(names)
    }
    return tuple({axis: dims[name] for axis, name in tower.dynamic_axes[key].items()} for key in tower.example)


def longest_sequence(module: nn.Module) -> int:
    """Rows of the position table that tokens can use; a large number where there is no such table."""
    from modelpress.models.architecture import read

    if isinstance(known := getattr(module, "longest", None), int):
        return known
    config = getattr(getattr(module, "network", None), "config", None)
    numbers = read(config.to_dict()) if config is not None else None
    longest = numbers.positions if numbers is not None else getattr(config, "max_position_embeddings", None)
    return int(longest or 1 << 20)


def annotate(
    proto: onnx.ModelProto, labels: Sequence[str], tower: Tower, numerics: Numerics | None = None
) -> onnx.ModelProto:
    """Say in the file what it is, so that it can be used without anything beside it."""
    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    facts: Mapping[str, Any] = {
        "labels": list(labels),
        "tower": tower.name,
        "opset": opset,
        "ir_version": proto.ir_version,
    }
    del proto.metadata_props[:]
    if any(name != "batch" for axes in tower.dynamic_axes.values() for name in axes.values()):
        facts = {**facts, "longest": longest_sequence(tower.module)}
    for key, value in facts.items():
        proto.metadata_props.add(key=f"modelpress.{key}", value=json.dumps(value))
    if numerics is not None:
        proto.metadata_props.add(key="modelpress.numerics", value=numerics.to_json())
    return proto


def save_atomic(proto: onnx.ModelProto, target: Path) -> None:
    """Write through a temporary file in the same folder, so that a killed export leaves no half file."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(proto.SerializeToString())
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

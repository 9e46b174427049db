"""Run graphs in ONNX Runtime as they are, and see what it makes of them."""

from __future__ import annotations

import platform
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from modelpress.engines.onnxruntime import saturates
from modelpress.export.lower import X86, lower

Feeds = dict[str, Any]
on_x86 = pytest.mark.skipif(platform.machine().lower() not in X86, reason="what ONNX Runtime does on x86")


def session(model: onnx.ModelProto, optimized: Path | None = None, *, plain: bool = False) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("session.x64quantprecision", "1" if saturates() else "0")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, feeds: Feeds, *, plain: bool = False) -> list[Any]:
    return list(session(model, plain=plain).run(None, feeds))


def executed(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    path = folder / "optimized.onnx"
    session(model, path)
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def x86(model: onnx.ModelProto) -> onnx.ModelProto:
    return lower(model, "onnxruntime", machine="x86_64")


def floats(*shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

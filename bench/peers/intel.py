"""NNCF and optimum-intel, as their documentation shows them. NNCF starts from our FP32 ONNX file read by OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nncf
import openvino as ov

from bench.peers.record import Inputs
from bench.peers.run import optimum_cli
from modelpress.benchmark.requests import read

Outcome = tuple[Path, dict[str, Any]]


def mixed(given: Inputs, folder: Path) -> Outcome:
    """The documented call for transformers; its default preset there is "mixed" (asymmetric activations)."""
    return quantize(given, folder, None)


def performance(given: Inputs, folder: Path) -> Outcome:
    return quantize(given, folder, nncf.QuantizationPreset.PERFORMANCE)


def quantize(given: Inputs, folder: Path, preset: nncf.QuantizationPreset | None) -> Outcome:
    """Smooth quantization and fast bias correction, both on by default; sentences at their own lengths."""
    requests = read(given.calibration)
    count = min(given.samples, len(requests))
    data = nncf.Dataset([requests.item(i) for i in range(count)])
    model = ov.Core().read_model(given.onnx)
    kind = nncf.ModelType.TRANSFORMER
    quantized = nncf.quantize(model, data, preset=preset, model_type=kind, subset_size=count)
    settings = {"model_type": "transformer", "preset": preset.value if preset else "mixed (default)", "samples": count}
    return saved(quantized, folder), settings


def weights(given: Inputs, folder: Path) -> Outcome:
    """What optimum-intel does for ``--weight-format int8``, on the graph that all others get."""
    mode = nncf.CompressWeightsMode.INT8_ASYM
    return saved(nncf.compress_weights(ov.Core().read_model(given.onnx), mode=mode), folder), {"mode": mode.value}


def optimum_weights(given: Inputs, folder: Path) -> Outcome:
    """The one-liner itself: exports the saved network anew, with optimum's own graph."""
    command = ["export", "openvino", "--task", "text-classification", "--weight-format", "int8"]
    optimum_cli(*command, "--model", str(given.model), str(folder))
    return folder / "openvino_model.xml", {"command": f"optimum-cli {' '.join(command)}"}


def saved(model: ov.Model, folder: Path) -> Path:
    file = folder / "model.xml"
    ov.save_model(model, file, compress_to_fp16=False)
    return file

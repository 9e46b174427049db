"""ONNX Runtime's own quantizers, with the settings that optimum-cli uses for ``--avx512_vnni --per_channel``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from bench.peers.record import Inputs
from bench.peers.run import optimum_cli
from modelpress.benchmark.requests import Requests, read

Outcome = tuple[Path, dict[str, Any]]
OPERATORS = ("MatMul", "Gemm", "Gather")


def dynamic(given: Inputs, folder: Path) -> Outcome:
    """Weights INT8 per channel, activations unsigned at run time; MatMuls of two activations stay in float."""
    file = folder / "model.onnx"
    quantize_dynamic(given.onnx, file, per_channel=True, reduce_range=False, weight_type=QuantType.QInt8)
    return file, {"activations": "uint8, at run time", "weights": "int8, symmetric, per channel"}


def optimum(given: Inputs, folder: Path) -> Outcome:
    """The one-liner of optimum-onnx. Unlike ``quantize_dynamic`` it quantizes the attention's MatMuls too."""
    source = folder / "source"
    source.mkdir()
    shutil.copy2(given.onnx, source / "model.onnx")
    shutil.copy2(given.model / "config.json", source)
    command = ["onnxruntime", "quantize", "--avx512_vnni", "--per_channel"]
    optimum_cli(*command, "--onnx_model", str(source), "-o", str(folder))
    shutil.rmtree(source)
    return folder / "model_quantized.onnx", {"command": f"optimum-cli {' '.join(command)}"}


def minmax(given: Inputs, folder: Path) -> Outcome:
    return static(given, folder, CalibrationMethod.MinMax)


def percentile(given: Inputs, folder: Path) -> Outcome:
    return static(given, folder, CalibrationMethod.Percentile)


def entropy(given: Inputs, folder: Path) -> Outcome:
    return static(given, folder, CalibrationMethod.Entropy)


def static(given: Inputs, folder: Path, method: CalibrationMethod) -> Outcome:
    """Q/DQ with unsigned activations; the calibrator's other options stay at their defaults.

    Only matrix products and tables: by default Add and Softmax are quantized too, which costs many points of accuracy,
    and the entropy calibrator then stops on the attention mask's -3.4e38.
    """
    file, prepared = folder / "model.onnx", folder / "prepared.onnx"
    reader = Padded(read(given.calibration), given.samples)
    prepare(given.onnx, prepared)
    quantize_static(
        prepared,
        file,
        reader,
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=False,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
        op_types_to_quantize=list(OPERATORS),
    )
    prepared.unlink()
    settings = {"activations": "uint8", "weights": "int8, symmetric, per channel", "operators": OPERATORS}
    return file, {**settings, "calibrator": method.name, "samples": reader.count, "padded_to": reader.length}


def prepare(onnx_file: Path, target: Path) -> None:
    """ONNX Runtime's recommended pre-processing.

    It stops on the shapes that torch's exporter leaves in the file, so they are taken out; its symbolic inference then
    calls itself incomplete, so that is skipped, as its message advises. It wants a file, not a model in memory.
    """
    model = onnx.load(onnx_file)
    del model.graph.value_info[:]
    onnx.save(model, target)
    quant_pre_process(target, target, skip_symbolic_shape=True)


class Padded(CalibrationDataReader):
    """Single sentences of one length: ONNX Runtime's histogram calibrators stop on inputs of different lengths."""

    def __init__(self, requests: Requests, samples: int) -> None:
        self.count = min(samples, len(requests))
        arrays = requests.arrays
        widths = requests.lengths[: self.count] if requests.lengths is not None else None
        self.length = int(widths.max()) if widths is not None else None
        self.rows: Iterator[dict[str, Any]] = iter(
            {name: np.ascontiguousarray(array[i : i + 1, : self.length]) for name, array in arrays.items()}
            for i in range(self.count)
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self.rows, None)

"""How engines, precisions and rows are called in sentences. Pure, standard library only."""

from __future__ import annotations

from modelpress.report.record import Row

PRIMARY_SHAPE = "1x128"  # what a verdict rests on, if it was measured
ENGINE_TITLES = {
    "onnxruntime": "ONNX Runtime",
    "onnxruntime_cuda": "ONNX Runtime CUDA",
    "onnxruntime_tensorrt": "ONNX Runtime TensorRT",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    "tensorrt_graph": "TensorRT with CUDA graphs",
    "tensorrt_rtx": "TensorRT-RTX",
    "tensorrt_rtx_graph": "TensorRT-RTX with CUDA graphs",
    "torch": "PyTorch eager",
    "torch_compile": "torch.compile",
    "torchao": "torchao dynamic",
}
VERDICT_TITLES = {"pays": "It pays", "does_not_pay": "It does not pay", "inconclusive": "Inconclusive"}
VERDICT_SHORT = {"pays": "pays", "does_not_pay": "does not pay", "inconclusive": "inconclusive"}
ROLE_MEANINGS = {
    "baseline": "the uncompressed model trained for the task",
    "control": "what the same effort gives without the technique",
    "candidate": "what this run made",
    "reference": "for orientation only; not judged",
}
SHORT_ENGINES = {
    "onnxruntime": "ORT",
    "onnxruntime_cuda": "ORT CUDA",
    "onnxruntime_tensorrt": "ORT TRT",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    "tensorrt_graph": "TRT graph",
    "tensorrt_rtx": "TRT-RTX",
    "tensorrt_rtx_graph": "RTX graph",
    "torch": "PyTorch",
    "torch_compile": "compile",
    "torchao": "torchao",
}


def engine_title(row: Row) -> str:
    """``OpenVINO BF16``."""
    return f"{ENGINE_TITLES[row.engine]} {row.precision.upper()}"


def row_title(row: Row) -> str:
    """``tinybert in OpenVINO BF16 at 1x128``."""
    return f"{model_title(row)} in {engine_title(row)} at {row.shape}"


def model_title(row: Row) -> str:
    """The model; of several stages of it, which; of one tower of two, which."""
    name = f"{row.model} · {row.stage}" if row.details.get("one_of_several") else row.model
    return name if row.tower in ("main", "pair") else f"{name} ({row.tower} tower)"


def metric_words(metric: str) -> str:
    """How a sentence calls a metric.

    >>> metric_words("recall_at_1"), metric_words("accuracy")
    ('recall@1', 'accuracy')
    """
    return metric.replace("_at_", "@").replace("_", " ")


def thousands(n: int) -> str:
    """``2,591``."""
    return f"{n:,}"


def joined(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]

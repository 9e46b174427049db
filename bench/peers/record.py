"""Which rivals there are, what each is given, and what it leaves. Standard library only: both sides read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RECORD = "made.json"


@dataclass(frozen=True)
class Peer:
    """One rival recipe. ``target``: ``module:function`` in this package, which takes (Inputs, folder)."""

    title: str
    engine: str  # whose file it makes
    target: str


@dataclass(frozen=True)
class Inputs:
    """The same for every rival. ``model``: the saved network; ``calibration``: a requests file of that split."""

    onnx: Path
    calibration: Path
    model: Path
    samples: int


@dataclass(frozen=True)
class Made:
    """What a rival made: ``file`` lies in the folder of the record; ``None`` with the reason where it failed."""

    peer: str
    file: str | None
    seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    why: str | None = None

    def save(self, folder: Path) -> None:
        (folder / RECORD).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Made:
        return cls(**json.loads((folder / RECORD).read_text(encoding="utf-8")))


PEERS = {
    "ort_dynamic": Peer("ONNX Runtime dynamic, per channel", "onnxruntime", "ort:dynamic"),
    "optimum_dynamic": Peer(
        "optimum-cli onnxruntime quantize --avx512_vnni --per_channel", "onnxruntime", "ort:optimum"
    ),
    "ort_minmax": Peer("ONNX Runtime static, min-max", "onnxruntime", "ort:minmax"),
    "ort_percentile": Peer("ONNX Runtime static, percentile", "onnxruntime", "ort:percentile"),
    "ort_entropy": Peer("ONNX Runtime static, entropy", "onnxruntime", "ort:entropy"),
    "nncf": Peer("NNCF PTQ, transformer mode (mixed)", "openvino", "intel:mixed"),
    "nncf_performance": Peer("NNCF PTQ, transformer mode, performance", "openvino", "intel:performance"),
    "nncf_weights": Peer("NNCF, weights only", "openvino", "intel:weights"),
    "optimum_weights": Peer("optimum-cli export openvino --weight-format int8", "openvino", "intel:optimum_weights"),
}


def find(output: Path, name: str) -> Made | None:
    """What the rival ``name`` left below ``output``; ``None`` if it never ran."""
    return Made.load(output / name) if (output / name / RECORD).is_file() else None

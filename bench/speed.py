"""TinyBERT and its aligned shape in every engine, with the PyTorch reference rows: the default report of both.

The networks see a few batches only: how fast they are does not depend on what they have learned, and their accuracy is
not what this measures (`accuracy` does).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from modelpress.config import compose
from modelpress.job import Job
from modelpress.pipeline import execute
from modelpress.report.record import Report

WANTED = {"tinybert": (4.5, 1.4), "tinybert_aligned": (5.2, 1.4)}


def report_of(model: str) -> Report:
    """A whole run of ``model``; its reports stay in outputs/bench_speed."""
    engines = "engine=[onnxruntime,openvino,torch,torch_compile]"
    cfg = compose(
        ["technique=distill", f"model={model}", "benchmark=default", "control=false", "trainer=tiny", engines]
    )
    folder = Path("outputs") / "bench_speed" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{model}"
    folder.mkdir(parents=True, exist_ok=True)
    report = execute(Job.of(cfg, folder, f"python -m bench speed ({model})"))
    assert report is not None
    return report


def main() -> None:
    for model, (wanted, wanted_best) in WANTED.items():
        report = report_of(model)
        rows = [row for row in report.rows if row.role == "candidate" and row.shape == "1x128" and row.speedup]
        best = max(rows, key=lambda row: row.speedup.ratio if row.speedup else 0.0)
        assert best.speedup is not None
        assert best.speedup_best is not None
        print(
            f"{model} in {best.engine} {best.precision} ({best.status}): {best.speedup.ratio:.2f}x "
            f"[{best.speedup.ci_low:.2f}, {best.speedup.ci_high:.2f}] over the teacher in ONNX Runtime FP32 "
            f"(wanted >= {wanted}), {best.speedup_best.ratio:.2f}x [{best.speedup_best.ci_low:.2f}, "
            f"{best.speedup_best.ci_high:.2f}] over its fastest lossless engine (wanted >= {wanted_best})"
        )


if __name__ == "__main__":
    main()

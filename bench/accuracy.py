"""Teacher, student and control over three seeds on reviews: accuracy on the engine, full test split.

Everything lands in the store, so an interrupted bench continues and a second one only reads. About 12 minutes a seed on
two cores with nothing cached.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from modelpress.config import compose
from modelpress.job import Job
from modelpress.pipeline import execute
from modelpress.report.record import Report

SEEDS = (1, 2, 3)
MODEL = "tinybert"


def report_of(seed: int, *overrides: str) -> Report:
    """One distillation with its teacher and its control."""
    cfg = compose(["technique=distill", f"model={MODEL}", "benchmark=quick", f"seed={seed}", *overrides])
    folder = Path("outputs") / "bench_accuracy" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    report = execute(Job.of(cfg, folder, f"python -m bench accuracy (seed {seed})"))
    assert report is not None
    return report


def accuracy(report: Report, role: str) -> float:
    """Of that role's ONNX Runtime FP32 row."""
    rows = [row for row in report.rows if (row.role, row.engine, row.precision) == (role, "onnxruntime", "fp32")]
    assert rows[0].metric is not None
    return rows[0].metric


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation in points."""
    return f"{100 * statistics.mean(values):.2f} ± {100 * statistics.stdev(values):.2f}"


def main() -> None:
    reports = {seed: report_of(seed) for seed in SEEDS}
    arms = {
        role: [accuracy(report, role) for report in reports.values()] for role in ("baseline", "candidate", "control")
    }
    print("| seed | " + " | ".join(arms) + " | seconds: teacher |")
    print("|---|---|---|---|---|")
    for index, (seed, report) in enumerate(reports.items()):
        cells = " | ".join(f"{values[index]:.4f}" for values in arms.values())
        print(f"| {seed} | {cells} | {report.seconds['minilm · finetune']:.0f} |")
    below = [base - own for base, own in zip(arms["baseline"], arms["candidate"], strict=True)]
    gain = [own - control for own, control in zip(arms["candidate"], arms["control"], strict=True)]
    print(f"teacher {spread(arms['baseline'])} (wanted >= 82), student {spread(arms['candidate'])}, ", end="")
    print(f"control {spread(arms['control'])}")
    print(f"student below its teacher by {spread(below)} points (wanted <= 0.8), above the control by {spread(gain)}")


if __name__ == "__main__":
    main()

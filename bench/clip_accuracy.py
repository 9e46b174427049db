"""CLIP's accuracy on the emoji: teacher against a probe of frozen towers, student against control, INT8 against FP32.

Called by bench/clip.py as its part `emoji`. Everything trained lands in the store, so an interrupted bench continues.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.clip_probe import best
from bench.pressed import FOLDER, Arms, arms
from modelpress.benchmark.machine import machine
from modelpress.benchmark.statistics import t_quantile
from modelpress.code_version import code_version
from modelpress.config import compose
from modelpress.evaluation import ask
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.models.base import load
from modelpress.pipeline import execute
from modelpress.report.record import Report, Row
from modelpress.stage import Stage

SEEDS, RESAMPLES = (1, 2, 3), 10_000
PROBE_SIZES = (96, 128)  # the reference's, and the teacher's own
MODEL = ("model=clip_tiny",)
# latencies are another part's affair
SHORT = ("benchmark=quick", "benchmark.rounds=2", "benchmark.throughput_s=0.05", "engine=onnxruntime")
RECALLS = tuple(f"{side}_recall_at_{k}" for side in ("image_to_text", "text_to_image") for k in (1, 5, 10))
Hits = NDArray[np.bool_]


def emoji(name: str, args: argparse.Namespace) -> str:
    """The part: three tables of recall on concepts that no training saw."""
    teacher = arms(*MODEL, "technique=distill", *args.overrides)
    chosen = [*MODEL, *SHORT, f"teacher.path={trained_teacher(teacher)}", *args.overrides]
    distilled = [report_of(seed, ["technique=distill", *chosen]) for seed in SEEDS]
    stages = {"ptq": "technique=[distill,ptq]", "qat": "technique=[distill,qat]"}
    quantized = {
        stage: [report_of(s, [t, "press=all", "control=false", *chosen]) for s in SEEDS] for stage, t in stages.items()
    }
    parts = [
        heading(name),
        against_probe(teacher, args.overrides),
        recalls_table(distilled),
        *[lost_table(stage, reports) for stage, reports in quantized.items()],
    ]
    return "\n\n".join(parts)


def heading(command: str) -> str:
    """What made a section, at which commit, where."""
    facts, commit = machine(), str(code_version()["commit"])[:7]
    return f"`python -m bench.clip {command}` at commit {commit}, {facts['cores']} cores of {facts['cpu']}."


def trained_teacher(made: Arms) -> Path:
    """Folder of the teacher's weights: one for all seeds of the students."""
    return (made.done[made.graph.baseline].folder / "model").absolute()


def against_probe(made: Arms, overrides: Sequence[str]) -> str:
    """Recall at 1 of the teacher and of probes on the test's images, and the differences, resampled by concept."""
    tuned, labels = hits(load(trained_teacher(made)), data_of(made.job, made.graph.baseline), "test")
    concepts = len(np.unique(labels))
    lines = [
        f"Teacher, image to text recall at 1 on {len(labels)} images of {concepts} concepts "
        f"(chance {1 / concepts:.4f}): {tuned.mean():.3f}."
    ]
    for size in PROBE_SIZES:
        frozen = probed(size, overrides)
        low, high = by_concept(tuned.astype(float) - frozen, labels)
        lines.append(
            f"* Frozen towers with trained projections, images of {size} x {size}: {frozen.mean():.3f}; the teacher is "
            f"{100 * (tuned.mean() - frozen.mean()):.1f} points better [{100 * low:.1f}, {100 * high:.1f}] "
            "(wanted: at least 3, interval excluding 0)."
        )
    return "\n".join(lines)


def probed(size: int, overrides: Sequence[str]) -> Hits:
    """(N,) whether a probe of the untrained teacher finds a test image's text."""
    image_size = f"teacher.architecture.vision_cfg.image_size={size}"
    job = Job.of(compose([*MODEL, "technique=distill", image_size, *overrides]), FOLDER)
    stage = graph(job).baseline
    known = {"labels": job.dataset.labels, "preprocessor": stage.tokenizer(), "teacher": None, "seed": job.seed}
    probe, features = best(stage.recipe.build(**known), data_of(job, stage))
    found: Hits = probe.hits(features["test"]).numpy()
    return found


def data_of(job: Job, stage: Stage) -> Any:
    return job.dataset.datamodule(stage.tokenizer(), seed=job.seed, cache=job.store.root / "data")


@torch.no_grad()
def hits(model: Any, data: Any, split: str) -> tuple[Hits, NDArray[np.int64]]:
    """(N,) whether the nearest text is the right one, and (N,) labels."""
    ask(model, data, split)
    answers = [(model(batch).logits.argmax(1), batch["labels"]) for batch in data.eval_dataloader(split)]
    found, labels = (torch.cat(parts).numpy() for parts in zip(*answers, strict=True))
    return found == labels, labels


def by_concept(values: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of the mean: a bootstrap that draws whole concepts, since their images are alike."""
    concepts = np.unique(labels)
    sums = np.array([values[labels == concept].sum() for concept in concepts])
    counts = np.array([np.sum(labels == concept) for concept in concepts])
    drawn = np.random.default_rng(0).integers(len(concepts), size=(RESAMPLES, len(concepts)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), (0.025, 0.975))
    return float(low), float(high)


def report_of(seed: int, overrides: Sequence[str]) -> Report:
    folder = Path("outputs") / "bench_clip" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    report = execute(Job.of(compose([*overrides, f"seed={seed}", "logger=none"]), folder, "python -m bench.clip emoji"))
    assert report is not None
    return report


def pair(report: Report, wanted: Callable[[Row], bool]) -> Row:
    """The pair of towers of one arm, in ONNX Runtime."""
    return next(row for row in report.rows if row.tower == "pair" and row.engine == "onnxruntime" and wanted(row))


def recalls_table(reports: Sequence[Report]) -> str:
    """Teacher, student and control over seeds; what the teacher brought, with an interval over seeds."""
    roles = ("baseline", "candidate", "control")
    found = {
        role: [pair(report, lambda row, role=role: row.role == role).metrics for report in reports] for role in roles
    }
    rows = [
        [
            name.replace("_", " "),
            *(spread([m[name] for m in found[role]]) for role in roles),
            gain(found["candidate"], found["control"], name),
        ]
        for name in RECALLS
    ]
    titles = ["%", "teacher (one for all)", "distilled student", "same student without a teacher", "gain, points"]
    return (
        markdown(titles, rows)
        + f"\n\nMean ± standard deviation over seeds {', '.join(map(str, SEEDS))}; "
        + "intervals are of the mean of the paired gains (t)."
    )


def lost_table(stage: str, reports: Sequence[Report]) -> str:
    """What INT8 loses against the float student it was made from."""
    whole = [pair(report, lambda row: row.stage == "distill").metrics for report in reports]
    small = [pair(report, lambda row: row.stage == stage and row.precision == "int8").metrics for report in reports]
    rows = [
        [
            name.replace("_", " "),
            spread([m[name] for m in whole]),
            spread([m[name] for m in small]),
            gain(whole, small, name),
        ]
        for name in RECALLS
    ]
    return markdown(["%", "student FP32", f"INT8 ({stage})", "lost, points"], rows)


def gain(ours: Sequence[dict[str, float]], theirs: Sequence[dict[str, float]], name: str) -> str:
    """Mean paired difference in points with its 95 % interval over seeds."""
    values = [100 * (a[name] - b[name]) for a, b in zip(ours, theirs, strict=True)]
    half = t_quantile(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.mean(values)
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"


def spread(values: Sequence[float]) -> str:
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

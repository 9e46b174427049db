"""A realistic report from synthetic evidence: latencies and accuracies near those measured on a 2-core CPU with AMX."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelpress.benchmark.statistics import summarize
from modelpress.report.html import Curve, Extras
from modelpress.report.record import Report, Row
from modelpress.report.verdict import Budget, Evidence, judge

ITEMS = 2591
ROUNDS, QUERIES = 12, 60


@dataclass(frozen=True)
class Network:
    model: str
    stage: str
    role: str
    params_m: float
    macs_g: float
    latency_ms: dict[tuple[str, str], float]


TEACHER = Network(
    "minilm",
    "finetune",
    "baseline",
    22.7,
    1.45,
    {("onnxruntime", "fp32"): 16.3, ("openvino", "fp32"): 11.8, ("openvino", "bf16"): 5.3},
)
STUDENT = Network(
    "tinybert",
    "distill",
    "candidate",
    14.4,
    0.62,
    {("onnxruntime", "fp32"): 8.7, ("openvino", "fp32"): 6.1, ("openvino", "bf16"): 3.5},
)
CONTROL = Network("tinybert", "control", "control", 14.4, 0.62, STUDENT.latency_ms)


def answers(labels: np.ndarray, right: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """(N, 2) logits that are right where asked, with a little noise of the engine's precision."""
    generator = np.random.default_rng(seed)
    margin = np.where(right, 1.0, -1.0) * generator.uniform(0.02, 3.0, len(labels))
    margin = margin + noise * generator.standard_normal(len(labels))
    sign = np.where(labels == 1, 1.0, -1.0)
    return np.stack([-sign * margin / 2, sign * margin / 2], axis=1)


def flipped(right: np.ndarray, lost: int, won: int, seed: int) -> np.ndarray:
    """The same answers, but ``lost`` right ones become wrong and ``won`` wrong ones right."""
    generator = np.random.default_rng(seed)
    result = right.copy()
    result[generator.choice(np.flatnonzero(right), lost, replace=False)] = False
    result[generator.choice(np.flatnonzero(~right), won, replace=False)] = True
    return result


def timings(p50: float, seed: int, rounds: int = ROUNDS, queries: int = QUERIES) -> list[list[float]]:
    """Skewed latencies with a factor that all queries of a round share."""
    generator = np.random.default_rng(seed)
    factors = np.exp(0.01 * np.random.default_rng(99).standard_normal(rounds))
    return [list(p50 * factor * np.exp(0.25 * generator.exponential(0.3, queries) - 0.05)) for factor in factors]


def row_of(network: Network, engine: str, precision: str, shape: str, **changes: object) -> Row:
    """A row with everything that pressing and measuring would fill."""
    row = Row(
        id=f"{network.stage}/{network.model}/{engine}/{precision}/{shape}",
        stage=network.stage,
        model=network.model,
        role=network.role,
        tower="main",
        engine=engine,
        precision=precision,
        device="cpu",
        shape=shape,
        status="ok",
        params_m=network.params_m,
        macs_g=network.macs_g if shape == "1x128" else network.macs_g * 0.21,
        sparsity=0.0,
        size_mb=network.params_m * (4 if precision == "fp32" else 2),
        peak_memory_mb=150 + network.params_m * 6,
        cold_start_ms=180 + network.params_m * 4,
        preprocess_ms=0.11,
        parity_max_abs=2.1e-6 if precision == "fp32" else None,
        details={"threads": 2},
    )
    for name, value in changes.items():
        setattr(row, name, value)
    return row


def evidence_of(network: Network, labels: np.ndarray, right: np.ndarray, seed: int) -> list[Evidence]:
    entries = []
    for number, ((engine, precision), p50) in enumerate(network.latency_ms.items()):
        logits = answers(labels, right, 0.004 if precision == "bf16" else 1e-6, seed)
        for shape, share in (("1x128", 1.0), ("data", 0.31)):
            rounds = timings(p50 * share, seed * 100 + number * 10 + len(shape))
            pooled = [value for batch in rounds for value in batch]
            row = row_of(network, engine, precision, shape)
            row.latency_ms, row.throughput_per_s = summarize(pooled), 1900 / (p50 * share)
            entries.append(Evidence(row, rounds, logits))
    return entries


def labels_and_answers(lost: int = 58, won: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels; which items the teacher, the student and the control get right."""
    labels = np.random.default_rng(7).integers(0, 2, ITEMS)
    teacher = np.random.default_rng(8).random(ITEMS) < 0.832
    student = flipped(teacher, lost, won, 9)
    return labels, teacher, student, flipped(student, 120, 70, 10)


def example_evidence(lost: int = 58, won: int = 60) -> tuple[list[Evidence], np.ndarray]:
    """Three models in three engines at two shapes, and rows that failed, are unsupported or unstable."""
    labels, teacher, student, control = labels_and_answers(lost, won)
    entries = evidence_of(TEACHER, labels, teacher, 1)
    entries += evidence_of(CONTROL, labels, control, 2)
    entries += evidence_of(STUDENT, labels, student, 3)
    for entry in entries:
        if entry.row.role == "control":
            entry.row.details["description"] = "same start and steps, no teacher"
    return entries + _odd_rows(labels, student), labels


def _odd_rows(labels: np.ndarray, student: np.ndarray) -> list[Evidence]:
    shaky = row_of(STUDENT, "openvino", "int8", "1x128", status="unstable", size_mb=14.9)
    shaky.details |= {"kernel_multiple": 16, "widths": [312, 26, 1200], "operators": 96}
    rounds = timings(4.8, 77)
    shaky.latency_ms = summarize([value for batch in rounds for value in batch])
    failed = row_of(STUDENT, "onnxruntime", "int8", "1x128", status="failed")
    failed.why = "The worker ended with signal 9 after 41 s: out of memory."
    missing = row_of(TEACHER, "torch_compile", "fp32", "1x128", status="unsupported", role="reference")
    missing.why = "torch.compile needs a C++ compiler; none of g++, clang++ is on PATH."
    for row in (failed, missing):
        row.size_mb = row.peak_memory_mb = row.cold_start_ms = row.preprocess_ms = row.parity_max_abs = None
    logits = answers(labels, flipped(student, 90, 40, 11), 0.01, 5)
    return [Evidence(shaky, rounds, logits), Evidence(failed, None, None), Evidence(missing, None, None)]


def example_report(lost: int = 58, won: int = 60, *, control: bool = True) -> tuple[Report, list[Evidence]]:
    entries, labels = example_evidence(lost, won)
    if not control:
        entries = [entry for entry in entries if entry.row.role != "control"]
    found = judge(entries, labels, Budget(size_mb=30.0), control_expected=True)
    report = Report(
        name="reviews_tinybert_distill",
        command="python run.py technique=distill model=tinybert technique.distill.objective.temperature=2",
        dataset={"name": "reviews", "classes": ["rotten", "fresh"], "train": 10161, "test": ITEMS, "sha256": "3f" * 32},
        task_metric="accuracy",
        seed=0,
        rows=[entry.row for entry in entries],
        verdict=found,
        complete=found["complete"],
        environment={
            "cpu": "Intel Xeon (Sapphire Rapids), 2 cores",
            "flags": ["avx512f", "avx512_vnni", "amx_bf16", "amx_int8"],
            "python": "3.11.2",
            "libraries": {"onnxruntime": "1.31.1", "openvino": "2026.4.1", "torch": "2.15.0"},
            "machine": {"load_1min": 0.12, "governor": None, "threads": 2},
        },
        lineage=[
            {"stage": "finetune", "model": "minilm", "key": "9b1c2d3e4f5a", "seconds": 164.0, "cached": True},
            {"stage": "distill", "model": "tinybert", "key": "77aa10c4d2e9", "parent": "9b1c2d3e4f5a", "seconds": 236},
            {"stage": "control", "model": "tinybert", "key": "c0ffee001122", "parent": "9b1c2d3e4f5a", "seconds": 141},
        ],
        reproduction={
            "command": "git clone . ../modelpress-01234567 && cd ../modelpress-01234567 && .venv/bin/python run.py",
            "needs": [{"key": "dataset.path", "path": "reviews.csv", "sha256": "3f" * 32}],
            "remarks": ["The working tree had changes that are not in that commit: the command runs without them."],
        },
        seconds={"finetune": 164.0, "distill": 236.0, "control": 141.0, "press": 22.0, "benchmark": 118.0},
    )
    return report, entries


def curve(stage: str, role: str, steps: int, floor: float, best: float, parts: dict[str, float]) -> Curve:
    generator = np.random.default_rng(len(stage) + steps)
    x = list(range(0, steps, 5))
    decay = [np.exp(-3 * step / steps) for step in x]
    total = [float(floor + 0.7 * d + 0.04 * generator.standard_normal()) for d in decay]
    rate = [min(step / (0.1 * steps), (steps - step) / (0.9 * steps)) * 2e-4 for step in x]
    checks = list(range(steps // 6, steps + 1, steps // 6))
    series = {"train/loss": (x, total), "lr-AdamW": (x, rate)}
    series["val/accuracy"] = (checks, [best - 0.06 * float(np.exp(-4 * step / steps)) for step in checks])
    for name, height in parts.items():
        values = [float(height * (0.3 + 0.7 * d) + 0.01 * generator.standard_normal()) for d in decay]
        series[f"train/loss/{name}"] = (x, values)
    return Curve(stage, role, series)


def example_extras(entries: list[Evidence]) -> Extras:
    parts = {"hard": 0.4, "soft": 0.8, "hidden": 0.5, "attention": 0.2}
    return Extras(
        curves=[
            curve("finetune", "baseline", 636, 0.25, 0.832, {}),
            curve("distill", "candidate", 954, 0.45, 0.828, parts),
            curve("control", "control", 954, 0.3, 0.809, {"hard": 0.3}),
        ],
        traces={e.row.id: [value for batch in e.rounds for value in batch] for e in entries if e.rounds},
        diagnostics=[
            {"name": "agreement on train", "value": 0.971, "meaning": "The student follows its teacher."},
            {
                "name": "agreement where the teacher is wrong",
                "value": 0.62,
                "meaning": "Of the teacher's mistakes the student copies 62 %.",
            },
            {"name": "teacher better than student", "value": True, "meaning": "The teacher has something to teach."},
        ],
    )

"""Run folders without a run: reports as the pipeline writes them, with a lineage, and status files of every kind."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelpress.report.record import Interval, Latency, Ratio, Report, Row

TEMPERATURE = "technique.distill.objective.temperature"
SHAPES = ("1x128", "data")


def row(stage: str, model: str, role: str, engine: str, precision: str, shape: str, p50: float, metric: float) -> Row:
    candidate = role == "candidate"
    vs = "minilm/finetune/openvino/bf16/" + shape
    return Row(
        id=f"{model}/{stage}/{engine}/{precision}/{shape}",
        stage=stage,
        model=model,
        role=role,
        tower="main",
        engine=engine,
        precision=precision,
        device="cpu",
        shape=shape,
        status="ok",
        metric=metric,
        metrics={"accuracy": metric, "macro_f1": metric - 0.01},
        metric_n=2890,
        metric_drop=Interval(0.83 - metric, 0.82 - metric, 0.84 - metric),
        size_mb=57.6 if model == "tinybert" else 91.1,
        latency_ms=Latency(p50, p50 * 1.2, None, None, p50 * 0.9, 0.1, 300),
        throughput_per_s=1000 / p50,
        speedup=Ratio(f"minilm/finetune/onnxruntime/fp32/{shape}", 9 / p50, 8.9 / p50, 9.1 / p50),
        speedup_best=Ratio(vs, 5 / p50, 4.9 / p50, 5.1 / p50),
        verdict="pays" if candidate else None,
        details={"p50_interval_ms": [p50 * 0.98, p50 * 1.02], "threads": 2},
    )


def rows(p50: float, metric: float) -> list[Row]:
    found = []
    for shape, share in zip(SHAPES, (1.0, 0.3), strict=True):
        for engine, precision, factor in (("onnxruntime", "fp32", 1.8), ("openvino", "bf16", 1.0)):
            found.append(row("finetune", "minilm", "baseline", engine, precision, shape, 5 * factor * share, 0.83))
            found.append(
                row("distill", "tinybert", "candidate", engine, precision, shape, p50 * factor * share, metric)
            )
    return found


def lineage(seed: int, temperature: float, **stage: Any) -> list[dict[str, Any]]:
    """Two stages and the measurement, with what two seeds do not share."""
    shared = {"model": "m1", "dataset": {"fingerprint": "f00d", "options": {"name": "reviews", "limit": None}}}
    shared |= {"versions": {"torch": "2.15.0"}, "sources": {"modelpress.training": "aa"}, "seed": seed}
    spec = {"objective": {"temperature": temperature, "alpha": 0.5}, "optimizer": {"lr": 5e-5}, **stage}
    tuned = shared | {"stage": {"optimizer": {"lr": 5e-5}}, "parent": None, "teacher": None}
    taught = shared | {"stage": spec, "parent": None, "teacher": f"weights {seed}"}
    measured = {"benchmark": {"name": "quick"}, "hardware": {"name": "cpu"}, "versions": {"openvino": "2026.4.1"}}
    return [
        {"key": f"tune{seed}", "kind": "stage", "name": "minilm · finetune", "inputs": tuned},
        {"key": f"dist{seed}{temperature}{stage}", "kind": "stage", "name": "tinybert · distill", "inputs": taught},
        {"key": f"meas{seed}{temperature}", "kind": "measurement", "name": "benchmark of x", "inputs": measured},
    ]


def report(temperature: float = 2, seed: int = 1, p50: float = 3.0, metric: float = 0.82, **changes: Any) -> Report:
    made = Report(
        name="reviews_tinybert_distill",
        command=f"python run.py technique=distill {TEMPERATURE}={temperature:g} seed={seed}",
        dataset={"name": "reviews", "fingerprint": "f00dcafe"},
        task_metric="accuracy",
        seed=seed,
        rows=rows(p50, metric),
        verdict={"verdict": "pays", "row": "tinybert/distill/openvino/bf16/1x128", "words": "It pays: …"},
        complete=True,
        environment={"before": {"cpu": "AMD EPYC", "cores": 2, "runtimes": {"openvino": "2026.4.1"}, "python": "3.11"}},
        lineage=lineage(seed, temperature),
        seconds={"total": 120.0},
    )
    return replace(made, **changes)


def put(folder: Path, made: Report, started: str = "2026-11-22T01:00:00+00:00") -> Path:
    """A finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    made.save(folder / "report.json")
    (folder / "report.html").write_text("<p>report</p>")
    status(folder, "done", command=made.command, started=started)
    return folder


def status(folder: Path, state: str, reason: str | None = None, **facts: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content: Mapping[str, Any] = {"status": state, "reason": reason, "command": "", "seconds": 12.0, **facts}
    (folder / "status.json").write_text(json.dumps(content))
    return folder


def command(temperature: float, seed: int = 1) -> str:
    return shlex.join(["python", "run.py", "technique=distill", f"{TEMPERATURE}={temperature:g}", f"seed={seed}"])


def sweep(folder: Path) -> Path:
    """Three temperatures with three seeds each; one job failed, one was killed, two reports cannot be read."""
    number = 0
    for temperature, p50, metric in ((1, 3.0, 0.810), (2, 3.1, 0.825), (4, 3.3, 0.820)):
        for seed in (1, 2, 3):
            shift = 0.002 * (seed - 2)
            put(folder / str(number), report(temperature, seed, p50 + 0.05 * seed, metric + shift))
            number += 1
    status(folder / "9", "failed", "temperature is -1; it must be positive.", command=command(-1))
    status(folder / "10", "running", command=command(8), pid=2**22 + 1, started="2026-11-22T02:00:00+00:00")
    status(folder / "11", "done", command=command(16))
    (folder / "11" / "report.json").write_text((folder / "0" / "report.json").read_text()[:900])
    status(folder / "12", "done", command=command(32))
    (folder / "12" / "report.json").write_text('{"schema_version": 99, "rows": []}')
    return folder

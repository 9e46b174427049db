"""``modelpress compare`` over 1,000 report.json files of real size: time to the table, time and size of the page."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from modelpress.report.record import Interval, Latency, Ratio, Report, Row

RUNS = 1000
SPARSITIES = tuple(round(0.05 * step, 2) for step in range(1, 18))
RATES = (1e-5, 2e-5, 5e-5, 1e-4)
ROLES = ("baseline", "control", "candidate")
ENGINES = (("onnxruntime", "fp32", 2.0), ("openvino", "fp32", 1.5), ("openvino", "bf16", 1.0))
DETAILS_BYTES = 3000  # of each row: what a real report's rows carry beside their figures


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "multirun"
        written = [write(place / str(number), number) for number in range(RUNS)]
        page = Path(folder) / "compare.html"
        table = [seconds(["compare", str(place)]) for _ in range(3)]
        whole = seconds(["compare", str(place), "--html", str(page)])
        print(f"{RUNS} reports of {statistics.mean(written) / 1e3:.0f} kB")
        print(f"to the table     {statistics.median(table):.2f} s (limit 3 s)")
        print(f"of it processor  {cpu_seconds(place):.2f} s: what remains on a machine that does nothing else")
        print(f"with the page    {whole:.2f} s")
        print(f"the page         {page.stat().st_size / 1e6:.1f} MB (limit 10 MB)")


def seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    run(arguments)
    return time.perf_counter() - started


def cpu_seconds(place: Path) -> float:
    """Processor time of one more run."""
    before = os.times()
    run(["compare", str(place)])
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def run(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "modelpress", *arguments]
    subprocess.run(command, env={**os.environ, "COLUMNS": "120"}, check=True, stdout=subprocess.DEVNULL)


def write(folder: Path, number: int) -> int:
    """One run folder; returns the size of its report in bytes. Three seeds each of sparsities and learning rates."""
    point, seed = divmod(number, 3)
    sparsity, rate = SPARSITIES[point % len(SPARSITIES)], RATES[point // len(SPARSITIES) % len(RATES)]
    batch = 16 * 2 ** (point // (len(SPARSITIES) * len(RATES)))
    folder.mkdir(parents=True)
    report(sparsity, rate, batch, seed).save(folder / "report.json")
    status = {"status": "done", "reason": None, "started": f"2026-11-22T{number % 24:02d}:00:00+00:00", "seconds": 60.0}
    (folder / "status.json").write_text(json.dumps(status))
    return (folder / "report.json").stat().st_size


def report(sparsity: float, rate: float, batch: int, seed: int) -> Report:
    options = {"technique.prune.transform.sparsity": sparsity, "technique.prune.optimizer.lr": rate}
    options |= {"dataset.batch_size": batch, "seed": seed}
    p50, metric = 6 * (1 - 0.8 * sparsity) + 0.02 * seed, 0.83 - 0.1 * sparsity**3 + 0.001 * seed - 20 * rate
    return Report(
        name="reviews_minilm_prune",
        command="python run.py technique=prune " + " ".join(f"{key}={value}" for key, value in options.items()),
        dataset={"name": "reviews", "fingerprint": "6e4d8a56747bfcce"},
        task_metric="accuracy",
        seed=seed,
        rows=[row for role in ROLES for row in rows(role, p50, metric)],
        verdict={"verdict": "pays", "row": "minilm/candidate/openvino/bf16/1x128", "words": "It pays."},
        complete=True,
        environment={"before": {"cpu": "AMD EPYC", "cores": 2}},
        lineage=[stage(name, sparsity, rate, batch, seed) for name in ROLES],
        seconds={"total": 60.0},
    )


def stage(name: str, sparsity: float, rate: float, batch: int, seed: int) -> dict[str, Any]:
    spec = {"transform": {"sparsity": sparsity}, "optimizer": {"lr": rate}} if name == "candidate" else {"lr": 5e-5}
    sources = {f"modelpress.module_{index}": f"{index:064x}" for index in range(40)}
    inputs = {"stage": spec, "dataset": {"options": {"batch_size": batch}}, "seed": seed, "sources": sources}
    return {"key": name, "kind": "stage", "name": f"minilm · {name}", "inputs": inputs}


def rows(role: str, p50: float, metric: float) -> list[Row]:
    found = []
    for shape in ("1x128", "data"):
        for engine, precision, factor in (
            ("onnxruntime", "fp32", 2.0),
            ("openvino", "fp32", 1.5),
            ("openvino", "bf16", 1.0),
        ):
            made = 5.0 * factor if role == "baseline" else p50 * factor
            found.append(row(role, engine, precision, shape, made, 0.83 if role == "baseline" else metric))
    return found


def row(role: str, engine: str, precision: str, shape: str, p50: float, metric: float) -> Row:
    vs = f"minilm/baseline/openvino/bf16/{shape}"
    return Row(
        id=f"minilm/{role}/{engine}/{precision}/{shape}",
        stage=role,
        model="minilm",
        role=role,
        tower="main",
        engine=engine,
        precision=precision,
        device="cpu",
        shape=shape,
        status="ok",
        metric=metric,
        metrics={"accuracy": metric, "macro_f1": metric},
        metric_n=2890,
        metric_drop=Interval(0.83 - metric, 0.82 - metric, 0.84 - metric),
        size_mb=91.0,
        latency_ms=Latency(p50, p50 * 1.1, None, None, p50 * 0.9, 0.1, 400),
        speedup=Ratio(f"minilm/baseline/onnxruntime/fp32/{shape}", 10 / p50, 9 / p50, 11 / p50),
        speedup_best=Ratio(vs, 5 / p50, 4.9 / p50, 5.1 / p50),
        verdict="pays" if role == "candidate" else None,
        details={"p50_interval_ms": [p50 * 0.98, p50 * 1.02], "trace": list(range(DETAILS_BYTES // 16))},
    )


if __name__ == "__main__":
    main()

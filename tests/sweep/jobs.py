"""A stand-in for ``pipeline.run`` that needs no training, in this process or in one that a launcher starts.

A job's score is a function of its temperature; it writes the report that a real one would. ``MODELPRESS_STAND_IN``
names the folder in which every job leaves a line, so that a test can count what really ran.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from modelpress.benchmark import lock
from modelpress.errors import ModelPressError
from modelpress.report.record import Latency, Report, Row

ENV = "MODELPRESS_STAND_IN"
# Imported by every Python that finds it: the only way into processes that Ray or submitit start.
SITE = """
import os, sys
if os.environ.get("MODELPRESS_STAND_IN"):
    import importlib.abc, importlib.util

    class Patch(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name != "modelpress.pipeline":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            run = spec.loader.exec_module
            def exec_module(module):
                run(module)
                from tests.sweep import jobs
                module.run = jobs.run
            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Patch())
"""


def run(cfg: DictConfig, folder: Path, command: str = "", *, measure: bool = True) -> float | None:
    """Called as ``pipeline.run`` is. ``seed=13`` is a fault of the user, ``seed=14`` a crash of the process.

    ``seed=15`` crashes when it is measured. What has "trained" is in the "store", and does not train again.
    """
    temperature = float(cfg.technique.distill.objective.temperature)
    note(f"ran {temperature!r} {cfg.seed} {os.getpid()}")
    if cfg.seed == 13 and not (Path(os.environ[ENV]) / "mended").exists():
        raise ModelPressError("seed 13 is unlucky")
    if cfg.seed == 14:
        os.abort()
    stored = Path(os.environ[ENV]) / f"trained-{temperature:g}-{cfg.seed}"
    if not stored.exists():
        with lock.shared(f"training {temperature:g}", tell=lambda text: None):
            span("shared", 0.2)
        stored.touch()
    if not measure:
        return None
    if cfg.seed == 15 and not (Path(os.environ[ENV]) / "mended").exists():
        os.abort()
    with lock.exclusive(f"benchmark {temperature:g}", tell=lambda text: None):
        span("exclusive", 0.2)
    report_of(folder, metric=1.0 - (temperature - 3.0) ** 2 / 100, p50=temperature, command=command).save(
        folder / "report.json"
    )
    return 1.0 - (temperature - 3.0) ** 2 / 100


def span(kind: str, seconds: float) -> None:
    """Work that holds the lock, and when it did."""
    start = time.time()
    time.sleep(seconds)
    note(f"{kind} {start} {time.time()} {os.getpid()}")


def note(line: str) -> None:
    with (Path(os.environ[ENV]) / "notes").open("a") as file:
        file.write(line + "\n")


def notes(kind: str) -> list[list[str]]:
    """Lines of one kind, split."""
    path = Path(os.environ[ENV]) / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1:] for line in lines if line.startswith(kind)]


def ran() -> list[float]:
    """Temperatures of the jobs that ran, in order."""
    return [float(words[0]) for words in notes("ran")]


def report_of(folder: Path, metric: float, p50: float, command: str = "") -> Report:
    """A report with one candidate."""
    kinds: dict[str, Any] = {"tower": "main", "engine": "onnxruntime", "precision": "fp32", "device": "cpu"}
    row = Row(
        "tiny/distill/onnxruntime/fp32/1x128",
        *("distill", "tiny", "candidate"),
        **kinds,
        shape="1x128",
        status="ok",
        metric=metric,
        latency_ms=Latency(p50, None, None, None, p50, 0.0, 20),
        verdict="pays",
    )
    verdict = {"verdict": "pays", "row": row.id}
    return Report(folder.name, command, {"name": "r"}, "accuracy", 1, [row], verdict, True, {}, [], {"total": 1.0})


def status(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return record

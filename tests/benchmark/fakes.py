"""Engines for tests of the benchmark itself. Workers load them by their dotted path."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from modelpress.benchmark.session import Settings
from modelpress.engines.base import Arrays, Artifact, Engine, Hardware, Plan, Session, Unsupported
from modelpress.engines.onnxruntime import OnnxRuntime

HERE = Path(__file__).parents[2]


def settings(**changes: Any) -> Settings:
    """As short as can be, and steady however busy the machine is."""
    values: dict[str, Any] = {
        "name": "test", "minutes": 0.1, "shapes": ("1x16", "data"), "requests": 12, "repeat": 0, "rounds": 4,
        "block_ms": 5, "block_queries": 4, "block_limit_ms": 1000, "rewarm_ms": 1,
        "warm_window_ms": 5, "warm_min_ms": 5, "warm_limit_ms": 60, "warm_tolerance": 100.0, "throughput_batch": 4,
        "throughput_s": 0.02, "evaluate_batch": 4, "cold_starts": 1,
        "max_foreign_share": 100.0, "max_round_cov": 100.0, "max_drift": 1e6, "timeout_s": 60,
    }  # fmt: skip
    return Settings(**{**values, **changes})


def plan(target: str = "Sleeper", precision: str = "fp32", **options: Any) -> Plan:
    return Plan("fake", f"{__name__}.{target}", precision, "none", options)


class Sleeper(Engine):
    """Sleeps ``sleep_ms`` per run. ``fault``: what to do when it opens."""

    name = "fake"
    extension = ""

    def build(self, artifact: Artifact, hardware: Hardware, folder: Path) -> list[Plan]:
        raise Unsupported("made for tests")

    @classmethod
    def open(cls, plan: Plan) -> Session:
        print('{"status": "ok"}', flush=True)  # noise that must not be taken for an answer
        os.write(2, b"noise on stderr\n")
        fault = plan.settings.get("fault")
        if fault == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == "unsupported":
            raise Unsupported("this machine lacks a flux capacitor")
        if fault == "exit":
            os._exit(3)
        if fault == "hang":
            time.sleep(60)
        return SleeperSession(plan)


class SleeperSession(Session):
    def __init__(self, plan: Plan) -> None:
        self.precision = plan.precision
        self.sleep_s = plan.settings.get("sleep_ms", 0.2) / 1e3
        self.only_one = plan.settings.get("only_one", False)
        self.split = plan.settings.get("device_ms", {})
        self.kept = Path(plan.settings["kernels"]) if "kernels" in plan.settings else None
        self.kernels_kept = self.kept.exists() if self.kept else None

    def run(self, inputs: Arrays) -> dict[str, Any]:
        ids = inputs["input_ids"]
        if self.only_one and len(ids) > 1:
            raise RuntimeError("invalid dimensions\nsecond line")
        time.sleep(self.sleep_s)
        return {"logits": np.stack([ids.sum(axis=1), ids.max(axis=1)], axis=1)}

    def device_ms(self) -> dict[str, float]:
        return dict(self.split)

    def warmed(self) -> None:
        if self.kept is not None:
            self.kept.touch()


class Listing(OnnxRuntime):
    """ONNX Runtime that also reports which modules its process has imported."""

    @classmethod
    def open(cls, plan: Plan) -> Session:
        session = OnnxRuntime.open(plan)
        details = session.details
        session.details = lambda: {**details(), "modules": sorted({name.partition(".")[0] for name in sys.modules})}  # type: ignore[method-assign]
        return session

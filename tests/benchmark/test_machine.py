from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from modelpress.benchmark import machine
from modelpress.benchmark.gpu import gpus
from modelpress.benchmark.machine import STABLE, default_threads, fingerprint, has_bf16


def test_facts_are_complete_and_plain() -> None:
    facts = machine.machine()
    assert set(STABLE) - {"gpus"} <= set(facts)
    assert ("gpus" in facts) == bool(gpus())
    assert facts["cores"] == default_threads()
    assert facts["memory_gb"] > 0
    assert {"numpy", "onnxruntime", "openvino"} <= set(facts["runtimes"])
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_fingerprint_ignores_the_state_of_the_moment() -> None:
    facts = machine.machine()
    assert fingerprint(facts) == fingerprint({**facts, "load_average": [9, 9, 9], "clock_mhz": 1.0})
    assert fingerprint(facts) != fingerprint({**facts, "cores": facts["cores"] + 1})


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"/sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8),
        ({}, 8),
    ],
)
def test_threads_respect_affinity_and_quota(
    files: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(machine, "_read", files.get)
    assert default_threads() == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("flags : avx2 avx512_bf16", True), ("Features : asimd bf16", True), ("flags : avx2", False)],
)
def test_bf16_flags(flags: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: flags if path == "/proc/cpuinfo" else None)
    assert has_bf16() is expected


def test_no_runtime_is_imported() -> None:
    code = "import sys, modelpress.benchmark.machine as m; m.machine(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "onnxruntime", "openvino", "numpy"} & set(done.stdout.split())

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modelpress.benchmark import requests
from modelpress.benchmark.process import WorkerFault, WorkerProcess, explain_exit, last_words, process_state
from modelpress.engines.base import Artifact, Hardware
from modelpress.engines.onnxruntime import OnnxRuntime
from tests.benchmark.fakes import HERE, plan
from tests.engines import graphs

TIMEOUT_S = 60.0
WARM = {"window_ms": 5, "min_ms": 10, "limit_ms": 500, "tolerance": 0.5}


@pytest.fixture
def worker(tmp_path: Path, no_leftovers: None) -> Iterator[WorkerProcess]:
    process = WorkerProcess(tmp_path / "log.txt")
    yield process
    process.kill()


def test_a_whole_conversation(worker: WorkerProcess, ragged: Path, fixed: Path, tmp_path: Path) -> None:
    opened = worker.open(plan(sleep_ms=1.0), {"1x16": fixed, "data": ragged}, TIMEOUT_S)
    assert opened["precision"] == "fp32"
    cold = opened["cold_start"]
    parts = ("process_ms", "interpreter_ms", "import_ms", "load_ms", "first_inference_ms")
    assert cold["total_ms"] == pytest.approx(sum(cold[part] for part in parts))
    assert cold["first_inference_ms"] >= 1.0
    assert all(cold[part] > 0 for part in parts)

    warm = worker.ask("warm", TIMEOUT_S, shape="data", **WARM)
    assert warm["queries"] >= 6
    assert warm["shapes"] == len(set(np.load(ragged)["lengths"]))
    assert warm["new_shape_ms"] >= 1.0
    assert len(warm["medians_ms"]) >= 3

    block = worker.ask("block", TIMEOUT_S, shape="1x16", start=0, min_ms=1, min_queries=9, limit_ms=500, rewarm_ms=2)
    assert len(block["times_ms"]) == 9
    assert min(block["times_ms"]) >= 1.0
    assert block["rewarm_queries"] >= 2

    longer = worker.ask("block", TIMEOUT_S, shape="data", start=30, min_ms=40, min_queries=2, limit_ms=500, rewarm_ms=1)
    assert sum(longer["times_ms"]) >= 30

    throughput = worker.ask("throughput", TIMEOUT_S, shape="data", batch=8, min_s=0.05)
    assert throughput["batch"] == 8
    assert throughput["per_s"] == pytest.approx(throughput["samples"] / throughput["seconds"])
    assert throughput["per_s"] < 8 / 1e-3

    memory = worker.ask("memory", TIMEOUT_S)
    assert memory["peak"] >= memory["now"] > 10

    output = tmp_path / "logits.npy"
    worker.ask("evaluate", TIMEOUT_S, path=str(ragged), batch=5, output=str(output))
    ids = requests.read(ragged).arrays["input_ids"]
    np.testing.assert_array_equal(np.load(output), np.stack([ids.sum(1), ids.max(1)], 1))
    assert worker.ask("close", TIMEOUT_S) == {}
    assert worker.process.wait(10) == 0
    assert b"noise on stderr" in worker.log.read_bytes()


def test_a_graph_that_takes_one_item_at_a_time(worker: WorkerProcess, ragged: Path, tmp_path: Path) -> None:
    worker.open(plan(only_one=True, sleep_ms=0.01), {"data": ragged}, TIMEOUT_S)
    throughput = worker.ask("throughput", TIMEOUT_S, shape="data", batch=4, min_s=0.01)
    assert throughput["batch"] == 1
    assert throughput["note"] == "batch 4 refused: RuntimeError: invalid dimensions"
    done = worker.ask("evaluate", TIMEOUT_S, path=str(ragged), batch=4, output=str(tmp_path / "logits.npy"))
    assert (done["batch"], np.load(tmp_path / "logits.npy").shape) == (1, (22, 2))


def test_a_block_ends_at_its_limit(worker: WorkerProcess, fixed: Path) -> None:
    worker.open(plan(sleep_ms=5.0), {"1x16": fixed}, TIMEOUT_S)
    block = worker.ask("block", TIMEOUT_S, shape="1x16", start=0, min_ms=1, min_queries=500, limit_ms=40, rewarm_ms=1)
    assert 1 <= len(block["times_ms"]) <= 9


@pytest.mark.parametrize(
    ("fault", "status", "why"),
    [
        ("segfault", "failed", r"worker died: SIGSEGV; last output: noise on stderr"),
        ("exit", "failed", r"worker died: exit status 3"),
        ("unsupported", "unsupported", "flux capacitor"),
    ],
)
def test_faults_become_reasons(worker: WorkerProcess, fixed: Path, fault: str, status: str, why: str) -> None:
    with pytest.raises(WorkerFault, match=why) as caught:
        worker.open(plan(fault=fault), {"1x16": fixed}, TIMEOUT_S)
    assert caught.value.status == status


def test_an_unknown_engine_and_a_missing_file(worker: WorkerProcess, fixed: Path) -> None:
    with pytest.raises(WorkerFault, match="AttributeError: .*NoSuchEngine"):
        worker.open(plan("NoSuchEngine"), {"1x16": fixed}, TIMEOUT_S)
    with pytest.raises(WorkerFault, match=r"absent\.npz cannot be read"):
        worker.open(plan(), {"1x16": fixed.parent / "absent.npz"}, TIMEOUT_S)
    assert worker.open(plan(), {"1x16": fixed}, TIMEOUT_S)["precision"] == "fp32"


def test_a_worker_that_hangs_is_given_up(worker: WorkerProcess, fixed: Path) -> None:
    with pytest.raises(WorkerFault, match=r"no answer to 'open' within 0\.8 s"):
        worker.open(plan(fault="hang"), {"1x16": fixed}, 0.8)


def test_asking_the_dead(worker: WorkerProcess, fixed: Path) -> None:
    worker.open(plan(), {"1x16": fixed}, TIMEOUT_S)
    os.kill(worker.pid, signal.SIGKILL)
    worker.process.wait()
    with pytest.raises(WorkerFault, match="SIGKILL .*out of memory"):
        worker.ask("memory", TIMEOUT_S)
    worker.pause()
    worker.resume()
    worker.kill()
    worker.kill()


def test_stop_and_go(worker: WorkerProcess, fixed: Path) -> None:
    worker.open(plan(), {"1x16": fixed}, TIMEOUT_S)
    worker.pause()
    assert process_state(worker.pid) == "T"
    worker.resume()
    assert worker.ask("memory", TIMEOUT_S)["now"] > 0
    assert process_state(worker.pid) in ("S", "R")
    worker.pause()
    worker.kill()
    assert process_state(worker.pid) is None


def test_a_worker_imports_its_runtime_and_no_other(worker: WorkerProcess, float_graph: Path, tmp_path: Path) -> None:
    [built] = OnnxRuntime().build(Artifact(float_graph), Hardware(threads=1), tmp_path / "engine")
    listing = built.__class__(**{**vars(built), "target": "tests.benchmark.fakes.Listing"})
    path = requests.write(tmp_path / "requests.npz", graphs.batch(2, 4))
    modules = set(worker.open(listing, {"data": path}, TIMEOUT_S)["details"]["modules"])
    assert {"onnxruntime", "numpy"} <= modules
    assert not modules & {"torch", "openvino", "onnx", "lightning", "transformers", "hydra", "omegaconf", "rich"}


def test_no_worker_survives_its_parent(fixed: Path, tmp_path: Path) -> None:
    """The parent is killed while its worker is stopped: the worker must not stay behind for ever."""
    code = f"""
import sys, time
from pathlib import Path
from modelpress.benchmark.process import WorkerProcess
from tests.benchmark.fakes import plan
worker = WorkerProcess(Path({str(tmp_path / "log.txt")!r}))
worker.open(plan(), {{"1x16": Path({str(fixed)!r})}}, 60)
worker.pause()
print(worker.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=HERE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert process_state(pid) == "T"
        parent.kill()
    deadline = time.monotonic() + 10
    while process_state(pid) not in (None, "Z") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process_state(pid) in (None, "Z")


def test_words_about_an_exit(tmp_path: Path) -> None:
    assert explain_exit(0) == "exit status 0"
    assert explain_exit(-signal.SIGABRT) == "SIGABRT"
    log = tmp_path / "log.txt"
    assert last_words(log) == ""
    log.write_text("first\nterminate called\n\n")
    assert last_words(log) == "; last output: terminate called"
    assert json.dumps(last_words(log))

"""A run from end to end in miniature: what it leaves, that nothing is done twice, and that a kill costs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.job import Job
from modelpress.pipeline import execute, plan
from modelpress.report.record import Report, load


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def finished(world: Path) -> tuple[Report, Path]:
    """One distillation, pressed and reported."""
    return run(world, "first"), world / "first"


def run(world: Path, name: str, *extra: str) -> Report:
    (world / name).mkdir()
    report = execute(Job.of(compose(tiny.overrides(world, *extra)), world / name, f"test {name}"))
    assert report is not None
    return report


def test_a_run_leaves_report_and_deployment(finished: tuple[Report, Path]) -> None:
    report, folder = finished
    assert {"report.json", "report.html", "report.md", "deploy"} <= {path.name for path in folder.iterdir()}
    assert load(folder / "report.json").rows == report.rows
    assert {(row.role, row.model) for row in report.rows} == {
        ("baseline", "hf"),
        ("control", "tinybert"),
        ("candidate", "tinybert"),
    }
    assert len(report.rows) == 3 * 2 * 2  # models x engines x shapes
    assert report.complete
    assert report.verdict["verdict"] in ("pays", "does_not_pay", "inconclusive")


def test_every_row_is_measured_and_the_networks_learned(finished: tuple[Report, Path]) -> None:
    report, _ = finished
    for row in report.rows:
        assert row.status in ("ok", "unstable"), row.why
        assert row.latency_ms is not None
        assert row.latency_ms.n >= 16
        assert row.throughput_per_s is not None
        assert row.preprocess_ms is not None
        assert row.metric is not None
        assert row.metric > 0.7  # chance is 0.5; the word that decides is in every sentence
        assert row.metric_n == 60
    candidate = next(row for row in report.rows if row.role == "candidate")
    baseline = next(row for row in report.rows if row.role == "baseline")
    assert candidate.params_m is not None
    assert baseline.params_m is not None
    assert candidate.params_m < baseline.params_m
    assert baseline.parity_max_abs is not None
    assert baseline.parity_max_abs < 1e-3


def test_lineage_names_every_stage(finished: tuple[Report, Path]) -> None:
    report, _ = finished
    stages = [entry["name"] for entry in report.lineage if entry["kind"] == "stage"]
    assert stages == ["hf · finetune", "tinybert · control", "tinybert · distill"]
    kinds = {entry["kind"] for entry in report.lineage}
    assert kinds == {"stage", "export", "measurement"}


def test_the_same_command_does_no_work_twice(world: Path, finished: tuple[Report, Path]) -> None:
    first, _ = finished
    again = run(world, "again")
    assert all(entry["reused"] for entry in again.lineage)
    assert [row.latency_ms for row in again.rows] == [row.latency_ms for row in first.rows]
    assert {row.details["latency_from"] for row in again.rows} == {"csv_tinybert_distill/first"}


def test_a_sweep_shares_teacher_and_control(world: Path, finished: tuple[Report, Path]) -> None:
    other = run(world, "hot", "technique.distill.objective.temperature=4")
    reused = {entry["name"]: entry["reused"] for entry in other.lineage if entry["kind"] == "stage"}
    assert reused == {"hf · finetune": True, "tinybert · control": True, "tinybert · distill": False}


def test_without_a_control_arm_the_report_is_incomplete(world: Path, finished: tuple[Report, Path]) -> None:
    report = run(world, "uncontrolled", "control=false")
    assert not report.complete
    assert {row.role for row in report.rows} == {"baseline", "candidate"}


def test_plan_tells_hits_and_misses(world: Path, finished: tuple[Report, Path]) -> None:
    hits = plan(compose(tiny.overrides(world)))
    assert [step.hit for step in hits] == [True] * 4
    misses = plan(compose(tiny.overrides(world, "technique.distill.objective.temperature=8")))
    assert [(step.kind, step.hit) for step in misses] == [
        ("stage", True),
        ("stage", True),
        ("stage", False),
        ("press", False),
    ]
    assert misses[2].minutes is not None
    assert misses[2].minutes > 0


def test_training_only_without_the_report_callback(world: Path, finished: tuple[Report, Path]) -> None:
    (world / "train").mkdir()
    assert execute(Job.of(compose(tiny.overrides(world, "callbacks=none")), world / "train")) is None
    assert not (world / "train" / "report.json").exists()


def test_killed_and_resumed_equals_uninterrupted(world: Path, finished: tuple[Report, Path]) -> None:
    """SIGKILL in the middle of training; the same command continues and ends with the very same weights."""
    _, folder = finished
    expected = (folder / "deploy" / "checkpoint" / "model.safetensors").read_bytes()
    command = [sys.executable, "run.py", *tiny.overrides(world, f"store={world / 'killed'}"), "callbacks=none"]
    command += ["control=false", "trainer.checkpoint_seconds=0.001"]
    command += [f"hydra.run.dir={world / 'killed_run'}", "trainer.log_every_n_steps=1"]
    root = Path(__file__).parents[1]
    kills = 0
    for after in (8, 14):  # steps into the distillation, which has 30
        victim = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if wait_for_step(world / "killed", "distill", after, victim):
            victim.send_signal(signal.SIGKILL)
            kills += 1
        victim.wait()
    assert kills == 2
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Continuing an interrupted attempt" in done.stdout + done.stderr
    weights = [
        path / "model" / "model.safetensors"
        for path in (world / "killed" / "entries").iterdir()
        if json.loads((path / "entry.json").read_text())["name"] == "tinybert · distill"
    ]
    assert [path.read_bytes() == expected for path in weights] == [True]


def wait_for_step(store: Path, stage: str, step: int, victim: subprocess.Popen[bytes], limit_s: float = 120) -> bool:
    """Whether ``stage`` reached ``step`` and left a resume checkpoint before the process ended."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and victim.poll() is None:
        for curve in store.glob("work/*/curves.jsonl"):
            lines = curve.read_text().splitlines()
            steps = [json.loads(line)["step"] for line in lines if line.endswith("}") and f'"{stage}/' in line]
            if steps and max(steps) >= step and (curve.parent / "checkpoints" / "resume.ckpt").is_file():
                return True
        time.sleep(0.005)
    return False


def test_two_commands_at_once_share_the_work(world: Path) -> None:
    root = Path(__file__).parents[1]
    command = [
        sys.executable,
        "run.py",
        *tiny.overrides(world, f"store={world / 'shared'}"),
        "callbacks=none",
        "control=false",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [*command, f"hydra.run.dir={world / name}"],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("one", "two")
    ]
    outputs = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert (
        len(list((world / "shared" / "entries").iterdir())) == 3
    )  # a teacher, what the student starts from, the student
    assert any("Waiting for" in output or "Reused from the store" in output for output in outputs)

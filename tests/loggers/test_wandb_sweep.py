"""What W&B receives of real jobs: read back from the offline runs of a sweep, and of a job that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from modelpress import status
from modelpress.loggers import offline
from tests import tiny

HEADS = "model.architecture.num_attention_heads"
NEURONS = "model.architecture.intermediate_size"  # students that no other test has in the store


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """``modelpress run`` in a process of its own, in ``folder``."""
    command = [sys.executable, "-m", "modelpress", "run", *arguments, "name=x", "logger=wandb"]
    paths = os.pathsep.join(sys.path)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, **pipes)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three jobs; the last one fails, because no width can be divided among three heads."""
    folder = tmp_path_factory.mktemp("sweep")
    given = [line for line in tiny.fast(tiny.finished()) if not line.startswith((HEADS, NEURONS))]
    with start(folder, "-m", *given, f"{NEURONS}=24", f"{HEADS}=2,4,3") as process:
        said, _ = process.communicate(timeout=900)
    assert process.returncode == 1, said
    (found,) = (folder / "multirun").iterdir()
    return found


def run_of(job: Path) -> dict[str, Any]:
    """The one offline run of a job: its records by kind, and its summary."""
    (file,) = offline.find(job)
    found: dict[str, Any] = {"summary": {}}
    for record in offline.records(file):
        kind = str(record.WhichOneof("record_type"))
        found.setdefault(f"{kind}s", []).append(getattr(record, kind))
    for update in found.pop("summarys", []):
        found["summary"].update({item.key or "/".join(item.nested_key): item.value_json for item in update.update})
    return found


def config_of(run: dict[str, Any]) -> dict[str, Any]:
    return {item.key: json.loads(item.value_json) for item in run["runs"][0].config.update}


def test_the_jobs_of_a_sweep_are_one_group_and_say_what_was_swept(sweep: Path) -> None:
    runs = [run_of(sweep / str(number)) for number in range(3)]
    assert {run["runs"][0].run_group for run in runs} == {f"sweep {sweep.name}"}
    assert [config_of(run)["swept"] for run in runs] == [{"num_attention_heads": heads} for heads in (2, 4, 3)]
    assert [run["runs"][0].display_name for run in runs] == [f"x num_attention_heads={heads}" for heads in (2, 4, 3)]
    assert config_of(runs[1])["model"]["architecture"]["num_attention_heads"] == 4


def test_the_summary_has_the_headline_figures_of_the_report(sweep: Path) -> None:
    for number in range(2):
        report = json.loads((sweep / str(number) / "report.json").read_text())
        (row,) = [row for row in report["rows"] if row["id"] == report["verdict"]["row"]]
        expected = {
            "verdict": report["verdict"]["verdict"],
            "metric": row["metric"],
            "latency_ms_p50": row["latency_ms"]["p50"],
            "size_mb": row["size_mb"],
            **{f"speedup_best_{part}": row["speedup_best"][part] for part in ("ratio", "ci_low", "ci_high")},
        }
        summary = {key: json.loads(value) for key, value in run_of(sweep / str(number))["summary"].items()}
        assert {key: summary[key] for key in expected} == expected


def test_engines_and_reports_are_artefacts_that_name_their_parents(sweep: Path) -> None:
    runs = [run_of(sweep / str(number)) for number in range(2)]
    for run in runs:
        artifacts = {artifact.name: artifact for artifact in run["artifacts"]}
        files = [entry.path for entry in artifacts["x-deploy"].manifest.contents]
        assert any(path.endswith(".onnx") for path in files)
        assert {entry.path for entry in artifacts["x-report"].manifest.contents} >= {"report.json", "report.html"}
        student = artifacts["stage-tinybert-distill"]
        parents = {name: json.loads(artifacts[name].metadata)["parents"] for name in ("x-deploy", student.name)}
        assert parents["x-deploy"] == [{"name": student.name, "digest": student.digest}]
        assert [parent["name"] for parent in parents[student.name]] == ["stage-hf-finetune"]
    digests = [artifact.digest for run in runs for artifact in run["artifacts"] if artifact.name.endswith("-distill")]
    assert len(set(digests)) == 2  # two students
    first, second = (offline.read(offline.find(sweep / str(number))[0]) for number in range(2))
    assert first is not None
    assert second is not None
    assert first.parents == second.parents  # one teacher, which both found in the store
    assert [parent.name for parent in first.parents] == ["stage-hf-finetune"]


def test_a_failing_job_is_finished_as_failed(sweep: Path) -> None:
    runs = [run_of(sweep / str(number)) for number in range(3)]
    assert [[record.exit_code for record in run["exits"]] for run in runs] == [[0], [0], [1]]
    assert status.read(sweep / "2")["status"] == "failed"
    assert "verdict" not in runs[2]["summary"]


def test_a_killed_job_is_finished_as_killed(tmp_path: Path) -> None:
    given = [line for line in tiny.fast(tiny.finished()) if "distill.trainer.max_epochs" not in line]
    with start(tmp_path, *given, "technique.distill.trainer.max_epochs=5000", "hydra.run.dir=job") as process:
        deadline = time.monotonic() + 240
        while not list((tmp_path / "job").glob("logs/tinybert/distill/metrics.csv")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=120)
    assert process.returncode != 0, said
    run = run_of(tmp_path / "job")
    assert [record.exit_code for record in run["exits"]] == [143]
    assert any("tinybert/distill/train/loss" in key for entry in run["historys"] for key in keys(entry))
    assert status.read(tmp_path / "job")["status"] == "failed"


def keys(entry: Any) -> list[str]:
    return [item.key or "/".join(item.nested_key) for item in entry.item]

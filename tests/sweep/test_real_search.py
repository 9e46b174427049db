"""Searches from end to end in miniature: nothing stands in for training, export, engines or measurements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import tests.sweep.jobs as jobs
import tests.tiny as tiny
from modelpress.config import compose
from modelpress.job import Job
from modelpress.launch import main
from modelpress.report.record import load
from modelpress.sweep import untrained

LAYERS = "model.architecture.num_hidden_layers"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


def given(world: Path, *extra: str) -> list[str]:
    """A short run whose student may have any number of layers."""
    quiet = ["benchmark.max_round_cov=100", "benchmark.max_drift=100"]  # whatever else this machine does now
    return [line for line in tiny.fast(world, *quiet, *extra) if not line.startswith(f"{LAYERS}=2")]


def latency_ms(world: Path, layers: int) -> float:
    found = untrained.fastest(Job.of(compose(given(world, f"{LAYERS}={layers}")), world / "probe"))
    assert found is not None
    return found.value


def records(place: Path) -> dict[str, dict[str, Any]]:
    """status.json of every job, by the number of layers."""
    found = [jobs.status(folder) for folder in sorted(jobs.search(place).glob("[0-9]*"))]
    return {record["swept"][LAYERS]: record for record in found}


def entries(world: Path, kind: str) -> list[str]:
    found = [json.loads(path.read_text()) for path in (world / "store" / "entries").glob("*/entry.json")]
    return sorted(entry["key"] for entry in found if entry["kind"] == kind)


def search(arguments: Sequence[str]) -> None:
    assert main([*arguments, "hydra.sweeper.sampler=random", "technique.distill.objective.temperature=2"]) == 0


def test_a_budget(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Networks of 1 and of 10 layers, and a limit between: the deep one is measured, not trained."""
    limit = round(3 * latency_ms(world, 1), 4)
    command = ["sweep=budget", *given(world, f"{LAYERS}=1,10", f"budget.latency_ms={limit}")]
    command += ["technique.distill.optimizer.lr=3e-3", "hydra.sweeper.seed=8"]  # 10, 1, 1
    search([*command, "hydra.sweeper.n_trials=2"])
    shallow, deep = (records(tmp_path)[layers] for layers in ("1", "10"))
    assert shallow["status"] == "done"
    assert deep["status"] == "skipped"
    assert deep["reason"].endswith(f" untrained, limit {limit:g}")
    assert deep["untrained"]["latency_ms.p50"]["ci_low"] > limit
    found = json.loads((jobs.search(tmp_path) / "search.json").read_text())
    assert found["best"]
    assert [trial.state.name for trial in jobs.trials(tmp_path)] == ["PRUNED", "COMPLETE", "COMPLETE"]
    assert all(trial.constraints["latency_ms.p50"] < 0 for trial in jobs.trials(tmp_path)[1:])
    said = capsys.readouterr().out.splitlines()
    assert any("skipped" in line and line.endswith(deep["reason"]) for line in said)

    before, stages = entries(world, "latency"), entries(world, "stage")
    assert len(before) == 2
    search([*command, "hydra.sweeper.n_trials=4"])  # the same search, further
    assert len([trial for trial in jobs.trials(tmp_path) if trial.state.name == "COMPLETE"]) == 4
    assert entries(world, "latency") == before
    assert entries(world, "stage") == stages


def test_pareto(world: Path, tmp_path: Path) -> None:
    """Where half of the answers are all that anyone wants, the first shallow network leaves nothing to the deep one."""
    command = ["sweep=pareto", *given(world, f"{LAYERS}=1,10", "seed=2"), "technique.distill.optimizer.lr=3e-3"]
    command += ["hydra.sweeper.seed=6", "hydra.sweeper.ceilings.metric=0.4", "hydra.sweeper.n_trials=3"]  # 1, 1, 10, 1
    search(command)
    trials = {trial.user_attrs["job"]: trial for trial in jobs.trials(tmp_path)}
    for job, trial in trials.items():
        place = jobs.search(tmp_path) / str(job)
        if trial.state.name == "COMPLETE":
            report = load(place / "report.json")
            row = next(row for row in report.rows if row.id == report.verdict["row"])
            assert row.latency_ms is not None
            assert trial.values == [row.metric, row.latency_ms.p50]
        else:
            assert "nothing can be better than it in anything else" in jobs.status(place)["reason"]
    assert [trials[job].params[LAYERS] for job in sorted(trials) if trials[job].state.name == "PRUNED"] == ["10"]
    search(command)
    assert len(jobs.trials(tmp_path)) == len(trials) == 4

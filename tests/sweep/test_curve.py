"""Validation curves of a search: when a job is behind, and what Optuna is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

import tests.sweep.jobs as jobs
from modelpress.launch import main
from modelpress.status import Status
from modelpress.sweep import curve
from modelpress.sweep.rules import Rules, Skipped

TEMPERATURE = "technique.distill.objective.temperature"


def test_behind_is_what_optunas_median_pruner_says() -> None:
    import optuna

    numbers, said = np.random.default_rng(0), set()
    for others in (0, 3, 4, 5, 8):
        for _ in range(20):
            curves = [dict(enumerate(numbers.integers(0, 6, 3) / 5)) for _ in range(others)]
            own = dict(enumerate(numbers.integers(0, 6, numbers.integers(1, 4)) / 5))
            pruner = optuna.pruners.MedianPruner(curve.STARTUP, n_warmup_steps=1)
            study = optuna.create_study(direction="maximize", pruner=pruner)
            for one in curves:
                study.add_trial(optuna.create_trial(value=1.0, intermediate_values=one))
            trial = study.ask()
            for step, value in own.items():
                trial.report(value, step)
            found = curve.behind(own, curves)
            assert (found is not None) == trial.should_prune()
            said.add(found is not None)
    assert said == {True, False}


def test_only_finished_jobs_within_the_limits_are_a_yardstick(tmp_path: Path) -> None:
    rules = Rules({"metric": "maximize"}, {"latency_ms.p50": 2.0}, pruner="median")
    for number in range(8):
        place = tmp_path / str(number)
        place.mkdir()
        curve.write(place, {10: 0.9, 20: 0.9} if number < 4 else {10: 0.5, 20: 0.6})
        jobs.report_of(place, metric=0.9, p50=3.0 if number < 4 else 1.0).save(place / "report.json")
        Status(place, "x").done(0.9)
    assert curve.against(tmp_path / "9", {10: 0.6, 20: 0.7}, rules) is None
    said = curve.against(tmp_path / "9", {10: 0.5, 20: 0.55}, rules)
    assert said == "metric 0.55 on validation by step 20, where half of the jobs had 0.6 or more"
    Status(tmp_path / "7", "x").failed("no")
    assert curve.against(tmp_path / "9", {10: 0.5, 20: 0.55}, rules) is None  # three are too few


def test_a_search_with_a_pruner(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(cfg: DictConfig, folder: Path, command: str = "", **_: bool) -> float:
        """The curve of temperature t goes up to t / 10."""
        rules, so_far = Rules.of(folder), {}
        assert rules is not None
        for step in (1, 2, 3):
            so_far[step] = float(cfg.technique.distill.objective.temperature) * step / 30
            curve.write(folder, so_far)
            if (reason := curve.against(folder, so_far, rules)) is not None:
                raise Skipped(reason)
        return jobs.run(cfg, folder, command)

    monkeypatch.setattr("modelpress.pipeline.run", run)
    command = ["sweep=budget", "name=x", "budget.latency_ms=100", f"{TEMPERATURE}=interval(1,8)"]
    command += ["hydra.sweeper.sampler=random", "hydra.sweeper.n_trials=10", "technique.distill.optimizer.lr=1e-4"]
    assert main([*command, "hydra.sweeper.skip=false", "hydra.sweeper.pruner=median"]) == 0
    trials = jobs.trials(stand_in)
    states = [trial.state.name for trial in trials]
    assert states.count("COMPLETE") == len(jobs.ran()) > curve.STARTUP
    assert "PRUNED" not in states[: curve.STARTUP]
    assert "PRUNED" in states
    for trial in trials:
        steps = [1, 2, 3] if trial.state.name == "COMPLETE" else [1, 2]
        value = trial.params[TEMPERATURE] / 30
        assert trial.intermediate_values == pytest.approx({step: step * value for step in steps})
    first = next(trial for trial in trials if trial.state.name == "PRUNED")
    record: dict[str, Any] = jobs.status(jobs.search(stand_in) / str(first.user_attrs["job"]))
    assert record["status"] == "skipped"
    assert "where half of the jobs had" in record["reason"]

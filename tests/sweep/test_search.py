"""Searches: what Optuna is given, what it is told, and that a study goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tests.sweep.jobs as jobs
from modelpress.launch import main

TEMPERATURE = "technique.distill.objective.temperature"
SPACE = f"{TEMPERATURE}=interval(1,8)"
LR = "technique.distill.optimizer.lr=1e-4"  # one value: not searched


pytestmark = pytest.mark.usefixtures("stand_in")


def found(place: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((jobs.search(place) / "search.json").read_text())
    return record


def test_pareto_keeps_what_nothing_else_beats_in_both(stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep=pareto", "name=x", SPACE, LR, "hydra.sweeper.n_trials=5"]) == 0
    assert len(jobs.ran()) == 5
    points = {str(n): (-abs(t - 3), -t) for n, t in enumerate(jobs.ran())}  # metric falls with the distance from 3
    best = {n for n, p in points.items() if not any(o != p and o[0] >= p[0] and o[1] >= p[1] for o in points.values())}
    assert set(found(stand_in)["best"]) == best
    told = [(trial.values, trial.user_attrs["job"]) for trial in jobs.trials(stand_in)]
    assert [job for _, job in told] == list(range(5))
    temperatures = jobs.ran()
    for (metric, p50), job in told:
        assert p50 == pytest.approx(temperatures[job])
        assert metric == pytest.approx(1 - (temperatures[job] - 3) ** 2 / 100)
    out = capsys.readouterr().out
    assert all(f"\n{job}*" in out for job in best)


def test_the_same_command_goes_on_with_the_study(stand_in: Path) -> None:
    command = ["sweep=pareto", "name=x", SPACE, LR]
    assert main([*command, "hydra.sweeper.n_trials=2"]) == 0
    assert main([*command, "hydra.sweeper.n_trials=2"]) == 0
    assert len(jobs.ran()) == 2
    assert main([*command, "hydra.sweeper.n_trials=4"]) == 0
    assert len(jobs.ran()) == len(set(jobs.ran())) == 4
    assert [trial.user_attrs["job"] for trial in jobs.trials(stand_in)] == [0, 1, 2, 3]


def test_failed_jobs_are_told_and_tried_again_under_their_number(stand_in: Path) -> None:
    command = ["sweep=pareto", "name=x", SPACE, LR, "seed=13", "hydra.sweeper.n_trials=2"]
    assert main(command) == 1
    assert [trial.state.name for trial in jobs.trials(stand_in)] == ["FAIL", "FAIL"]
    assert jobs.trials(stand_in)[0].user_attrs["reason"] == "seed 13 is unlucky"
    (stand_in / "mended").touch()
    assert main(command) == 0
    assert jobs.ran()[:2] == jobs.ran()[2:]
    assert sorted(path.name for path in jobs.search(stand_in).iterdir() if path.is_dir()) == ["0", "1"]


def test_a_budget_takes_the_best_metric_within_it(stand_in: Path) -> None:
    space = "technique.distill.objective.temperature=1,2,4,8"
    command = ["sweep=budget", "name=x", space, LR, "budget.latency_ms=2.5", "hydra.sweeper.n_trials=12"]
    command += ["hydra.sweeper.skip=false"]
    assert main([*command, "hydra.sweeper.sampler=random"]) == 0
    assert {1.0, 2.0, 4.0} <= set(jobs.ran())
    (best,) = found(stand_in)["best"]
    assert jobs.ran()[int(best)] == 2.0  # 4 is as good, but too slow
    excess = {trial.params[TEMPERATURE]: trial.constraints for trial in jobs.trials(stand_in)}
    assert excess["4"] == {"latency_ms.p50": 1.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep=budget"], "give it with budget.latency_ms=<number>"),
        (["sweep=pareto", "technique=finetune"], "There is nothing to search"),
        (["sweep=pareto", "+hydra.sweeper.objectives.metrc=maximize"], "Did you mean 'metric'?"),
        (["sweep=pareto", "hydra.sweeper.objectives.metric=up"], "hydra.sweeper.objectives.metric is 'up'"),
        (["sweep=pareto", "hydra.sweeper.sampler=gird"], "hydra.sweeper.sampler is 'gird'"),
        (["sweep=pareto", "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials is 0"),
        (
            ["sweep=pareto", "hydra.sweeper.skip=true"],
            "hydra.sweeper.skip is True; allowed: a share such as 0.05, or false",
        ),
        (["sweep=pareto", "hydra.sweeper.skip=5"], "hydra.sweeper.skip is 5; allowed: a share"),
        (["sweep=pareto", "+hydra.sweeper.ceilings.acuracy=1"], "'acuracy'; allowed"),
        (["sweep=pareto", "hydra.sweeper.pruner=median"], "objectives are metric, latency_ms.p50. Use sweep=budget"),
        (["sweep=budget", "budget.latency_ms=1", "hydra.sweeper.pruner=mean"], "hydra.sweeper.pruner is 'mean'"),
        (["sweep=pareto", "technique.distill.objective.temprature=interval(1,2)"], "temperature"),
    ],
)
def test_bad_searches_start_no_job(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["name=x", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert jobs.ran() == []

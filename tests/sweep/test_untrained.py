"""Jobs that need not be trained: what is known of their latency before, and that Optuna and the table hear of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tests.sweep.jobs as jobs
from modelpress.errors import ModelPressError
from modelpress.job import Job
from modelpress.launch import main
from modelpress.report.record import Interval
from modelpress.sweep import untrained
from modelpress.sweep.rules import Rules
from modelpress.sweep.untrained import against, unbeatable

TEMPERATURE = "technique.distill.objective.temperature"
RANDOM = ["hydra.sweeper.sampler=random", "technique.distill.optimizer.lr=1e-4"]
PARETO = {"metric": "maximize", "latency_ms.p50": "minimize"}
pytestmark = pytest.mark.usefixtures("stand_in")


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """An untrained network of temperature t takes t ms [0.95 t, 1.05 t], as the trained one does in ``jobs.run``."""
    asked: list[float] = []

    def fastest(job: Job) -> Interval:
        asked.append(float(job.config["technique"]["distill"]["objective"]["temperature"]))
        return Interval(asked[-1], 0.95 * asked[-1], 1.05 * asked[-1])

    monkeypatch.setattr(untrained, "fastest", fastest)
    return asked


def budget(values: str, *more: str) -> list[str]:
    return ["sweep=budget", "name=x", f"{TEMPERATURE}={values}", "budget.latency_ms=2.5", *RANDOM, *more]


def test_a_job_over_the_limit_is_not_trained(stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(budget("1,2,4,8", "hydra.sweeper.n_trials=5", "hydra.sweeper.seed=8")) == 0  # 2, 4, 4, 1, 2, 2, 8, 2
    assert set(jobs.ran()) == {1.0, 2.0}
    told = {(trial.params[TEMPERATURE], trial.state.name) for trial in jobs.trials(stand_in)}
    assert told == {("1", "COMPLETE"), ("2", "COMPLETE"), ("4", "PRUNED"), ("8", "PRUNED")}
    skipped = next(trial for trial in jobs.trials(stand_in) if trial.params[TEMPERATURE] == "4")
    assert skipped.constraints == {"latency_ms.p50": 1.5}
    reason = "4 ms [3.8, 4.2] untrained, limit 2.5"
    assert skipped.user_attrs["reason"] == reason
    record = jobs.status(jobs.search(stand_in) / str(skipped.user_attrs["job"]))
    assert (record["status"], record["reason"]) == ("skipped", reason)
    assert record["untrained"] == {"latency_ms.p50": {"value": 4.0, "ci_low": 3.8, "ci_high": 4.2}}
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [str(skipped.user_attrs["job"]), "4", "skipped", *reason.split()] in lines


def test_it_can_be_turned_off(stand_in: Path, measured: list[float]) -> None:
    assert main(budget("4,8", "hydra.sweeper.n_trials=2", "hydra.sweeper.skip=false")) == 0
    assert len(jobs.ran()) == 2
    assert measured == []


def test_a_search_in_which_nothing_fits_ends(stand_in: Path, measured: list[float]) -> None:
    assert main(budget("4,8", "hydra.sweeper.n_trials=3")) == 0
    assert jobs.ran() == []
    assert len(measured) == 3


def test_going_on_asks_for_others(stand_in: Path, measured: list[float]) -> None:
    command = budget("1,8", "hydra.sweeper.seed=8")  # 8, 1, 1
    assert main([*command, "hydra.sweeper.n_trials=2"]) == 0
    assert measured == [8.0, 1.0, 1.0]
    assert main([*command, "hydra.sweeper.n_trials=2"]) == 0
    assert len(measured) == 3  # enough are finished, and what was left out stays so
    assert main([*command, "hydra.sweeper.n_trials=3"]) == 0
    assert len(jobs.ran()) == 3
    assert len(jobs.trials(stand_in)) == len(measured) > 3
    assert sorted(trial.user_attrs["job"] for trial in jobs.trials(stand_in)) == list(range(len(measured)))


def test_what_nothing_can_beat_ends_the_search_above_it(stand_in: Path, measured: list[float]) -> None:
    """3 has the best metric there is (1); 4 can only be slower, and 1 is faster."""
    space = [f"{TEMPERATURE}=1,3,4", "hydra.sweeper.n_trials=12", *RANDOM]
    assert main(["sweep=pareto", "name=x", *space]) == 0
    first = jobs.ran().index(3.0)
    assert 4.0 not in jobs.ran()[first:]
    assert 4.0 in measured
    assert 1.0 in jobs.ran()[first:]
    reasons = {trial.user_attrs["reason"] for trial in jobs.trials(stand_in) if trial.state.name == "PRUNED"}
    (reason,) = reasons
    assert reason.startswith("4 ms [3.8, 4.2] untrained; job ")
    assert reason.endswith(" takes 3 ms, and nothing can be better than it in anything else")


def test_a_lower_ceiling_is_the_users_word(stand_in: Path) -> None:
    space = [f"{TEMPERATURE}=1,3,4", "hydra.sweeper.n_trials=12", *RANDOM]
    assert main(["sweep=pareto", "name=x", *space, "hydra.sweeper.ceilings.metric=0.95"]) == 0
    first = jobs.ran().index(1.0)  # metric 0.96 in 1 ms
    assert set(jobs.ran()[first:]) == {1.0}


def done(sweep: Path, name: str, metric: float, p50: float, state: str = "done") -> None:
    from modelpress.status import Status

    place = sweep / name
    place.mkdir(parents=True)
    status = Status(place, "x")
    if state == "done":
        jobs.report_of(place, metric, p50).save(place / "report.json")
        status.done(metric)
    else:
        status.failed("no")


def test_unbeatable(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    for name, metric, p50 in (("0", 0.9, 1.0), ("1", 1.0, 3.0), ("2", 1.0, 2.0), ("3", 0.99, 0.5)):
        done(sweep, name, metric, p50)
    done(sweep, "4", 1.0, 0.1, "failed")
    ceilings = {"metric": 1.0}
    assert unbeatable(Rules(PARETO, ceilings=ceilings), sweep) == ("2", 2.0)
    assert unbeatable(Rules(PARETO), sweep) is None  # how good the metric can become is not known
    assert unbeatable(Rules({"metric": "maximize"}, ceilings=ceilings), sweep) is None
    assert unbeatable(Rules({"latency_ms.p50": "minimize"}), sweep) == ("3", 0.5)
    assert unbeatable(Rules(PARETO, {"latency_ms.p50": 1.5}, ceilings=ceilings), sweep) is None
    assert unbeatable(Rules({**PARETO, "size_mb": "minimize"}, ceilings=ceilings), sweep) is None
    assert unbeatable(Rules({**PARETO, "size_mb": "minimize"}, ceilings={**ceilings, "size_mb": 1}), sweep) is None


@pytest.mark.parametrize(
    ("interval", "limit", "expected"),
    [
        ((4.1, 3.9, 4.3), 3.0, "4.1 ms [3.9, 4.3] untrained, limit 3"),
        ((3.2, 3.1, 3.4), 3.0, None),  # above it, but by less than 5 %
        ((4.0, 2.9, 5.0), 3.0, None),  # an interval that reaches it says nothing
        ((2.0, 1.9, 2.1), 3.0, None),
    ],
)
def test_the_whole_interval_counts(interval: tuple[float, ...], limit: float, expected: str | None) -> None:
    assert against(Interval(*interval), 0.05, limit, None) == expected


def test_only_the_first_rank_decides(
    stand_in: Path, measured: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Rules({"metric": "maximize"}, {"latency_ms.p50": 1.0}, 0.05).write(tmp_path / "sweep")
    monkeypatch.setenv("LOCAL_RANK", "1")
    cfg: Any = None
    untrained.check(cfg, tmp_path / "sweep" / "0")
    untrained.check(cfg, tmp_path / "alone")
    assert measured == []


def test_a_job_with_a_fault_says_so_itself(stand_in: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from modelpress.config import compose

    def broken(job: Job, stage: Any) -> Any:
        raise ModelPressError("sparsity cannot be reached")

    monkeypatch.undo()
    monkeypatch.setenv("MODELPRESS_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(untrained, "outcome", broken)
    monkeypatch.setattr(untrained, "_is_trained", lambda job, network: False)
    assert untrained.fastest(Job.of(compose([]), tmp_path)) is None

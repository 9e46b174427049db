"""A Hydra sweeper that lets Optuna choose the jobs: several objectives, limits, and a study on disk that resumes.

Optuna is driven by ask and tell. hydra-optuna-sweeper is not used: its release pins Optuna below 3, and its release
candidate wants hydra-core 1.4 (docs/sweeps.md).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from modelpress.errors import ModelPressError, one_of
from modelpress.status import read
from modelpress.store import write_atomic
from modelpress.sweep import columns, space
from modelpress.sweep.summary import SEARCH

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

log = logging.getLogger(__name__)
STUDY = "study.db"
DIRECTIONS = ("maximize", "minimize")
SAMPLERS = ("tpe", "nsga2", "random")
JOB, REASON = "job", "reason"  # attributes of a trial


class SearchSweeper(Sweeper):
    """Search ``params``, and ``spaces`` of the stages in use, for the best ``objectives``.

    ``objectives`` maps columns of a report's best row to ``maximize`` or ``minimize``; ``limits`` maps columns to what
    they may be at most. ``n_trials`` counts finished jobs, those of an earlier part included. ``at_once``: how many
    jobs are chosen before any of them has ended (null: as many as the launcher runs at a time).
    """

    def __init__(
        self,
        objectives: Mapping[str, str],
        n_trials: int,
        params: Mapping[str, str] | None = None,
        spaces: Mapping[str, Mapping[str, str]] | None = None,
        limits: Mapping[str, float | None] | None = None,
        sampler: str = "tpe",
        seed: int = 1,
        at_once: int | None = None,
    ) -> None:
        super().__init__()
        self.objectives, self.limits = dict(objectives), dict(limits or {})
        self.n_trials, self.seed, self.at_once = n_trials, seed, at_once
        self.sampler = one_of("hydra.sweeper.sampler", sampler, SAMPLERS)
        self.config: Any = None
        self._check()

    def _check(self) -> None:
        if not self.objectives:
            raise ModelPressError("hydra.sweeper.objectives is empty; give columns, such as {metric: maximize}.")
        for column, direction in self.objectives.items():
            one_of(f"hydra.sweeper.objectives.{column}", direction, DIRECTIONS)
        for column in (*self.objectives, *self.limits):
            one_of("A column of hydra.sweeper.objectives or limits", column, columns.names())
        if self.n_trials < 1:
            raise ModelPressError(f"hydra.sweeper.n_trials is {self.n_trials}; allowed: 1, 2, …")
        for column, limit in self.limits.items():
            if limit is None:
                outer = column.partition(".")[0]
                raise ModelPressError(f"This search needs a limit for {column}: give it with budget.{outer}=<number>.")

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's: what a sweeper gets to know."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> list[int]:
        """Run jobs until ``n_trials`` are finished or as many have been tried now; returns the best ones' numbers."""
        assert self.hydra_context is not None
        varied, shared = space.split(self.config, self.hydra_context.config_loader)
        if not varied:
            raise ModelPressError(
                "There is nothing to search: no stage of this run has an entry in hydra.sweeper.spaces, and the "
                "command line gives one value for everything. Vary something: seed=1,2,3 or "
                "'technique.<stage>.transform.sparsity=interval(0.2,0.8)'."
            )
        self.space = {key: space.distribution(override) for key, override in varied.items()}
        self.folder = Path(self.config.hydra.sweep.dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.folder / "multirun.yaml")
        study = self.study()
        repeat_unfinished(study)
        self._search(study, shared)
        return self._best(study)

    def study(self) -> Study:
        """The study of this folder, new or as the last part left it."""
        import optuna
        from optuna.study import StudyDirection

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = self.folder.absolute() / STUDY
        study = optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name="sweep",
            directions=[StudyDirection[way.upper()] for way in self.objectives.values()],
            load_if_exists=True,
        )
        if [way.name.lower() for way in study.directions] != list(self.objectives.values()):
            raise ModelPressError(f"{path} is a search for other objectives; start a new one with hydra.sweep.dir=…")
        study.sampler = sampler(self.sampler, self.seed + len(study.trials), several=self._batch() > 1)
        return study

    def _search(self, study: Study, shared: Sequence[str]) -> None:
        assert self.launcher is not None
        tried = 0
        while (left := min(self.n_trials - finished(study), self.n_trials - tried)) > 0:
            trials = [self._ask(study) for _ in range(min(left, self._batch()))]
            overrides = [[*shared, *space.spelled(trial.params), _place(trial)] for trial in trials]
            if not tried:
                self.validate_batch_is_legal(overrides)
            results = self.launcher.launch(overrides, trials[0].user_attrs[JOB])
            for trial, result in zip(trials, results, strict=True):
                self._tell(study, trial, result.return_value)
            tried += len(trials)

    def _batch(self) -> int:
        return self.at_once or OmegaConf.select(self.config, "hydra.launcher.n_jobs") or 1

    def _ask(self, study: Study) -> Trial:
        trial = study.ask(self.space)
        if JOB not in trial.user_attrs:
            taken = {other.user_attrs.get(JOB) for other in study.trials}
            trial.set_user_attr(JOB, next(number for number in count() if number not in taken))
        return trial

    def _tell(self, study: Study, trial: Trial, value: float | tuple[float, ...]) -> None:
        from optuna.trial import TrialState

        found = list(value) if isinstance(value, (tuple, list)) else [value]
        place = self.folder / str(trial.user_attrs[JOB])
        try:
            limited = columns.values(place, *self.limits) if self.limits and not any(map(math.isnan, found)) else []
        except ModelPressError as error:
            trial.set_user_attr(REASON, str(error))
            found = [math.nan]
        if any(map(math.isnan, found)):
            trial.set_user_attr(REASON, read(place).get("reason") or trial.user_attrs.get(REASON, "no figures"))
            study.tell(trial, state=TrialState.FAIL)
            return
        for (column, limit), figure in zip(self.limits.items(), limited, strict=True):
            trial.set_constraint(column, figure - float(limit or 0))
        study.tell(trial, found)

    def _best(self, study: Study) -> list[int]:
        """The Pareto front, or the one best job, of those within the limits; written for the table at the end."""
        within = [trial for trial in complete(study) if all(excess <= 0 for excess in trial.constraints.values())]
        signs = [1 if direction == "maximize" else -1 for direction in self.objectives.values()]
        points = {trial.user_attrs[JOB]: [s * v for s, v in zip(signs, trial.values, strict=True)] for trial in within}
        best = front(points)
        facts = {"objectives": self.objectives, "limits": self.limits, "trials": len(study.trials)}
        write_atomic(self.folder / SEARCH, json.dumps({**facts, "best": [str(job) for job in best]}, indent=1) + "\n")
        if not best:
            log.warning("No job of this search finished within its limits (%s).", self.limits or "none")
        return best


def sampler(name: str, seed: int, *, several: bool) -> BaseSampler:
    """TPE (arXiv:1907.10902), NSGA-II (IEEE TEC 6, 2002) or random; ``several``: jobs are chosen before others end."""
    from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler

    if name == "tpe":
        return TPESampler(seed=seed, constant_liar=several)
    return NSGAIISampler(seed=seed, population_size=10) if name == "nsga2" else RandomSampler(seed=seed)


def repeat_unfinished(study: Study) -> None:
    """What failed, or was cut off, in an earlier part comes first now, under the number that it had."""
    from optuna.trial import TrialState

    done = {trial.user_attrs.get(JOB) for trial in complete(study)}
    waiting = {trial.user_attrs.get(JOB) for trial in study.get_trials(states=(TrialState.WAITING,))}
    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        job = trial.user_attrs.get(JOB)
        if trial.state in (TrialState.RUNNING, TrialState.FAIL) and job not in done | waiting | {None}:
            study.enqueue_trial(trial.params, user_attrs={JOB: job})
            waiting.add(job)


def complete(study: Study) -> list[FrozenTrial]:
    """Trials with all their figures."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE,))


def finished(study: Study) -> int:
    """How many jobs have all their figures."""
    return len(complete(study))


def front(points: Mapping[int, Sequence[float]]) -> list[int]:
    """Keys of the points that no other point dominates; more is better in every number. One number: the first best.

    >>> front({0: (1.0, 5.0), 1: (2.0, 4.0), 2: (1.0, 4.0)})
    [0, 1]
    """

    def dominated(one: Sequence[float]) -> bool:
        others = [other for other in points.values() if list(other) != list(one)]
        return any(all(a >= b for a, b in zip(other, one, strict=True)) for other in others)

    found = [key for key, point in points.items() if not dominated(point)]
    return found[:1] if found and len(points[found[0]]) == 1 else found


def _place(trial: Trial) -> str:
    """A job that is tried again has the number that it had, so its folder is its own, not the next free one."""
    return f"hydra.sweep.subdir='{trial.user_attrs[JOB]}'"

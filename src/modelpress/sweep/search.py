"""A Hydra sweeper that lets Optuna choose the jobs: several objectives, limits, and a study on disk that resumes.

Optuna is driven by ask and tell. hydra-optuna-sweeper is not used: its release pins Optuna below 3, and its release
candidate wants hydra-core 1.4 (docs/sweeps.md).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from modelpress.errors import ModelPressError, one_of
from modelpress.sweep import space, study
from modelpress.sweep.rules import Rules

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

log = logging.getLogger(__name__)


class SearchSweeper(Sweeper):
    """Search ``params``, and ``spaces`` of the stages in use, for the best ``objectives``.

    ``objectives`` maps columns of a report's best row to ``maximize`` or ``minimize``; ``limits`` maps columns to what
    they may be at most. ``n_trials`` counts finished jobs, those of an earlier part included. ``at_once``: how many
    jobs are chosen before any of them has ended (null: as many as the launcher runs at a time). ``skip`` and
    ``ceilings``: see :mod:`modelpress.sweep.untrained`; ``pruner``: see :mod:`modelpress.sweep.curve`.
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
        skip: float | bool = 0.05,
        ceilings: Mapping[str, float] | None = None,
        pruner: str | None = None,
    ) -> None:
        super().__init__()
        self.rules = Rules(dict(objectives), dict(limits or {}), skip, dict(ceilings or {}), pruner)
        self.rules.check()
        self.n_trials, self.seed, self.at_once = n_trials, seed, at_once
        self.sampler = one_of("hydra.sweeper.sampler", sampler, study.SAMPLERS)
        if n_trials < 1:
            raise ModelPressError(f"hydra.sweeper.n_trials is {n_trials}; allowed: 1, 2, …")
        self.config: Any = None

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
        trials = study.open_study(self.folder, self.rules.objectives)
        trials.sampler = study.sampler(self.sampler, self.seed + len(trials.trials), several=self._batch() > 1)
        study.repeat_unfinished(trials)
        self._note(trials)
        self._search(trials, shared)
        return self._best(trials)

    def _search(self, trials: Study, shared: Sequence[str]) -> None:
        """Until enough are finished; failed ones are not made up for now, skipped ones at most ``n_trials`` times."""
        came: Counter[str] = Counter()
        while (left := self._left(len(study.complete(trials)), came)) > 0:
            asked = [study.ask(trials, self.space) for _ in range(min(left, self._batch()))]
            came.update(self._run(trials, asked, shared, is_first=not came))

    def _left(self, finished: int, came: Counter[str]) -> int:
        tried = came["done"] + came["failed"]
        return min(self.n_trials - finished, self.n_trials - tried, self.n_trials - came["skipped"])

    def _run(self, trials: Study, asked: Sequence[Trial], shared: Sequence[str], *, is_first: bool) -> list[str]:
        assert self.launcher is not None
        overrides = [[*shared, *space.spelled(trial.params), _place(trial)] for trial in asked]
        if is_first:
            self.validate_batch_is_legal(overrides)
        results = self.launcher.launch(overrides, asked[0].user_attrs[study.JOB])
        return [self._tell(trials, trial, result.return_value) for trial, result in zip(asked, results, strict=True)]

    def _tell(self, trials: Study, trial: Trial, value: float | tuple[float, ...]) -> str:
        found = list(value) if isinstance(value, (tuple, list)) else [value]
        return study.tell(trials, trial, self.folder / str(trial.user_attrs[study.JOB]), found, self.rules)

    def _batch(self) -> int:
        return self.at_once or OmegaConf.select(self.config, "hydra.launcher.n_jobs") or 1

    def _note(self, trials: Study) -> list[int]:
        """What jobs have to know, and which of them are best so far; also for the table at the end."""
        best = study.best(trials, self.rules.objectives)
        self.rules.write(self.folder, best, len(trials.trials))
        return best

    def _best(self, trials: Study) -> list[int]:
        best = self._note(trials)
        if not best:
            log.warning("No job of this search finished within its limits (%s).", self.rules.limits or "none")
        return best


def _place(trial: Trial) -> str:
    """A job that is tried again has the number that it had, so its folder is its own, not the next free one."""
    return f"hydra.sweep.subdir='{trial.user_attrs[study.JOB]}'"

"""The Optuna study of a search, on disk in the sweep's folder: asked for jobs, told what came of them, continued."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from modelpress.compare.pareto import front
from modelpress.errors import ModelPressError
from modelpress.status import read
from modelpress.sweep import curve
from modelpress.sweep.rules import Rules

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial, TrialState

FILE = "study.db"
SAMPLERS = ("tpe", "nsga2", "random")
JOB, REASON = "job", "reason"  # attributes of a trial
SKIPPED = "skipped"


def open_study(folder: Path, objectives: Mapping[str, str]) -> Study:
    """The study of this folder, new or as the last part left it."""
    import optuna
    from optuna.study import StudyDirection

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder.absolute() / FILE
    study = optuna.create_study(
        storage=f"sqlite:///{path}",
        study_name="sweep",
        directions=[StudyDirection[way.upper()] for way in objectives.values()],
        load_if_exists=True,
    )
    if [way.name.lower() for way in study.directions] != list(objectives.values()):
        raise ModelPressError(f"{path} is a search for other objectives; start a new one with hydra.sweep.dir=…")
    return study


def sampler(name: str, seed: int, *, several: bool) -> BaseSampler:
    """TPE (arXiv:1907.10902), NSGA-II (IEEE TEC 6, 2002) or random; ``several``: jobs are chosen before others end."""
    from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler

    if name == "tpe":
        return TPESampler(seed=seed, constant_liar=several)
    return NSGAIISampler(seed=seed, population_size=10) if name == "nsga2" else RandomSampler(seed=seed)


def repeat_unfinished(study: Study) -> None:
    """What failed, or was cut off, in an earlier part comes first now, under the number that it had."""
    from optuna.trial import TrialState

    settled = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.WAITING)
    known = {trial.user_attrs.get(JOB) for trial in study.get_trials(states=settled)}
    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        job = trial.user_attrs.get(JOB)
        if trial.state in (TrialState.RUNNING, TrialState.FAIL) and job not in known | {None}:
            study.enqueue_trial(trial.params, user_attrs={JOB: job})
            known.add(job)


def ask(study: Study, space: Mapping[str, BaseDistribution]) -> Trial:
    """The next trial, with the number of its job."""
    trial = study.ask(dict(space))
    if JOB not in trial.user_attrs:
        taken = {other.user_attrs.get(JOB) for other in study.trials}
        trial.set_user_attr(JOB, next(number for number in count() if number not in taken))
    return trial


def tell(study: Study, trial: Trial, place: Path, found: Sequence[float], rules: Rules) -> str:
    """Hand over what came of the job in ``place``; returns its status: ``done``, ``failed`` or ``skipped``."""
    from optuna.trial import TrialState

    record, excess = read(place), dict[str, float]()
    if rules.pruner is not None:
        for step, value in curve.read(place).items():
            trial.report(value, step)
    if record.get("status") == SKIPPED:
        _constrain(trial, rules.foreseen(record))
        _without_figures(study, trial, TrialState.PRUNED, record["reason"])
        return SKIPPED
    reason = str(record.get("reason") or "no figures") if any(map(math.isnan, found)) else None
    try:
        excess = rules.excess(place) if reason is None and rules.limits else {}
    except ModelPressError as error:
        reason = str(error)
    if reason is not None:
        _without_figures(study, trial, TrialState.FAIL, reason)
        return "failed"
    _constrain(trial, excess)
    study.tell(trial, list(found))
    return "done"


def _without_figures(study: Study, trial: Trial, state: TrialState, reason: str) -> None:
    trial.set_user_attr(REASON, reason)
    study.tell(trial, state=state)


def _constrain(trial: Trial, excess: Mapping[str, float]) -> None:
    for column, over in excess.items():
        trial.set_constraint(column, over)


def complete(study: Study) -> list[FrozenTrial]:
    """Trials with all their figures."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE,))


def best(study: Study, objectives: Mapping[str, str]) -> list[int]:
    """Jobs on the Pareto front of those within the limits; with one objective the first best one."""
    within = [trial for trial in complete(study) if all(excess <= 0 for excess in trial.constraints.values())]
    ways = [1 if direction == "maximize" else -1 for direction in objectives.values()]
    found = [within[index].user_attrs[JOB] for index in front([trial.values for trial in within], *ways)]
    return found[:1] if len(objectives) == 1 else found

"""Launchers that run several jobs at a time. Each job is a :class:`~modelpress.sweep.call.Call`; how one is started is
all that process, Ray and Slurm differ in.

Jobs that run at the same time do so in two waves: all are trained and exported, several at a time, and then measured
one after another. A job that has trained so gives its place to the next one and does not wait in it for the machine to
become quiet. The second wave is the same job again, which finds all but the measurement in the store.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from modelpress.errors import ModelPressError
from modelpress.status import TRAINED, read
from modelpress.sweep import call as calls
from modelpress.sweep import member, space
from modelpress.sweep.call import Call

log = logging.getLogger(__name__)
POLL_S = 0.1
GRACE_S = 10.0


class JobsLauncher(Launcher):
    """Compose every job, leave out those that are finished, run the others, and read what came out."""

    def __init__(self, n_jobs: int | None = None, threads: int | None = None) -> None:
        super().__init__()
        for name, given in (("n_jobs", n_jobs), ("threads", threads)):
            if given is not None and given < 1:
                raise ModelPressError(f"hydra.launcher.{name} is {given}; allowed: 1, 2, … or null.")
        self.n_jobs = n_jobs or cores()
        self.threads = threads or max(1, cores() // self.n_jobs)
        self.training_at_once: int | None = self.n_jobs  # None: no limit of ours
        self.measured_at_once: int | None = 1  # more only where jobs run on several machines; each has its own lock
        self.config: Any = None
        self.context: Any = None
        self.program = "modelpress run"

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's: what a launcher gets to know."""
        from modelpress.launch import program

        self.config, self.context, self.program = config, hydra_context, program()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; a failing one ends nothing but itself."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        composed = [self._compose(list(given), initial_job_idx + i) for i, given in enumerate(job_overrides)]
        jobs = [self._call(config) for config in composed]
        todo = [job for job, config in zip(jobs, composed, strict=True) if self._finished(job, config) is None]
        log.info("%d jobs, %d of them finished before; %s.", len(jobs), len(jobs) - len(todo), self.describe())
        if todo:
            trained = [job for job, config in zip(jobs, composed, strict=True) if job in todo and _trained(job, config)]
            with self.opened():
                self._waves(todo, trained)
        return [self._result(*pair) for pair in zip(jobs, composed, strict=True)]

    def _waves(self, todo: Sequence[Call], trained: Sequence[Call]) -> None:
        """Train all, then measure those that were trained; one wave is enough where jobs do not run together."""
        if self.training_at_once == 1 or len(todo) == 1:
            return self.run(todo, 1)
        missing = [job for job in todo if job not in trained]
        self.run([job.to_train() if job.measures else job for job in missing], self.training_at_once)
        waiting = [job for job in todo if read(job.folder).get("status") == TRAINED]
        if waiting:
            log.info("Training has ended; %d jobs are measured now.", len(waiting))
            self.run(waiting, self.measured_at_once)
        return None

    def opened(self) -> AbstractContextManager[None]:
        """Whatever jobs need to be started, for both waves."""
        return nullcontext()

    @abstractmethod
    def run(self, todo: Sequence[Call], at_once: int | None) -> None:
        """Run the jobs and return when the last has ended. A job that dies is settled, not raised."""

    @abstractmethod
    def describe(self) -> str:
        """How jobs are run, for the log."""

    def _compose(self, overrides: list[str], number: int) -> DictConfig:
        config: DictConfig = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config

    def _call(self, config: DictConfig) -> Call:
        sweep = member.Member(Path(config.hydra.sweep.dir).absolute(), self.program)
        arguments = member.own_arguments(config.hydra, sweep)
        sweep = replace(sweep, arguments=tuple(arguments))
        swept = sweep.facts(config.hydra.overrides.task)["swept"] or dict.fromkeys(config.hydra.overrides.task, "")
        names = space.short(list(swept))
        title = " ".join(f"{names[key]}={value}" if value else names[key] for key, value in swept.items())
        return Call(
            name=str(config.hydra.sweep.subdir),
            title=title,
            member=sweep,
            command=member.spelled(self.program, arguments),
            folder=sweep.folder / str(config.hydra.sweep.subdir),
            cwd=Path.cwd(),
            env=calls.environment(self.threads),
            measures="report" in config.callbacks,
        )

    def _finished(self, job: Call, config: DictConfig) -> member.Score | None:
        return member.finished(job.folder, config, member.objectives_of(config.hydra))

    def _result(self, job: Call, config: DictConfig) -> JobReturn:
        """What Hydra's sweepers read, from the files that the job left."""
        objectives, record = member.objectives_of(config.hydra), read(job.folder)
        value = member.nothing(objectives)
        if record.get("status") == "done":
            value = member.score(job.folder, record["score"], objectives)
        found = JobReturn(overrides=list(config.hydra.overrides.task), status=JobStatus.COMPLETED)
        found.hydra_cfg, found.return_value, found.working_dir = config.hydra, value, str(job.folder)
        return found


class ProcessLauncher(JobsLauncher):
    """``n_jobs`` processes at a time on this machine, each for one job. Nothing but the system is needed."""

    def describe(self) -> str:
        """See the base class."""
        return f"{self.n_jobs} at a time, each in a process of its own with {self.threads} threads"

    def run(self, todo: Sequence[Call], at_once: int | None) -> None:
        """Start the next job whenever one ends. When this process is stopped, so are they."""
        waiting, running = list(todo), dict[subprocess.Popen[bytes], Call]()
        try:
            while waiting or running:
                while waiting and (at_once is None or len(running) < at_once):
                    job = waiting.pop(0)
                    running[calls.start(job)] = job
                    tell(job, "started")
                for process in [process for process in running if process.poll() is not None]:
                    job = running.pop(process)
                    calls.finish(job, process.returncode)
                    tell(job)
                time.sleep(POLL_S)
        finally:
            stop(running)


def _trained(job: Call, config: DictConfig) -> bool:
    """Whether an earlier part of the sweep has trained the job, and not measured it."""
    record = read(job.folder)
    return record.get("status") == TRAINED and member.is_same(record, config)


def tell(job: Call, what: str | None = None) -> None:
    """One line about a job that starts or ends."""
    if what is None:
        record = read(job.folder)
        waits = "waiting to be measured" if record.get("status") == TRAINED else f"score {record.get('score')}"
        outcome = record.get("reason") or waits
        what = f"{record.get('status')} after {record.get('seconds', 0):.0f} s, {outcome}"
    log.info("#%s %s: %s", job.name, job.title, what)


def stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ask processes to end, and end those that do not within :data:`GRACE_S`."""
    left = list(processes)
    for process in left:
        process.terminate()
    deadline = time.monotonic() + GRACE_S
    for process in left:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.wait()


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))

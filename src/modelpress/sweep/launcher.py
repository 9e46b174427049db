"""Launchers that run several jobs at a time. Each job is a :class:`~modelpress.sweep.call.Call`; how one is started is
all that process, Ray and Slurm differ in. Training overlaps; benchmarks do not (``modelpress.benchmark.lock``).
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from modelpress.errors import ModelPressError
from modelpress.status import read
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
        self.run(todo)
        return [self._result(*pair) for pair in zip(jobs, composed, strict=True)]

    @abstractmethod
    def run(self, todo: Sequence[Call]) -> None:
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
        swept = sweep.facts(config.hydra.overrides.task)["swept"] or dict.fromkeys(config.hydra.overrides.task, "")
        names = space.short(list(swept))
        title = " ".join(f"{names[key]}={value}" if value else names[key] for key, value in swept.items())
        return Call(
            name=str(config.hydra.sweep.subdir),
            title=title,
            arguments=arguments,
            command=member.spelled(self.program, arguments),
            folder=sweep.folder / str(config.hydra.sweep.subdir),
            cwd=Path.cwd(),
            env=calls.environment(sweep.to_env(arguments), self.threads),
            devices=int(config.hardware.devices),
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

    def run(self, todo: Sequence[Call]) -> None:
        """Start the next job whenever one ends. When this process is stopped, so are they."""
        waiting, running = list(todo), dict[subprocess.Popen[bytes], Call]()
        try:
            while waiting or running:
                while waiting and len(running) < self.n_jobs:
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


def tell(job: Call, what: str | None = None) -> None:
    """One line about a job that starts or ends."""
    if what is None:
        record = read(job.folder)
        outcome = record.get("reason") or f"score {record.get('score')}"
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

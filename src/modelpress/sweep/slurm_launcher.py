"""Jobs on Slurm through submitit, or on this machine through its local executor. Needs ``submitit``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelpress.errors import ModelPressError, one_of
from modelpress.sweep import call as calls
from modelpress.sweep.call import Call
from modelpress.sweep.launcher import JobsLauncher, tell

CLUSTERS = ("slurm", "local")
LOGS = ".submitit"  # scripts and output of submitit itself, in the folder of the sweep
POLL_S = {"slurm": 5.0, "local": 0.2}


class SlurmLauncher(JobsLauncher):
    """Every job is a Slurm job of its own, at most ``n_jobs`` at a time (null: as many as Slurm lets run).

    ``options`` go to submitit as they are: ``timeout_min``, ``mem_gb``, ``slurm_partition``, ``slurm_account`` …
    """

    def __init__(
        self,
        n_jobs: int | None = None,
        threads: int | None = None,
        cluster: str = "slurm",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(n_jobs or 1, threads)
        self.cluster = one_of("hydra.launcher.cluster", cluster, CLUSTERS)
        self.training_at_once = n_jobs
        self.measured_at_once = n_jobs if cluster == "slurm" else 1
        self.options = {name: value for name, value in (options or {}).items() if value is not None}

    def describe(self) -> str:
        """See the base class."""
        return f"submitted with submitit ({self.cluster}), {self.threads} threads per job"

    def run(self, todo: Sequence[Call], at_once: int | None) -> None:
        """Submit all jobs and wait for them; what Slurm does to one (timeout, preemption) is its reason."""
        executor = self._executor(todo[0].folder.parent / LOGS)
        waiting, running = list(todo), dict[Any, Call]()
        try:
            while waiting or running:
                while waiting and (at_once is None or len(running) < at_once):
                    job = waiting.pop(0)
                    running[executor.submit(calls.run, job)] = job
                    tell(job, "submitted")
                for submitted in [entry for entry in running if entry.done()]:
                    _end(submitted, running.pop(submitted))
                time.sleep(POLL_S[self.cluster])
        finally:
            for submitted in running:
                submitted.cancel()

    def _executor(self, logs: Path) -> Any:
        try:
            import submitit
        except ImportError as error:
            raise ModelPressError("hydra/launcher=slurm needs submitit: pip install 'modelpress[slurm]'.") from error
        try:
            executor = submitit.AutoExecutor(folder=logs, cluster=self.cluster)
            executor.update_parameters(**({"cpus_per_task": self.threads} | self.options))
        except (RuntimeError, NameError, TypeError, ValueError) as error:  # no Slurm here, or an option it lacks
            raise ModelPressError(
                f"hydra/launcher=slurm: {error}. hydra.launcher.options takes submitit's parameters (timeout_min, "
                "mem_gb, slurm_partition …); without Slurm on this machine: hydra.launcher.cluster=local."
            ) from error
        return executor


def _end(submitted: Any, job: Call) -> None:
    error = submitted.exception()
    if error is not None:
        calls.settle(job, f"job {submitted.job_id} did not end by itself: {str(error).strip().splitlines()[0]}")
    tell(job)

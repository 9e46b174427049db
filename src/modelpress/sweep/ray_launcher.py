"""Jobs on Ray: workers on this machine, or those of a cluster that can reach the same folders. Needs ``ray``.

Hydra's own hydra-ray-launcher 1.2.2 is not used: it pins cloudpickle 2 and brings an AWS client (docs/sweeps.md).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from modelpress.errors import ModelPressError
from modelpress.sweep import call as calls
from modelpress.sweep.call import Call
from modelpress.sweep.launcher import JobsLauncher, tell

log = logging.getLogger(__name__)
CLIENT = "ray://"


class RayLauncher(JobsLauncher):
    """Workers stay alive from job to job, so that only the first one of each imports torch.

    ``address`` is null (a cluster on this machine, ended with the sweep), ``auto``, ``host:port`` or
    ``ray://host:port``. Every job takes ``cpus`` and ``gpus`` of what the cluster has.
    """

    def __init__(
        self,
        n_jobs: int | None = None,
        threads: int | None = None,
        address: str | None = None,
        cpus: float = 1,
        gpus: float = 0,
        timeout_s: float = 10.0,
    ) -> None:
        super().__init__(n_jobs, threads)
        self.address, self.cpus, self.gpus, self.timeout_s = address, cpus, gpus, timeout_s
        if address is not None:  # as many as the cluster has room for
            self.training_at_once = self.measured_at_once = None

    def describe(self) -> str:
        """See the base class."""
        where = self.address or f"{self.n_jobs} workers on this machine"
        return f"on Ray ({where}), {self.threads} threads per job"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Connected; workers on this machine end with the sweep."""
        ray = imported()
        self._connect(ray)
        try:
            yield
        finally:
            if self.address is None:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
        if self.address is None:
            local = {"num_cpus": self.n_jobs * self.cpus, "include_dashboard": False}
            ray.init(**options, **local, num_gpus=self.n_jobs * self.gpus or None)
            return
        reachable(self.address, self.timeout_s)
        try:
            ray.init(address=self.address, **options)
        except Exception as error:  # whatever Ray makes of it: the user can only mend the address or the cluster
            raise unreachable(self.address, str(error).partition("\n")[0]) from error

    def run(self, todo: Sequence[Call], at_once: int | None) -> None:
        """Hand jobs over, and wait for them in the order in which they end."""
        ray = imported()
        limit = len(todo) if at_once is None else at_once
        waiting, running = list(todo), dict[Any, Call]()
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.pop(0)
                running[self._submit(ray, job)] = job
                tell(job, "started")
            (ended, *_), _ = ray.wait(list(running))
            job = running.pop(ended)
            try:
                ray.get(ended)
            except ray.exceptions.RayError as error:
                calls.settle(job, f"the job's Ray worker ended early: {str(error).strip().splitlines()[-1]}")
            tell(job)

    def _submit(self, ray: Any, job: Call) -> Any:
        # Ray starts another worker for every other environment: what is the job's own is set by `perform`.
        variables = {"env_vars": dict(job.env)}
        options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_retries": 0, "runtime_env": variables}
        return ray.remote(calls.perform).options(**options).remote(job)


def imported() -> Any:
    """The ``ray`` package."""
    try:
        import ray
    except ImportError as error:
        raise ModelPressError("hydra/launcher=ray needs Ray: pip install 'modelpress[ray]'.") from error
    return ray


def reachable(address: str, timeout_s: float) -> None:
    """Knock at the address before Ray does: it would wait for long, and may end the whole process."""
    if address == "auto":
        return
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host or not port.isdigit():
        raise unreachable(address, "it is not host:port")
    try:
        socket.create_connection((host, int(port)), timeout_s).close()
    except OSError as error:
        raise unreachable(address, error.strerror or str(error)) from error


def unreachable(address: str, why: str) -> ModelPressError:
    """What to say of a cluster that does not answer."""
    return ModelPressError(
        f"hydra.launcher.address is {address!r}, and no Ray cluster answers there: {why}. Give null (workers on this "
        "machine), auto, host:port or ray://host:port; `ray status` on the cluster's head says whether it runs. "
        "Finished jobs are kept: the same command goes on with what is missing."
    )

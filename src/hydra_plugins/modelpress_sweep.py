"""Hydra looks for launchers and sweepers in this namespace only; what they do is in ``modelpress.sweep``."""

from __future__ import annotations

from modelpress.sweep.launcher import ProcessLauncher as _Process
from modelpress.sweep.ray_launcher import RayLauncher as _Ray
from modelpress.sweep.search import SearchSweeper as _Search
from modelpress.sweep.slurm_launcher import SlurmLauncher as _Slurm


class ProcessLauncher(_Process):
    """``hydra/launcher=process``."""


class RayLauncher(_Ray):
    """``hydra/launcher=ray``."""


class SlurmLauncher(_Slurm):
    """``hydra/launcher=slurm``."""


class SearchSweeper(_Search):
    """``hydra/sweeper=search``, and with it ``sweep=pareto`` and ``sweep=budget``."""

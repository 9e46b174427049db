"""One job of a sweep: which sweep it belongs to, what its own command is, and whether it is finished already."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from modelpress.errors import ModelPressError
from modelpress.status import read
from modelpress.store import digest
from modelpress.sweep import columns, folder

ENV = "MODELPRESS_SWEEP"  # tells a job in a process of its own which sweep it belongs to
# Hydra's settings that belong to the sweep and not to one of its jobs.
SWEEPING = ("hydra.sweep.", "hydra.sweeper", "hydra/sweeper", "hydra.launcher", "hydra/launcher", "hydra.run.dir=")
ONE_RUN = "hydra.mode=RUN"
NOT_IDENTITY = ("store", "logger")
Score = float | tuple[float, ...]


@dataclass(frozen=True)
class Member:
    """``folder`` of the sweep, and ``program``: how messages spell the command.

    ``arguments`` are the job's own where a launcher has started a process for it. ``only_train``: others train at the
    same time, so this one is not measured yet.
    """

    folder: Path
    program: str
    arguments: tuple[str, ...] | None = None
    only_train: bool = False

    @classmethod
    def of(cls, state: Any, program: str) -> Member | None:
        """From Hydra's own node of a job's config, or from the launcher that started this process."""
        if str(state.mode).endswith("MULTIRUN"):
            return cls(Path(str(state.sweep.dir)), program)
        return cls.of_process()

    @classmethod
    def of_process(cls) -> Member | None:
        """What the launcher of this process said."""
        if not (given := os.environ.get(ENV)):
            return None
        record = json.loads(given)
        record |= {"folder": Path(record["folder"]), "arguments": tuple(record["arguments"])}
        return cls(**record)

    def to_env(self) -> str:
        """The value of :data:`ENV` for a process that runs the job."""
        return json.dumps(asdict(self), default=str)

    def facts(self, overrides: Sequence[str]) -> dict[str, Any]:
        """What status.json says of a job of a sweep: ``sweep``, ``overrides``, and ``swept``, those that differ."""
        keys = folder.read(self.folder).get("swept", [])
        pairs = dict(override.lstrip("+~").split("=", 1) for override in overrides if "=" in override)
        swept = {key: pairs[key] for key in keys if key in pairs}
        return {"sweep": str(self.folder), "overrides": list(overrides), "swept": swept}


def own_arguments(state: Any, member: Member | None) -> list[str]:
    """What a user types after the program to get this job again, also if it was one of a sweep."""
    from hydra._internal.utils import get_args_parser

    if member is not None and member.arguments is not None:
        return list(member.arguments)
    flags: list[str] = []
    given = get_args_parser().parse_args(sys.argv[1:])
    for flag in ("config_path", "config_name", "config_dir"):
        if getattr(given, flag) is not None:
            flags += [f"--{flag.replace('_', '-')}", str(getattr(given, flag))]
    hydras = [override for override in state.overrides.hydra if not override.startswith("hydra.mode=")]  # Hydra's own
    if member is not None:
        hydras = [override for override in hydras if not override.startswith(SWEEPING)]
    by_config = str(state.mode).endswith("MULTIRUN") and not given.multirun
    if by_config or ONE_RUN in given.overrides:  # `sweep=…` alone would sweep again
        hydras.append(ONE_RUN)
    return [*flags, *state.overrides.task, *hydras]


def spelled(program: str, arguments: Sequence[str]) -> str:
    """A command as it is typed."""
    return f"{program} {shlex.join(arguments)}".strip()


def identity(cfg: DictConfig) -> str:
    """A digest of everything that decides a job's report: resolved config, data and code. Torch-free."""
    from modelpress.job import Job

    job = Job.of(cfg, Path())
    config = {key: node for key, node in job.config.items() if key not in NOT_IDENTITY and key != "hydra"}
    return digest([config, job.dataset.fingerprint(), folder.code()])


def finished(place: Path, cfg: DictConfig, objectives: Sequence[str] = ()) -> Score | None:
    """The score of a job that was finished in ``place`` from the same config, data and code; else ``None``."""
    record = read(place)
    if record.get("status") != "done" or not is_same(record, cfg):
        return None
    if "report" in cfg.callbacks and not (place / "report.json").is_file():
        return None
    try:
        return score(place, record["score"], objectives)
    except ModelPressError:  # its report is damaged: run it again
        return None


def is_same(record: Mapping[str, Any], cfg: DictConfig) -> bool:
    """Whether a ``status.json`` is of a job with the same config, data and code."""
    try:
        return "identity" in record and record["identity"] == identity(cfg)
    except (ModelPressError, OmegaConfBaseException):  # its data are gone
        return False


def objectives_of(state: Any) -> list[str]:
    """Columns that the sweeper asks of every job; empty where it takes the plain score."""
    found = OmegaConf.select(state, "sweeper.objectives")
    return [str(name) for name in found] if found else []


def score(place: Path, plain: float | None, objectives: Sequence[str]) -> Score:
    """What a job returns to its sweeper: a number, or one number for each of several objectives."""
    if not objectives:
        return float("nan") if plain is None else float(plain)
    found = columns.values(place, *objectives)
    return found[0] if len(found) == 1 else tuple(found)


def nothing(objectives: Sequence[str]) -> Score:
    """What a failed job returns."""
    return float("nan") if len(objectives) < 2 else (float("nan"),) * len(objectives)

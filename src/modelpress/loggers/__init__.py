"""Where a job's metrics go besides report.json: csv files (Lightning's own logger) and Weights & Biases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from modelpress.loggers.wandb import Wandb

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from modelpress.job import Job
    from modelpress.report.record import Report
    from modelpress.store import Entry


class Tracking:
    """All loggers of one job, as a context: whatever happens inside, W&B's run is closed with the right state.

    Every node of the ``logger`` group is a partial that takes ``save_dir``. A :class:`Wandb` is one run for the whole
    job; any other is a Lightning logger, made once per stage with ``<run folder>/logs/<stage>`` as its ``save_dir``.
    """

    def __init__(self, job: Job) -> None:
        self.folder = Path(job.folder) / "logs"
        self._job = job
        self._makers: dict[str, Any] = {}
        self._runs: dict[str, Wandb] = {}
        self._made: dict[str, list[Logger]] = {}

    def __enter__(self) -> Self:
        from modelpress.config import build

        nodes: Mapping[str, Any] = self._job.config["logger"] or {}
        for key, node in nodes.items():
            maker: Any = build(node) if str(node["_target_"]).startswith(__name__) else None
            if getattr(maker, "func", None) is Wandb:
                self._runs[key] = maker(save_dir=self.folder, **described(self._job, maker.keywords))
            else:  # made when a stage trains: importing Lightning's loggers imports torch
                self._makers[key] = lambda save_dir, node=node: build(node)(save_dir=save_dir)
        for run in self._runs.values():
            run.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit))
        for run in self._runs.values():
            run.finish("killed" if stopped else "finished" if kind is None else "failed")

    def loggers(self, stage: str) -> list[Logger]:
        """The Lightning loggers of one stage, the same ones on every call, so that fit and test share them."""
        if stage not in self._made:
            folder = slug(stage)
            made = [maker(save_dir=str(self.folder / folder)) for maker in self._makers.values()]
            self._made[stage] = made + [run.stage(folder) for run in self._runs.values()]
        return self._made[stage]

    def log_stage(self, entry: Entry) -> None:
        """Tell whoever keeps lineage of a finished stage, trained or found."""
        for run in self._runs.values():
            run.log_stage(entry)

    def to_be_continued(self) -> None:
        """Another process will go on with this job: it will be the same W&B run."""
        for run in self._runs.values():
            run.to_be_continued()

    def log_report(self, report: Report, folder: Path) -> None:
        """Hand the finished report, and the files beside it, to whoever keeps reports."""
        for run in self._runs.values():
            run.log_report(report, folder)


def described(job: Job, options: Mapping[str, Any]) -> dict[str, Any]:
    """Name, group and config of a job's W&B run.

    All jobs of a sweep are one group, named after its folder unless ``logger.wandb.group`` names it; what they differ
    in is the config's ``swept`` under short names, so that W&B's table and parallel coordinates need no work.
    """
    from modelpress.status import read
    from modelpress.sweep.space import short

    record = read(Path(job.folder))
    swept = record.get("swept") or {}
    if "sweep" not in record:
        return {"name": job.name, "config": job.config}
    names = short(list(swept))
    values = {names[key]: number(value) for key, value in swept.items()}
    title = " ".join(f"{key}={value}" for key, value in values.items())
    given = options.get("group")
    group = given if given and given != job.name else f"sweep {Path(record['sweep']).name}"
    return {"name": f"{job.name} {title}".strip(), "group": group, "config": {**job.config, "swept": values}}


def number(text: str) -> int | float | str:
    """A value as it was given on the command line: a number where it is one."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def slug(stage: str) -> str:
    """A stage's title as a path: ``tinybert · distill`` becomes ``tinybert/distill``."""
    return "/".join(filter(None, (re.sub(r"[^\w.-]+", "-", part).strip("-.") for part in re.split(r"[·/]", stage))))


__all__ = ["Tracking", "Wandb", "described", "slug"]

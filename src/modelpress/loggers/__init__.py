"""Where a job's metrics go besides report.json: csv files (Lightning's own logger) and Weights & Biases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from modelpress.loggers.wandb import Wandb

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from modelpress.job import Job
    from modelpress.report.record import Report


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
                self._runs[key] = maker(save_dir=self.folder, name=self._job.name, config=self._job.config)
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

    def log_report(self, report: Report, folder: Path) -> None:
        """Hand the finished report, and the files beside it, to whoever keeps reports."""
        for run in self._runs.values():
            run.log_report(report, folder)


def slug(stage: str) -> str:
    """A stage's title as a path: ``tinybert · distill`` becomes ``tinybert/distill``."""
    return "/".join(filter(None, (re.sub(r"[^\w.-]+", "-", part).strip("-.") for part in re.split(r"[·/]", stage))))


__all__ = ["Tracking", "Wandb", "slug"]

"""What a search asks of its jobs, as they read it in ``search.json``: on any machine, in any kind of process.

A job reads it from the folder above its own. Where there is none, the job belongs to no search.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from modelpress.errors import ModelPressError, one_of
from modelpress.store import write_atomic
from modelpress.sweep import columns

FILE = "search.json"
DIRECTIONS = ("maximize", "minimize")
PRUNERS = ("median",)
LATENCY, METRIC = "latency_ms.p50", "metric"


class Skipped(Exception):
    """This job of a search is not worth finishing; says why. ``facts`` are written into its status.json."""

    def __init__(self, reason: str, **facts: Any) -> None:
        super().__init__(reason)
        self.facts = facts


@dataclass(frozen=True)
class Rules:
    """``objectives``, ``limits``, ``skip``, ``ceilings`` and ``pruner``: see ``conf/hydra/sweeper/search.yaml``."""

    objectives: Mapping[str, str]
    limits: Mapping[str, float | None] = field(default_factory=dict)
    skip: float | bool = False
    ceilings: Mapping[str, float] = field(default_factory=dict)
    pruner: str | None = None

    def check(self) -> None:
        """Raise :class:`ModelPressError` for what cannot be searched."""
        if not self.objectives:
            raise ModelPressError("hydra.sweeper.objectives is empty; give columns, such as {metric: maximize}.")
        for column, direction in self.objectives.items():
            one_of(f"hydra.sweeper.objectives.{column}", direction, DIRECTIONS)
        for column in (*self.objectives, *self.limits, *self.ceilings):
            one_of("A column of hydra.sweeper.objectives, limits or ceilings", column, columns.names())
        for column, limit in self.limits.items():
            if limit is None:
                outer = column.partition(".")[0]
                raise ModelPressError(f"This search needs a limit for {column}: give it with budget.{outer}=<number>.")
        if self.skip is True or not 0 <= self.skip < 1:
            raise ModelPressError(f"hydra.sweeper.skip is {self.skip}; allowed: a share such as 0.05, or false.")
        self._check_pruner()

    def _check_pruner(self) -> None:
        if self.pruner is None:
            return
        one_of("hydra.sweeper.pruner", self.pruner, PRUNERS)
        if dict(self.objectives) != {METRIC: DIRECTIONS[0]}:
            raise ModelPressError(
                f"hydra.sweeper.pruner={self.pruner} compares validation curves of the metric, so the metric must be "
                f"all that is searched for; objectives are {', '.join(self.objectives)}. Use sweep=budget, or leave "
                "pruner away."
            )

    def write(self, sweep: Path, best: Sequence[int] = (), trials: int = 0) -> None:
        """Leave them, and which jobs are best so far, in the folder of the search."""
        record = {**asdict(self), "trials": trials, "best": [str(job) for job in best]}
        write_atomic(sweep / FILE, json.dumps(record, indent=1) + "\n")

    @classmethod
    def of(cls, job: Path) -> Rules | None:
        """Those for the job in this folder; ``None`` if it belongs to no search."""
        path = job.parent / FILE
        if not path.is_file():
            return None
        record = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{entry.name: record[entry.name] for entry in fields(cls)})

    def excess(self, place: Path) -> dict[str, float]:
        """By how much the finished job in ``place`` is over each limit; not above 0: it keeps to it.

        Raises :class:`ModelPressError` if a limited figure was not measured.
        """
        found = zip(self.limits.items(), columns.values(place, *self.limits), strict=True)
        return {column: figure - float(limit or 0) for (column, limit), figure in found}

    def foreseen(self, record: Mapping[str, Any]) -> dict[str, float]:
        """The same of a job that was left out, from what its status.json says was measured before."""
        found = record.get("untrained", {})
        return {
            column: found[column]["value"] - float(self.limits[column] or 0)
            for column in found
            if column in self.limits
        }

    def within(self, place: Path) -> bool:
        """Whether the finished job in ``place`` has all its figures and keeps to all limits."""
        try:
            return all(excess <= 0 for excess in self.excess(place).values())
        except ModelPressError:
            return False


def is_first_rank() -> bool:
    """Whether this process decides for a job that trains in several."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"

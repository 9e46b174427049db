"""Several files of one network measured in one session, and the table of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modelpress.assemble import plan_size_mb
from modelpress.benchmark.measure import measure
from modelpress.benchmark.requests import read
from modelpress.benchmark.session import Measurement, Session, Settings, Subject, Workload
from modelpress.benchmark.statistics import drop_interval, ratio_interval
from modelpress.engines.base import Hardware, Plan
from modelpress.report.quality import correct, predictions
from modelpress.report.record import Interval

ABSENT = "–"
TITLES = (
    *("file", "runs in", "accuracy", "drop, points", "agreement, %", "p50, ms"),
    *("items/s", "speed-up over {anchor}", "over {lossless}", "MB", "made in, s"),
)


@dataclass(frozen=True)
class Contender:
    """One row: a plan, or the reason why there is none. ``seconds``: what it took to make the file."""

    title: str
    plan: Plan | None
    seconds: float | None = None
    why: str | None = None
    sized: bool = True  # False: the plan's file is not what would be shipped


@dataclass(frozen=True)
class Contest:
    """The contenders with their session; ``anchor`` and ``lossless`` are the keys that ratios refer to."""

    contenders: Mapping[str, Contender]
    session: Session
    labels: Any  # (n,) or None
    anchor: str
    lossless: str
    test: Path | None = None  # the requests file that the logits answer

    def row(self, key: str, shape: str) -> Measurement | None:
        return self.session.of(key, shape) if self.contenders[key].plan is not None else None

    def logits(self, key: str) -> Any:
        """(n, C) on the engine, or ``None``."""
        return np.load(self.session.logits[key]) if key in self.session.logits else None

    def ratio(self, base: str, key: str, shape: str) -> Interval | None:
        """How many times faster than ``base``, over paired rounds."""
        rows = [self.row(name, shape) if name in self.contenders else None for name in (base, key)]
        if any(row is None or not row.latency_ms for row in rows):
            return None
        return ratio_interval(*(row.rounds for row in rows if row is not None))

    def quality(self, key: str) -> tuple[float, Interval, float] | None:
        """Accuracy, its paired drop and the agreement with the anchor's answers."""
        own, base = self.logits(key), self.logits(self.anchor)
        if own is None or base is None or self.labels is None:
            return None
        hits = correct(own, self.labels)
        drop = drop_interval(correct(base, self.labels), hits)
        return float(hits.mean()), drop, float((predictions(own) == predictions(base)).mean())


def hold(
    contenders: Mapping[str, Contender],
    workloads: Sequence[Workload],
    test: Path | None,
    settings: Settings,
    hardware: Hardware,
    folder: Path,
    *,
    anchor: str,
    lossless: str,
) -> Contest:
    """Measure all that have a plan in balanced rounds, and their accuracy on ``test``."""
    subjects = [Subject(key, entry.plan) for key, entry in contenders.items() if entry.plan is not None]
    session = measure(subjects, workloads, {"main": test} if test else {}, settings, hardware, folder)
    return Contest(contenders, session, read(test).labels if test else None, anchor, lossless, test)


def without_timing(settings: Settings) -> Settings:
    """Settings for sessions that are about accuracy only: as little timing as the session allows."""
    short = {"rounds": 2, "block_ms": 1.0, "block_queries": 1, "rewarm_ms": 0.0, "cold_starts": 1}
    warm = {"warm_window_ms": 1.0, "warm_min_ms": 0.0, "warm_limit_ms": 1.0, "throughput_s": 0.01}
    return replace(settings, **short, **warm)


def markdown(contest: Contest, shape: str) -> str:
    """A table; columns without a single value are left out. Notes below say what is wrong with a row."""
    names = {"anchor": contest.contenders[contest.anchor].title, "lossless": contest.contenders[contest.lossless].title}
    rows = [_cells(contest, key, shape) for key in contest.contenders]
    kept = [i for i in range(len(TITLES)) if any(row[i] != ABSENT for row in rows)]
    lines = [_line([TITLES[i].format(**names) for i in kept]), _line(["---"] * len(kept))]
    lines += [_line([row[i] for i in kept]) for row in rows]
    return "\n".join([*lines, "", *_notes(contest, shape)])


def _cells(contest: Contest, key: str, shape: str) -> list[str]:
    entry, row = contest.contenders[key], contest.row(key, shape)
    if row is None or entry.plan is None:
        return [entry.title, *[ABSENT] * (len(TITLES) - 1)]
    return [
        entry.title,
        f"{entry.plan.engine} {row.precision}",
        *_quality_cells(contest, key),
        number(row.latency_ms.p50 if row.latency_ms else None, 2),
        number(row.throughput_per_s, 0),
        *(_ratio_cell(contest, base, key, shape) for base in (contest.anchor, contest.lossless)),
        number(plan_size_mb(entry.plan) if entry.sized else None, 1),
        number(entry.seconds, 0),
    ]


def _quality_cells(contest: Contest, key: str) -> list[str]:
    found = contest.quality(key)
    if found is None:
        return [ABSENT] * 3
    accuracy, drop, agreement = found
    same = key == contest.anchor
    return [f"{accuracy:.4f}", ABSENT if same else points(drop), ABSENT if same else number(100 * agreement, 2)]


def _ratio_cell(contest: Contest, base: str, key: str, shape: str) -> str:
    ratio = contest.ratio(base, key, shape) if base != key else None
    return ABSENT if ratio is None else f"{ratio.value:.2f} [{ratio.ci_low:.2f}, {ratio.ci_high:.2f}]"


def _notes(contest: Contest, shape: str) -> list[str]:
    """Why a row is missing, or why its numbers are not to be trusted."""
    reasons = {key: entry.why for key, entry in contest.contenders.items()}
    for key in contest.contenders:
        row = contest.row(key, shape)
        if row is not None and row.why:
            reasons[key] = f"{row.status}: {row.why}"
    return [f"- {contest.contenders[key].title}: {why}" for key, why in reasons.items() if why]


def points(interval: Interval) -> str:
    """``0.12 [-0.30, 0.55]``: a share as percentage points."""
    return f"{100 * interval.value:.2f} [{100 * interval.ci_low:.2f}, {100 * interval.ci_high:.2f}]"


def number(value: float | None, digits: int) -> str:
    return ABSENT if value is None else f"{value:.{digits}f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

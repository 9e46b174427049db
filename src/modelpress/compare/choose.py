"""Which rows of a run stand in the table: its best candidate and the baselines it is measured against, or all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from modelpress.compare.run import Run
from modelpress.report.names import PRIMARY_SHAPE
from modelpress.report.record import Report, Row

Wanted = Callable[[Row], bool]
Pick = tuple[Run, Row]
VERDICT_ORDER = {"pays": 0, "inconclusive": 1, "does_not_pay": 2, None: 3}


def every_row(runs: Sequence[Run], wanted: Wanted) -> list[Pick]:
    """All rows of all reports."""
    return [(run, row) for run in runs if run.report for row in run.report.rows if wanted(row)]


def best_rows(runs: Sequence[Run], wanted: Wanted) -> list[Pick]:
    """Each run's best candidate row, and the baseline rows that it is compared with.

    Runs that differ only in their seed show the same row, that which is best most often: a mean over different engines
    would mean nothing. A run that compressed nothing shows its baseline rows.
    """
    picks: list[Pick] = []
    for group in by_recipe(runs):
        best = {id(run): best_row(run.report, wanted) for run in group if run.report}
        votes = Counter(row.id for row in best.values() if row is not None)
        favourite = votes.most_common(1)[0][0] if votes else None
        for run in group:
            if run.report is not None:
                picks += [(run, row) for row in _rows_of(run.report, best[id(run)], favourite, wanted)]
    return picks


def by_recipe(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ only in their seed, together."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(recipe(run), []).append(run)
    return list(groups.values())


def recipe(run: Run) -> str:
    """Equal for runs that differ only in their seed: by what the report rests on; without a report, by the command."""
    return run.origin.recipe or repr((run.name, sorted(run.overrides.items())))


def best_row(report: Report | None, wanted: Wanted) -> Row | None:
    """The verdict's row; if it is not ``wanted`` the best other candidate; measured before failed."""
    rows = [row for row in (report.rows if report else []) if row.role == "candidate" and wanted(row)]
    measured = [row for row in rows if row.status in ("ok", "unstable")]
    chosen = report.verdict.get("row") if report else None
    for row in measured:
        if row.id == chosen:
            return row
    same_shape = _at_primary_shape(measured or rows)
    return min(same_shape, key=_rank, default=None)


def _rows_of(report: Report, best: Row | None, favourite: str | None, wanted: Wanted) -> list[Row]:
    if best is None:
        baselines = [row for row in report.rows if row.role == "baseline" and wanted(row)]
        compressed = any(row.role == "candidate" for row in report.rows)
        return [] if compressed else _at_primary_shape(baselines)
    shared = next((row for row in report.rows if row.id == favourite and row.status in ("ok", "unstable")), best)
    rivals = {ratio.vs for ratio in (shared.speedup, shared.speedup_best) if ratio is not None}
    return [*(row for row in report.rows if row.id in rivals and row.role == "baseline" and wanted(row)), shared]


def _at_primary_shape(rows: Sequence[Row]) -> list[Row]:
    shapes = {row.shape for row in rows}
    shape = PRIMARY_SHAPE if PRIMARY_SHAPE in shapes else rows[0].shape if rows else ""
    return [row for row in rows if row.shape == shape]


def _rank(row: Row) -> tuple[int, float, float]:
    ratio = row.speedup_best.ratio if row.speedup_best else 0.0
    p50 = row.latency_ms.p50 if row.latency_ms else None
    return VERDICT_ORDER[row.verdict], -ratio, float("inf") if p50 is None else p50

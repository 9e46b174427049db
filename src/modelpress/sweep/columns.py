"""Figures of a finished run by the name of their column, such as ``metric`` or ``latency_ms.p50``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from modelpress.errors import ModelPressError, one_of
from modelpress.report.record import NESTED, Report, Row, load


def names() -> list[str]:
    """Every column of a row that holds a number."""
    found = [entry.name for entry in fields(Row) if str(entry.type) in ("float | None", "int | None")]
    for name, cls in NESTED.items():
        found += [f"{name}.{entry.name}" for entry in fields(cls) if entry.name != "vs"]
    return sorted(found)


def value(row: Row, column: str) -> float | None:
    """One figure of a row; ``None`` where it was not measured. An unknown column is a :class:`ModelPressError`."""
    outer, _, inner = one_of("The column", column, names()).partition(".")
    found: Any = getattr(row, outer)
    found = getattr(found, inner) if inner and found is not None else found
    return None if found is None else float(found)


def best_row(report: Report) -> Row | None:
    """The row that the verdict names."""
    return next((row for row in report.rows if row.id == report.verdict["row"]), None)


def values(folder: Path, *columns: str) -> list[float]:
    """Figures of the row that the verdict of ``folder``'s report names.

    Raises :class:`ModelPressError` if a figure was not measured, or if there is no such row.
    """
    row = best_row(load(folder / "report.json"))
    if row is None:
        raise ModelPressError(f"{folder / 'report.json'} names no best row: no candidate was measured.")
    found = {column: value(row, column) for column in columns}
    missing = [column for column, figure in found.items() if figure is None]
    if missing:
        raise ModelPressError(f"{row.id} has no {' and no '.join(missing)} ({row.why or row.status}).")
    return [figure for figure in found.values() if figure is not None]

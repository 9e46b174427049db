"""Pieces of the HTML page: tables, tiles, lists. Every text is escaped here. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from modelpress.report.arms import is_equal_arm
from modelpress.report.columns import Column, details_text, groups
from modelpress.report.missing import null_reason
from modelpress.report.names import ROLE_MEANINGS, SHORT_ENGINES
from modelpress.report.numbers import NULL, fixed, latency_text, points_text, ratio_text, share_text, significant
from modelpress.report.record import Report, Row
from modelpress.report.sections import deciding, sections

PRINTED = ("metric", "metric_drop", "speedup", "speedup_best", "p50", "p95", "size_mb", "status", "verdict")


def paragraph(text: str, css: str = "") -> str:
    """One ``<p>``; nothing for an empty text."""
    return f'<p class="{css}">{escape(text)}</p>' if text else ""


def command(text: str, name: str) -> str:
    """A line to copy; ``name`` is its id on the page."""
    button = f'<button type="button" data-copies="{name}">Copy</button>'
    return f'<div class="command"><pre id="{name}">{escape(text)}</pre>{button}</div>'


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A plain table; cells are already HTML."""
    top = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = "".join("<tr>" + "".join(f'<td class="wrap">{cell}</td>' for cell in line) + "</tr>" for line in body)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def dash(reason: str) -> str:
    """A missing value with its reason on hover and focus."""
    return f'<abbr title="{escape(reason)}" tabindex="0" aria-label="not measured: {escape(reason)}">{NULL}</abbr>'


def rows_table(report: Report) -> str:
    """Every column of every row, under headings by role."""
    grouped = groups(report)
    columns = [column for _, group in grouped for column in group]
    over = "".join(f'<th class="group" colspan="{len(group)}">{escape(title)}</th>' for title, group in grouped)
    names = "".join(_head(column) for column in columns)
    head = f'<tr class="minor"><th></th>{over}<th></th></tr><tr><th>row</th>{names}<th class="minor">details</th></tr>'
    body = ""
    for title, rows in sections(report.rows):
        body += _heading(title, rows[0].role, len(columns))
        body += "".join(_row(row, columns, report) for row in rows)
    return f'<div class="scroll rows"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _css(column: Column) -> str:
    """``minor`` columns are left out in print, where the page cannot scroll."""
    kind = "number" if column.numeric else "long" if column.key == "why" else ""
    return kind if column.key in PRINTED else f"{kind} minor".lstrip()


def _head(column: Column) -> str:
    return f'<th class="{_css(column)}" title="{escape(column.meaning)}">{escape(column.title)}</th>'


def _heading(title: str, role: str, width: int) -> str:
    dot = f'<span class="dot" style="--dot: var(--{role})"></span>'
    meaning = f'<td colspan="{width + 1}" class="soft">{escape(ROLE_MEANINGS[role])}</td>'
    return f'<tr class="heading"><td>{dot}{escape(title)}</td>{meaning}</tr>'


def _row(row: Row, columns: Sequence[Column], report: Report) -> str:
    best = row.id == report.verdict.get("row")
    label = f"{SHORT_ENGINES[row.engine]} {row.precision} {row.shape}" + (" ★" if best else "")
    cells = "".join(_cell(row, column) for column in columns)
    details = details_text(row)
    more = f"<details><summary>show</summary><pre>{escape(details)}</pre></details>" if details else ""
    css = f' class="best {row.verdict}"' if best else ""
    return f'<tr{css}><td title="{escape(row.id)}">{escape(label)}</td>{cells}<td class="minor">{more}</td></tr>'


def _cell(row: Row, column: Column) -> str:
    text = column.text(row)
    inner = dash(null_reason(row, column.key)) if text is None else escape(text)
    if text is not None and column.key == "verdict":
        inner = f'<span class="badge {row.verdict}">{inner}</span>'
    if text is not None and column.key in ("speedup", "speedup_best"):
        inner = f'<span title="against {escape(getattr(row, column.key).vs)}">{inner}</span>'
    return f'<td class="{_css(column)}">{inner}</td>'


def tiles(report: Report) -> str:
    """The best row's key numbers."""
    row = next((row for row in report.rows if row.id == report.verdict.get("row")), None)
    if row is None:
        return ""
    facts = [
        ("speed-up over the baseline's best lossless engine", row.speedup_best and ratio_text(row.speedup_best)),
        ("speed-up over the baseline in ONNX Runtime FP32", row.speedup and ratio_text(row.speedup)),
        ("points lost, paired", row.metric_drop and points_text(row.metric_drop)),
        (report.task_metric, None if row.metric is None else f"{share_text(row.metric, row.metric_n)} %"),
        (f"p50 at {row.shape}", row.latency_ms and f"{latency_text(row)} ms"),
        ("on disk", row.size_mb and f"{significant(row.size_mb)} MB"),
    ]
    return '<div class="tiles">' + "".join(_tile(name, value) for name, value in facts if value) + "</div>"


def _tile(name: str, value: str) -> str:
    number, _, interval = value.partition(" [")
    span = f" <small>[{escape(interval)}</small>" if interval else ""
    return f'<div class="tile"><b>{escape(number)}{span}</b><span>{escape(name)}</span></div>'


def control_table(report: Report) -> str:
    """Candidate and control side by side in every engine and shape that both ran, and the judged difference."""
    plain = [row for row in report.rows if row.role == "control" and not is_equal_arm(row)]
    controls = {_kind(row): row for row in plain if row.metric is not None}
    candidates = [row for row in deciding(report.rows) if row.role == "candidate"]
    pairs = [(row, controls[_kind(row)]) for row in candidates if _kind(row) in controls]
    arms = [f"{arm} {what}" for what in (f"{report.task_metric} %", "p50 ms") for arm in ("candidate", "control")]
    head = ["engine", "shape", *arms]
    body = [[escape(cell) for cell in _pair(row, twin)] for row, twin in pairs if row.metric is not None]
    return table(head, body) if body else ""


def _pair(row: Row, twin: Row) -> list[str]:
    metrics = [share_text(arm.metric or 0, arm.metric_n) for arm in (row, twin)]
    return [f"{SHORT_ENGINES[row.engine]} {row.precision}", row.shape, *metrics, latency_text(row), latency_text(twin)]


def _kind(row: Row) -> tuple[str, ...]:
    return (row.tower, row.engine, row.precision, row.shape)


def diagnostics_table(diagnostics: Sequence[Mapping[str, Any]]) -> str:
    """Name, value and meaning of every diagnostic, and its stage where it names one."""
    keys = [key for key in ("stage", "name", "value", "meaning") if any(key in entry for entry in diagnostics)]
    titles = {"name": "diagnostic", "meaning": "what it means"}
    body = [[_value(entry.get(key)) for key in keys] for entry in diagnostics]
    return table([titles.get(key, key) for key in keys], body)


def _value(value: object) -> str:
    """A value of any kind as a short HTML text."""
    if value is None:
        return dash("not measured")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return significant(value) if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
    if isinstance(value, (list, tuple)) and not any(isinstance(entry, (list, tuple, dict)) for entry in value):
        return escape(", ".join(map(str, value)))
    if isinstance(value, (list, tuple, dict)):
        return f"<pre>{escape(json.dumps(value, indent=1, default=str))}</pre>"
    return escape(str(value))


def records_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Dicts as a table whose columns are all their keys."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    body = [[_value(record[key]) if key in record else "" for key in keys] for record in records]
    return table(keys, body)


def facts_table(facts: Mapping[str, Any]) -> str:
    """Nested facts as dotted names and values."""
    return table(["fact", "value"], [[escape(name), _value(value)] for name, value in _flat("", facts)])


def seconds_table(seconds: Mapping[str, float]) -> str:
    """Where the time went; a part taken from the store shows what it cost when it was made."""
    return table(["part", "seconds"], [[escape(name), fixed(value, 1)] for name, value in seconds.items()])


def _flat(prefix: str, facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in facts.items():
        name = f"{prefix}.{key}".lstrip(".")
        pairs += _flat(name, value) if isinstance(value, Mapping) else [(name, value)]
    return pairs

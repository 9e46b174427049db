"""The report as GitHub-flavoured Markdown, to be committed or pasted into a pull request. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from modelpress.report import numerics, repeat
from modelpress.report.columns import Column, columns
from modelpress.report.names import ENGINE_TITLES, model_title
from modelpress.report.numbers import NULL, significant
from modelpress.report.record import Report, Row
from modelpress.report.sections import arm_words, budget_lines, footnotes, headline, notes, sections

MAIN = ("metric", "metric_drop", "p50", "p95", "speedup", "speedup_best", "verdict")
COST = ("metric_n", "agreement", "params_m", "macs_g", "size_mb", "peak_memory_mb", "cold_start_ms", "throughput_per_s")


def render(report: Report) -> str:
    """One Markdown document: verdict, rows, cost of each engine, control, method, and the command that made it."""
    parts = [
        f"# {report.name}",
        _verdict(report),
        "```\n" + report.command + "\n```",
        "## Rows",
        _table(report, MAIN),
        *_list(notes(report.rows)),
        "## Size, memory and throughput",
        _table(report, [*_sizes(report), *COST]),
        "## Why",
        *(_list(_whys(report)) or ["No row was judged."]),
        *_numerics(report),
        *_repeat(report),
        "## Method",
        *_list(footnotes(report)),
        "## Environment",
        *_list(_environment(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(report: Report) -> str:
    title, words = headline(report)
    lines = [f"**{title}.** {words}", *arm_words(report), _ceilings(report)]
    if goals := budget_lines(report):
        lines.append("Budget: " + "; ".join(goals) + ".")
    if not report.complete:
        lines.append("**This report is incomplete.**")
    return "\n\n".join(f"> {line}" for line in lines if line).replace("\n\n", "\n>\n")


def _sizes(report: Report) -> list[str]:
    """The network's sizes, where rows differ in them."""
    return ["network"] if len({row.details.get("network") for row in report.rows}) > 1 else []


def _ceilings(report: Report) -> str | None:
    words = (report.verdict.get("ceilings") or {}).get("words")
    return str(words) if words else None


def _table(report: Report, keys: Sequence[str]) -> str:
    known = {column.key: column for column in columns(report)}
    chosen = [known[key] for key in keys]
    head = ["role", "model", "engine", "shape", *(column.title for column in chosen)]
    align = ["---"] * 4 + ["---:" if column.numeric else "---" for column in chosen]
    best = report.verdict.get("row")
    body = [_cells(row, chosen, best) for _, rows in sections(report.rows) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, align, *body])


def _cells(row: Row, chosen: Sequence[Column], best: object) -> list[str]:
    texts = [row.role, model_title(row), f"{ENGINE_TITLES[row.engine]} {row.precision.upper()}", row.shape]
    texts += [_value(row, column) for column in chosen]
    texts = [text.replace("|", "\\|").replace("\n", " ") for text in texts]
    return [f"**{text}**" if text != NULL else text for text in texts] if row.id == best else texts


def _value(row: Row, column: Column) -> str:
    if column.key == "verdict" and row.status != "ok":
        return ", ".join(filter(None, (column.text(row), row.status)))
    return column.text(row) or NULL


def _whys(report: Report) -> list[str]:
    judged = [row for row in report.rows if row.verdict]
    return [f"`{row.id}`: {row.why}" for row in judged]


def _repeat(report: Report) -> list[str]:
    line = repeat.command(report)
    block = [repeat.WHERE, "```\n" + line + "\n```"] if line else []
    found = [*block, *_list(repeat.remarks(report))]
    return [f"## {repeat.TITLE}", *found] if found else []


def _numerics(report: Report) -> list[str]:
    found = numerics.paragraphs(report)
    return ["## Numbers of the network", *found] if found else []


def _environment(report: Report) -> list[str]:
    lines = [f"seed: {report.seed}"]
    lines += [f"{name}: {significant(value)} s" for name, value in report.seconds.items()]
    lines += [f"{name}: {value}" for name, value in _flat("", report.environment)]
    return lines


def _flat(prefix: str, value: object) -> list[tuple[str, str]]:
    """Nested dicts as dotted names."""
    if isinstance(value, dict):
        return [pair for key, entry in value.items() for pair in _flat(f"{prefix}.{key}".lstrip("."), entry)]
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return [(prefix, text)]


def _list(lines: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {line}" for line in lines)] if lines else []

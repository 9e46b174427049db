"""Rows in reading order, shared by the terminal, Markdown and HTML reports. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelpress.report.diagnosis import packing
from modelpress.report.evidence import DECIDING
from modelpress.report.names import ENGINE_TITLES, VERDICT_TITLES, model_title, row_title
from modelpress.report.numbers import NULL, beside
from modelpress.report.record import ROLES, Report, Row

RANDOM = "Weights are random: size, memory and speed mean something, answers do not."
BUDGET_NAMES = {
    "latency_ms": ("p50", "ms"),
    "size_mb": ("size", "MB"),
    "memory_mb": ("peak memory", "MB"),
    "max_metric_drop": ("metric drop (upper bound)", "points"),
}


def sections(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Rows grouped by role, then stage and model, then shape; a heading such as ``candidate: tinybert (distill)``."""
    groups: dict[tuple[int, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((ROLES.index(row.role), row.stage, model_title(row)), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: item[0][0])
    return [(_heading(ROLES[role], stage, model), by_shape(group)) for (role, stage, model), group in ordered]


def _heading(role: str, stage: str, model: str) -> str:
    return f"{role}: {model}" + ("" if stage == role or f" · {stage}" in model else f" ({stage})")


def headline(report: Report) -> tuple[str, str]:
    """The verdict's title, and its words without that title."""
    title = VERDICT_TITLES.get(report.verdict.get("verdict") or "", "No verdict")
    return title, str(report.verdict.get("words", "")).removeprefix(f"{title}: ")


def arm_words(report: Report) -> list[str]:
    """What the comparisons with the control arms say."""
    arms = (report.verdict.get(key) or {} for key in ("control", "equal_latency"))
    return [str(arm["words"]) for arm in arms if arm.get("words")]


def by_shape(rows: Sequence[Row]) -> list[Row]:
    """Stable: shapes in their order of first appearance, rows as they came."""
    order = shapes(rows)
    return sorted(rows, key=lambda row: order.index(row.shape))


def deciding(rows: Iterable[Row]) -> list[Row]:
    """Without those of one tower of two, whose answers are those of the pair."""
    return [row for row in rows if row.tower in DECIDING]


def shapes(rows: Sequence[Row]) -> list[str]:
    """Shapes in order of first appearance."""
    return list(dict.fromkeys(row.shape for row in rows))


def notes(rows: Sequence[Row]) -> list[str]:
    """One line for random weights, one for every row that failed or is unsupported, one for all that were disturbed."""
    lines = [RANDOM] if any(row.details.get("weights") == "random" for row in rows) else []
    lines += [
        f"{row_title(row)}: {row.status}. {row.why or 'No reason was recorded.'}"
        for row in rows
        if row.status in ("failed", "unsupported")
    ]
    ignored = dict.fromkeys(filter(None, (packing(row) for row in rows)))
    lines += [f"{ENGINE_TITLES['openvino']}: {note}" for note in ignored]
    shaky = [row for row in rows if row.status == "unstable"]
    return [*lines, _disturbed(shaky, len(rows))] if shaky else lines


def _disturbed(shaky: Sequence[Row], total: int) -> str:
    causes = [
        f"{words} up to {100 * max(values):.0f} %"
        for key, words in (("foreign_share", "load of other processes"), ("round_cov", "spread of the rounds"))
        if (values := [row.details[key] for row in shaky if row.details.get(key) is not None])
    ]
    reason = f" ({', '.join(causes)})" if causes else ""
    return (
        f"{len(shaky)} of {total} rows are unstable{reason}: their speed decides nothing. "
        "On a quiet machine measure again with benchmark.repeat=1."
    )


def budget_lines(report: Report) -> list[str]:
    """``size 23.1 MB, goal 30: met``, for the goals that the user set."""
    lines = []
    for key, goal in report.verdict.get("budget", {}).items():
        if goal["limit"] is None:
            continue
        name, unit = BUDGET_NAMES[key]
        scale = 100 if key == "max_metric_drop" else 1
        met = {True: "met", False: "missed", None: "not measured"}[goal["met"]]
        value = NULL if goal["value"] is None else beside(scale * goal["value"], scale * goal["limit"], 1)[0]
        lines.append(f"{name} {value} {unit}, goal {scale * goal['limit']:g}: {met}")
    return lines


def footnotes(report: Report) -> list[str]:
    """How the numbers were made, in plain sentences."""
    from modelpress.benchmark.statistics import minimum_count

    counts = ", ".join(f"p{q:g} {minimum_count(q):,}" for q in (50, 90, 95, 99, 99.9))
    candidates = sum(row.verdict is not None for row in report.rows)
    lines = [
        str(report.verdict.get("rule", "")),
        "Metrics are measured on the engine itself, on the full test split. A metric drop is paired on the same test "
        "items (Tango's score interval), so it is much narrower than the difference of two separate accuracies.",
        "Every engine runs in a process of its own; all rows take turns in balanced rounds, and every ratio is paired "
        "by round (cluster bootstrap over rounds). No query is dropped.",
        f"A percentile is printed only if the sample bounds it with 99 % confidence; queries needed: {counts}.",
        "Numbers carry no more digits than their interval supports. A dash is a value that was not measured, not zero.",
    ]
    if candidates > 1:
        lines.append(
            f"The best of {candidates} judged rows is picked after measuring; its interval is not corrected for that."
        )
    return [line for line in lines if line]

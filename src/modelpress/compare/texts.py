"""How the values of a line are written, in the terminal, in HTML and on hover. Never with more digits than known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelpress.compare.columns import PER_CENT, matches
from modelpress.compare.lines import Line
from modelpress.compare.overrides import Value, as_number, spelled
from modelpress.report.names import SHORT_ENGINES, VERDICT_SHORT
from modelpress.report.numbers import NULL, decimals, fixed, latency_text, points_text, share_text, significant

UNITS = {
    "latency_ms.p50": "p50 ms",
    "latency_ms.p95": "p95 ms",
    "speedup.ratio": "x ORT",
    "speedup_best.ratio": "x best",
}
TITLES = {
    **UNITS,
    "metric": "metric %",
    "metric_drop.value": "drop",
    "size_mb": "MB",
    "peak_memory_mb": "RAM MB",
    "throughput_per_s": "items/s",
    "status": "status",
}
WHOLE = ("seed", "metric_n", "latency_ms.n")


@dataclass(frozen=True)
class Column:
    """One column of the table. The one with the highest ``rank`` goes first where the width is short; 0 never goes."""

    key: str
    title: str
    rank: int
    right: bool = True

    def text(self, line: Line) -> str:
        """The cell."""
        return cell(line, self.key)


def title_of(key: str, metric: str = "metric") -> str:
    """The heading of a column that is named on the command line.

    >>> title_of("metric", "accuracy"), title_of("latency_ms.p95"), title_of("metrics.macro_f1")
    ('accuracy %', 'p95 ms', 'macro_f1 %')
    """
    if key == "metric":
        return f"{metric} %"
    if key in TITLES:
        return TITLES[key]
    if key.startswith("metrics."):
        return f"{key.partition('.')[2]} %"
    return key


def cell(line: Line, key: str) -> str:
    """A value as a reader sees it; a dash where there is none."""
    if key in OF_LINES:
        return OF_LINES[key](line)
    value = line.values.get(key)
    if value is None:
        return "" if key.partition(".")[0] in ("technique", "finetune") and line.role == "baseline" else NULL
    if line.spreads.get(key):
        return _with_spread(key, value, line.spreads[key])
    if len(line.rows) == 1 and (text := _exact(line, key)):
        return text
    return _plain(key, value)


def row_text(line: Line) -> str:
    """``OpenVINO bf16``; the status where there is no report."""
    if not line.rows:
        return NULL
    row = line.rows[0]
    return f"{SHORT_ENGINES[row.engine]} {row.precision}"


def seeds_text(line: Line) -> str:
    """How many seeds stand behind a line."""
    return str(len(line.runs)) if line.rows else NULL


def outcome(line: Line) -> str:
    """The verdict, or what is wrong with the line; both where both matter."""
    status, verdict = str(line.values.get("status")), line.values.get("verdict")
    doubts = [] if status == "ok" else [status]
    if line.role == "candidate" and line.values.get("complete") is not True:
        doubts.append("incomplete")
    if verdict is None:
        return ", ".join(doubts)
    return _verdicts(str(verdict)) + (f" ({', '.join(doubts)})" if doubts else "")


def _verdicts(text: str) -> str:
    """``does_not_pay`` as words; ``null`` of a group's member that was not judged."""
    for name, words in VERDICT_SHORT.items():
        text = text.replace(name, words)
    return text.replace("null", "not judged")


def _exact(line: Line, key: str) -> str | None:
    """One row, with the digits that its own interval supports."""
    row = line.rows[0]
    if key == "metric" and row.metric is not None:
        return share_text(row.metric, row.metric_n)
    if key == "metric_drop.value" and row.metric_drop is not None:
        return points_text(row.metric_drop, interval=False)
    if key == "latency_ms.p50" and row.latency_ms is not None:
        return latency_text(row)
    if key in ("speedup.ratio", "speedup_best.ratio"):
        ratio = row.speedup if key == "speedup.ratio" else row.speedup_best
        return None if ratio is None else fixed(ratio.ratio, decimals((ratio.ci_high - ratio.ci_low) / 2))
    return None


def _with_spread(key: str, value: Value, spread: float) -> str:
    """``82.7 ±0.3``: two digits of a spread that starts with 1 or 2, otherwise one."""
    number = as_number(value) or 0.0
    scale = 100.0 if matches(key, PER_CENT) else 1.0
    places = decimals(scale * spread, most=4)
    return f"{fixed(scale * number, places)} ±{fixed(scale * spread, places)}"


def _plain(key: str, value: Value) -> str:
    number = as_number(value)
    if number is None:
        return spelled(value)
    if key in WHOLE:
        return f"{number:.0f}"
    if matches(key, PER_CENT):
        return fixed(100 * number, 1)
    measured = key.partition(".")[0] in MEASURED
    return significant(number) if measured else spelled(number)


def front_mark(line: Line) -> str:
    """A star on the Pareto front."""
    return "★" if line.front else ""


OF_LINES: dict[str, Callable[[Line], str]] = {
    "front": front_mark,
    "row": row_text,
    "n": seeds_text,
    "outcome": outcome,
}
MEASURED = frozenset(
    {"latency_ms", "size_mb", "peak_memory_mb", "peak_device_memory_mb", "cold_start_ms", "preprocess_ms", "params_m"}
    | {"macs_g", "throughput_per_s", "energy_j_per_sample", "speedup", "speedup_best", "parity_max_abs", "seconds"}
)

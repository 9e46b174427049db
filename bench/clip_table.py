"""One CLIP in every form: as trained, in 16 bits, in INT8 and distilled; size, latency, throughput and recall at 1.

Called by bench/clip.py as its part `variants`. Two ordinary runs, one for what is made of the teacher and one for its
student; the ratios of each are paired within its own session, to the teacher in ONNX Runtime FP32.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from bench.clip_accuracy import MODEL, heading, markdown, report_of, trained_teacher
from bench.contest import ABSENT, number, points
from bench.pressed import arms
from modelpress.report.names import engine_title
from modelpress.report.record import Ratio, Report, Row

SEED = 1
RUNS = (
    ("model=clip_small", "technique=[fp16,bf16,ptq]", "side_by_side=true", "model.path={teacher}"),
    (*MODEL, "technique=[distill,ptq]", "press=all", "control=false", "teacher.path={teacher}"),
)
TECHNIQUES = {
    "fp16": "FP16 file",
    "bf16": "BF16 file",
    "control": "no teacher",
    "distill": "distilled",
    "distill-ptq": "distilled, INT8",
    "ptq": "INT8",
}
TITLES = (
    *("network", "technique", "runs in", "recall at 1, %", "drop, points", "image, ms", "caption, ms", "pair, ms"),
    *("pairs/s", "speed-up", "MB"),
)
Key = tuple[str, str, str, str]


def variants(name: str, args: argparse.Namespace) -> str:
    """The part: a table per run."""
    teacher = trained_teacher(arms(*MODEL, "technique=distill", *args.overrides))
    reports = [
        report_of(SEED, [*(word.format(teacher=teacher) for word in run), f"benchmark={args.preset}", *args.overrides])
        for run in RUNS
    ]
    return "\n\n".join([heading(name), *(table(report) for report in reports)])


def table(report: Report) -> str:
    """A line for every pair, with the latencies of its towers."""
    towers = {tower: by_key(row for row in report.rows if row.tower == tower) for tower in ("image", "text")}
    pairs = by_key(row for row in report.rows if row.tower == "pair")
    return markdown(TITLES, [line(row, [towers[t].get(key) for t in towers]) for key, row in pairs.items()])


def by_key(rows: Iterable[Row]) -> dict[Key, Row]:
    """Of several shapes the first, which is one item."""
    found: dict[Key, Row] = {}
    for row in rows:
        found.setdefault((row.model, row.stage, row.engine, row.precision), row)
    return found


def line(row: Row, towers: Sequence[Row | None]) -> list[str]:
    """One row of the table."""
    technique = ABSENT if row.role == "baseline" else TECHNIQUES[row.stage]
    return [
        *(row.model, technique, engine_title(row)),
        number(None if row.metric is None else 100 * row.metric, 1),
        ABSENT if row.metric_drop is None else points(row.metric_drop),
        *(p50(each) for each in (*towers, row)),
        number(row.throughput_per_s, 0),
        speedup(row.speedup),
        number(row.size_mb, 1),
    ]


def p50(row: Row | None) -> str:
    return number(row.latency_ms.p50 if row is not None and row.latency_ms else None, 2)


def speedup(ratio: Ratio | None) -> str:
    return ABSENT if ratio is None else f"{ratio.ratio:.2f} [{ratio.ci_low:.2f}, {ratio.ci_high:.2f}]"

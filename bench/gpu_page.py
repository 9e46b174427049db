"""The page of one GPU: tables and claims, from a contest of its engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.contest import Contest, number
from modelpress.benchmark.machine import machine
from modelpress.benchmark.requests import batch_of
from modelpress.benchmark.session import RESULT, TRACE, Measurement
from modelpress.benchmark.statistics import ratio_interval
from modelpress.engines.driver import Device
from modelpress.report.record import Interval

SHAPES = ("1x3x224x224", "32x3x224x224")
WANTED = {"fp32": 3.0, "tf32": 1.5}  # times as fast at batch 32: 16 bits over strict FP32, over TF32
ORIGINAL, FP16 = "adopt", "fp16"  # stages; the third is INT8
HALF = ("fp16", "bf16")
STREAMS = (1, 4)
FILES = {
    RESULT: "every row with what was read beside it",
    TRACE: "every timed request",
    "streams.json": "items per second with one stream and with several, by turns",
    "doctor.json": "`modelpress doctor --json`",
    "pytest.txt": "`pytest -m gpu`",
}


@dataclass(frozen=True)
class Facts:
    """What the page says beside the measurements. ``streams``: engine -> how many times the throughput."""

    device: Device
    command: str
    commit: str
    tests: str
    streams: Mapping[str, Interval | str]


def page(contest: Contest, facts: Facts) -> str:
    """Markdown: where and how, one table per batch, and the claims with what was wanted."""
    gpu, here = facts.device, machine()
    capability = ".".join(map(str, gpu.compute_capability))
    parts = [
        f"# {gpu.name}: ViT-B/32's image tower",
        f"`{facts.command}` at commit {facts.commit}: {gpu.name} (compute capability {capability}, "
        f"{gpu.memory_mb} MB), {here['cores']} cores of {here['cpu']}. "
        "Weights are random: latency does not depend on them. "
        f"Tests that need a GPU: {facts.tests}.",
        *(part for shape in SHAPES for part in (f"## Batch {batch_of(shape)}", table(contest, shape))),
        "## What was wanted",
        "\n".join(f"* {line}" for line in (*claims(contest), *stream_claims(facts.streams))),
        "## Files",
        "\n".join(f"* [{name}]({name}): {what}" for name, what in FILES.items()),
    ]
    return "\n\n".join(parts) + "\n"


HEADER = (
    *("engine", "runs in", "end to end, ms", "on the device, ms", "images/s"),
    *("device, over strict FP32", "device, over TF32", "end to end, over strict FP32"),
)


def table(contest: Contest, shape: str) -> str:
    """A row per contender; what has no engine or failed stands below with its reason."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    notes = []
    for key, entry in contest.contenders.items():
        row = contest.row(key, shape)
        if row is not None and row.latency_ms is not None:
            lines.append("| " + " | ".join(_cells(contest, key, shape)) + " |")
        why = entry.why if row is None else row.why
        if why:
            notes.append(f"* {key}: {f'{row.status}: ' if row is not None else ''}{why}")
    return "\n".join([*lines, "", *notes]).strip()


def _cells(contest: Contest, key: str, shape: str) -> list[str]:
    row = contest.row(key, shape)
    assert row is not None
    assert row.latency_ms is not None
    device = row.device_latency_ms.p50 if row.device_latency_ms is not None else None
    return [
        contest.contenders[key].title,
        row.precision,
        number(row.latency_ms.p50, 2),
        number(device, 3),
        number(row.throughput_per_s, 0),
        *(spelled(device_ratio(contest, base, key, shape)) for base in (contest.anchor, contest.lossless)),
        spelled(contest.ratio(contest.anchor, key, shape) if key != contest.anchor else None),
    ]


def device_ratio(contest: Contest, base: str, key: str, shape: str) -> Interval | None:
    """How many times faster than ``base`` on the device's own clock, over the medians of paired rounds."""
    found = [device_rounds(contest.row(name, shape) if name in contest.contenders else None) for name in (base, key)]
    if base == key or not all(found):
        return None
    return ratio_interval(*found)


def device_rounds(row: Measurement | None) -> list[list[float]]:
    """The median of every round on the device, ms, each as a round of one."""
    return [[ms] for ms in row.details.get("device_round_medians_ms", [])] if row is not None else []


def claims(contest: Contest) -> list[str]:
    """16 bits in every engine that has them, against the same engine in strict FP32 and in TF32, at batch 32."""
    shape, found = SHAPES[-1], []
    for key, entry in contest.contenders.items():
        stage, engine, *precision = key.split("/")
        if entry.plan is None or stage not in (ORIGINAL, FP16) or precision[0] not in HALF:
            continue
        for base, wanted in WANTED.items():
            other = f"{ORIGINAL}/{engine}/{base}"
            ratio, whole = device_ratio(contest, other, key, shape), contest.ratio(other, key, shape)
            if ratio is not None:
                found.append(
                    f"{entry.title} {precision[0].upper()} over its own {base.upper()}, batch {batch_of(shape)}: "
                    f"{spelled(ratio)} on the device, {spelled(whole)} end to end (wanted >= {wanted}: "
                    f"{'met' if ratio.ci_low >= wanted else 'not met'} on the device)"
                )
    return found or ["no engine ran in 16 bits and in FP32: nothing to compare"]


def stream_claims(streams: Mapping[str, Interval | str]) -> list[str]:
    """Throughput with several streams over that with one; at least 1 is wanted."""
    if not streams:
        return ["several streams: no engine with streams could be built"]
    most = f"{STREAMS[-1]} streams over {STREAMS[0]}, items per second"
    return [
        f"{key}, {most}: {found if isinstance(found, str) else f'{spelled(found)} (wanted >= 1)'}"
        for key, found in streams.items()
    ]


def spelled(ratio: Interval | None) -> str:
    """``3.12x [3.05, 3.20]``."""
    return "–" if ratio is None else f"{ratio.value:.2f}x [{ratio.ci_low:.2f}, {ratio.ci_high:.2f}]"

"""All variants of one model in one table: original, 16 bits, INT8, pruned, distilled, engine only, and all together.

    make bench PART=summary
    python -m bench.summary --preset quick --variants int8,pruned dataset.limit=60     # a quick look; overrides follow
    python -m bench.summary --seeds 1,2,3                                              # and means over seeds

The model is MiniLM on reviews. One measurement session: every speed-up is paired over balanced rounds, every drop over
the same test items. With several seeds the first is measured like that, the others in accuracy only, and
a second table gives each variant's mean drop and its spread. The tables are also written to outputs/bench_summary.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bench.contest import Contender, Contest, hold, markdown, without_timing
from bench.pressed import Arms, arms
from bench.pruning import relevant
from modelpress.press import Pressed, press

SHAPE = "1x128"
FOLDER = Path("outputs") / "bench_summary"
ORIGINAL = {"onnxruntime/fp32": "original", "openvino/fp32": "engine only", "openvino/bf16": "engine only"}
ANCHOR, LOSSLESS = "original/onnxruntime/fp32", "original/openvino/bf16"
VARIANTS = {
    "fp16": ("FP16 file", ["technique=fp16", "model=minilm"]),
    "bf16": ("BF16 file", ["technique=bf16", "model=minilm"]),
    "int8": ("INT8", ["technique=ptq", "model=minilm"]),
    "pruned": ("pruned, half the parameters", ["technique=prune_structured", "model=minilm"]),
    "distilled": ("distilled", ["technique=distill", "model=tinybert"]),
    "combined": (
        "distilled, pruned, INT8 (QAT)",
        ["technique=[distill,prune_structured,qat]", "model=tinybert"],
    ),
}


def main(arguments: Sequence[str] = ()) -> None:
    args = parse(arguments)
    contests = [measured(args, seed, timed=seed == args.seeds[0]) for seed in args.seeds]
    parts = [markdown(contests[0], SHAPE)]
    if len(contests) > 1:
        parts.append(seeds_table(contests))
    text = "\n\n".join(parts) + "\n"
    (contests[0].session.trace.parent / "summary.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"in {contests[0].session.trace.parent}")


def measured(args: argparse.Namespace, seed: int, *, timed: bool) -> Contest:
    """All variants of one seed in one session."""
    shared = [f"seed={seed}", f"benchmark={args.preset}", *args.overrides]
    made = {name: arms(*VARIANTS[name][1], *relevant(VARIANTS[name][1], shared)) for name in args.variants}
    first = next(iter(made.values()))
    contenders = original(root(first))
    for name, one in made.items():
        contenders |= variant(name, VARIANTS[name][0], one.candidate)
    folder = FOLDER / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_seed{seed}"
    workloads, test = first.workloads(folder / "requests", SHAPE), first.test(folder / "requests")
    settings = first.settings if timed else without_timing(first.settings)
    lossless = LOSSLESS if LOSSLESS in contenders else ANCHOR
    return hold(contenders, workloads, test, settings, first.job.hardware, folder, anchor=ANCHOR, lossless=lossless)


def root(made: Arms) -> Pressed:
    """The uncompressed network trained for the task: what every variant comes from."""
    return press(made.job, made.graph.baseline, made.done[made.graph.baseline])


def original(base: Pressed) -> dict[str, Contender]:
    plans = {key.removeprefix(f"{base.stage.slug}/"): plan for key, plan in base.plans.items()}
    return {f"original/{key}": Contender(title, plans[key]) for key, title in ORIGINAL.items() if key in plans}


def variant(name: str, title: str, made: Pressed) -> dict[str, Contender]:
    """One row per plan, and one per engine that cannot run it."""
    plans = {f"{name}/{plan.engine}/{plan.precision}": Contender(title, plan) for plan in made.plans.values()}
    return plans | {f"{name}/{engine}": Contender(title, None, why=why) for (_, engine), why in made.absent.items()}


def seeds_table(contests: Sequence[Contest]) -> str:
    """Mean metric drop of every variant over seeds, with its standard deviation, in points."""
    lines = ["| variant | engine | seeds | drop, points |", "|---|---|---|---|"]
    for key, entry in contests[0].contenders.items():
        found = [quality[1].value for contest in contests if (quality := contest.quality(key)) is not None]
        if entry.plan is not None and len(found) > 1:
            spread = f"{100 * statistics.mean(found):.2f} ± {100 * statistics.stdev(found):.2f}"
            lines.append(f"| {entry.title} | {entry.plan.engine} {entry.plan.precision} | {len(found)} | {spread} |")
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.summary", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", default="publish", help="a name in conf/benchmark")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[1])
    parser.add_argument(
        "--variants", type=lambda text: text.split(","), default=list(VARIANTS), help=",".join(VARIANTS)
    )
    parser.add_argument("overrides", nargs="*", help="more overrides, as for run.py")
    return parser.parse_args(list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])

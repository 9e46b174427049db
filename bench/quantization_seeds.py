"""PTQ over seeds and calibration draws, QAT over seeds: accuracy on the engine against the FP32 parent.

    make bench PART=quantization_seeds
    python -m bench.quantization_seeds --seeds 1 --draws 0,1 --arms ptq dataset.limit=100     # a quick look

Two intervals of each mean: over test items (the arms as they are, other sentences) and over seeds (other trainings; the
draws of a seed are averaged first). Everything trained lands in the store, so an interrupted bench continues.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contest import Contender, Contest, hold, points, without_timing
from bench.pressed import FOLDER, Arms, arms
from bench.quantization import SHAPE, quantized
from modelpress.benchmark.requests import read
from modelpress.benchmark.statistics import t_quantile
from modelpress.report.quality import correct, predictions
from modelpress.report.record import Interval

PTQ = ["technique=ptq", "model=minilm"]
NO_CORRECTION, NO_BALANCE = (f"technique.ptq.transform.{key}" for key in ("bias_correction=false", "balance=null"))
# name -> overrides, wanted drop in points, wanted agreement in % (None: shown for comparison)
ARMS: dict[str, tuple[list[str], float | None, float | None]] = {
    "ptq": (PTQ, 0.35, 98.5),
    "ptq_uncorrected": ([*PTQ, NO_CORRECTION], None, None),
    "ptq_unbalanced": ([*PTQ, NO_BALANCE], None, None),
    "ptq_plain": ([*PTQ, NO_BALANCE, NO_CORRECTION], None, None),
    "ptq_dynamic": (["technique=ptq_dynamic", "model=minilm"], 0.2, 98.5),
    "qat": (["technique=qat", "model=minilm"], 0.2, 99.0),
    "qat_tinybert": (["technique=[distill,qat]", "model=tinybert"], 0.2, 99.0),
}
DRAWN = ("ptq",)  # arms with several draws of calibration sentences
BATCH = 64
ANCHOR = "parent/onnxruntime/fp32"


@dataclass(frozen=True)
class Outcome:
    """One quantized file in one engine, against its FP32 parent on the same n items."""

    seed: int
    engine: str
    lost: NDArray[np.float64]  # (n,): 1 where only the parent is right, -1 where only the file is
    agrees: NDArray[np.bool_]  # (n,) with the parent
    repeats: NDArray[np.bool_]  # (n,): the file predicts what PyTorch's fake-quantized network does


def main(arguments: Sequence[str] = ()) -> None:
    args = parse(arguments)
    print("| arm | engine | files | drop, points: over items | over seeds | agreement, % | with PyTorch, % | wanted |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.arms:
        outcomes = [one for seed in args.seeds for one in of_seed(name, seed, args.draws, args.overrides)]
        for engine in dict.fromkeys(one.engine for one in outcomes):
            print(line(name, [one for one in outcomes if one.engine == engine]), flush=True)


def line(name: str, outcomes: Sequence[Outcome]) -> str:
    """A row of the table: means over all files of one arm in one engine."""
    _, drop, agreement = ARMS[name]
    lost = np.array([one.lost for one in outcomes])
    over_seeds = mean_interval(by_seed(outcomes, [float(one.lost.mean()) for one in outcomes]))
    agree = mean_interval(by_seed(outcomes, [float(one.agrees.mean()) for one in outcomes]))
    repeat = mean_interval(by_seed(outcomes, [float(one.repeats.mean()) for one in outcomes]))
    cells = [name, outcomes[0].engine, str(len(outcomes)), points(item_interval(lost)), points(over_seeds)]
    wanted = "–" if drop is None else f"drop <= {drop}, agreement >= {agreement}"
    return f"| {' | '.join([*cells, points(agree), points(repeat), wanted])} |"


def of_seed(name: str, seed: int, draws: Sequence[int], overrides: Sequence[str]) -> list[Outcome]:
    """All files of one seed in one session with their parent."""
    base = [*ARMS[name][0], f"seed={seed}", "benchmark=quick", *overrides]
    taken = draws if name in DRAWN else [0]
    made = {draw: arms(*base, *([f"technique.ptq.transform.draw={draw}"] if name in DRAWN else [])) for draw in taken}
    contest = answer(next(iter(made.values())), made, f"{name}_{seed}")
    torch = {draw: answers(one.candidate.entry.folder / "model", contest.test) for draw, one in made.items()}
    keys = [key for key in contest.contenders if key != ANCHOR and contest.logits(key) is not None]
    return [outcome(contest, key, seed, torch[int(key.partition("/")[0])]) for key in keys]


def answer(first: Arms, made: dict[int, Arms], name: str) -> Contest:
    """Run the test split through the parent in ONNX Runtime FP32 and through every file; hardly any timing."""
    folder = FOLDER / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}"
    parent = first.parent
    contenders = {ANCHOR: Contender("parent", parent.plans[f"{parent.stage.slug}/onnxruntime/fp32"])}
    for draw, one in made.items():
        rows = with_float_remainder(quantized("", one.candidate))
        contenders |= {f"{draw}/{key.lstrip('/')}": entry for key, entry in rows.items()}
    workloads, test = first.workloads(folder / "requests", SHAPE), first.test(folder / "requests")
    settings, anchors = without_timing(first.settings), {"anchor": ANCHOR, "lossless": ANCHOR}
    return hold(contenders, workloads, test, settings, first.job.hardware, Path(folder), **anchors)


def outcome(contest: Contest, key: str, seed: int, torch: NDArray[Any]) -> Outcome:
    parent, own = contest.logits(ANCHOR), contest.logits(key)
    lost = correct(parent, contest.labels).astype(np.float64) - correct(own, contest.labels)
    found = predictions(own)
    return Outcome(seed, key.partition("/")[2], lost, predictions(parent) == found, torch == found)


def answers(folder: Path, test: Path) -> NDArray[Any]:
    """(n,) predictions of the network in PyTorch, as it was trained: fake-quantized."""
    import torch

    from modelpress.models.base import load

    given, model = read(test), load(folder).eval()
    found = np.zeros(len(given), np.int64)
    for rows, arrays in given.batches(BATCH):
        with torch.no_grad():
            logits = model({name: torch.from_numpy(array) for name, array in arrays.items()}).logits
        assert logits is not None
        found[rows] = predictions(logits.numpy())
    return found


def with_float_remainder(rows: dict[str, Contender]) -> dict[str, Contender]:
    """The rows, and OpenVINO's once more with its float layers in FP32: what PyTorch computes."""
    more = {}
    for key, entry in rows.items():
        if entry.plan is not None and entry.plan.engine == "openvino":
            plan = replace(entry.plan, settings={**entry.plan.settings, "float": "fp32"})
            more[f"{key}, rest in FP32"] = replace(entry, plan=plan)
    return rows | more


def by_seed(outcomes: Sequence[Outcome], values: Sequence[float]) -> list[float]:
    """The mean value of each seed: draws of one seed share its training and are not independent of each other."""
    pairs = list(zip((one.seed for one in outcomes), values, strict=True))
    return [statistics.mean(value for seed, value in pairs if seed == wanted) for wanted in dict(pairs)]


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of n independent values with Student's t interval; one value has no interval (it is infinite)."""
    mean, n = statistics.mean(values), len(values)
    if n < 2:
        return Interval(mean, -math.inf, math.inf)
    half = t_quantile(0.5 + confidence / 2, n - 1) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def item_interval(lost: NDArray[Any]) -> Interval:
    """Mean of (files, n) paired differences with its interval over the n items, the files averaged first."""
    return mean_interval(lost.mean(axis=0).tolist())


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser("bench.quantization_seeds", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=numbers, default=[1, 2, 3])
    parser.add_argument("--draws", type=numbers, default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", type=lambda text: text.split(","), default=list(ARMS), help=",".join(ARMS))
    parser.add_argument("overrides", nargs="*", help="more overrides, as for run.py")
    return parser.parse_args(list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])

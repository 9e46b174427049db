"""What a sweep saves, how fast its jobs start, and what Ray's workers gain.

    make bench PART=sweep                            # all three, on reviews with TinyBERT; hours on two cores
    python -m bench.sweep share --epochs 1           # 8 temperatures in one sweep against 8 fresh runs
    python -m bench.sweep start                      # from a job's start to its first training step
    python -m bench.sweep ray --jobs 4               # two workers against this process, one thread per job

Every part works in a folder of its own under outputs/bench_sweep, with stores of its own, so nothing is found by luck.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEMPERATURES = (1, 2, 3, 4, 5, 6, 7, 8)
KEY = "technique.distill.objective.temperature"
ONE_STEP = ("+technique.distill.trainer.max_steps=1", "+technique.distill.trainer.limit_val_batches=1")


def command(folder: Path, *arguments: str, store: str = "store", threads: int | None = None) -> float:
    """Run run.py in ``folder`` and return its seconds; stops with its output if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    fixed = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    environment = {**os.environ, **fixed, "MODELPRESS_STORE": str(folder / store)}
    started = time.perf_counter()
    done = subprocess.run([sys.executable, str(ROOT / "run.py"), *arguments], cwd=folder, env=environment)
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}"
    return time.perf_counter() - started


def share(folder: Path, shared: Sequence[str]) -> None:
    """One sweep of 8 temperatures against 8 runs that share nothing."""
    values = ",".join(map(str, TEMPERATURES))
    together = command(folder / "together", "-m", f"{KEY}={values}", *shared)
    alone = sum(command(folder / f"alone{value}", f"{KEY}={value}", *shared) for value in TEMPERATURES)
    print(f"8 temperatures: {together:.0f} s in one sweep, {alone:.0f} s alone: {together / alone:.0%} (limit 60 %)")


def start(folder: Path, shared: Sequence[str]) -> None:
    """Everything cached but the stage that trains one batch: what a job costs beside its work."""
    once = ["callbacks=none", "control=false", *ONE_STEP, *shared]
    command(folder, "name=first", f"{KEY}=1", *once)
    cold = command(folder, "name=cold", f"{KEY}=2", *once)
    one = command(folder, "-m", f"{KEY}=3", *once)
    three = command(folder, "-m", f"{KEY}=4,5,6", *once)
    print(f"a job of one step, all else cached: {cold:.1f} s in a process of its own (limit 15 s cold)")
    print(f"each further job of a sweep in a process that has imported: {(three - one) / 2:.1f} s (limit 3 s)")


def ray(folder: Path, shared: Sequence[str], jobs: int) -> None:
    """Training-bound jobs, one thread each: two Ray workers against this process."""
    train = ["callbacks=none", "control=false", *shared]
    values = ",".join(map(str, TEMPERATURES[:jobs]))
    command(folder, f"{KEY}=99", *ONE_STEP, *train)  # teacher and tokens
    alone = folder / "store"
    for name in ("here", "ray"):
        subprocess.run(["cp", "-r", str(alone), str(folder / name)], check=True)
    here = command(folder, "-m", f"{KEY}={values}", *train, store="here", threads=1)
    launcher = ["hydra/launcher=ray", "hydra.launcher.n_jobs=2", "hydra.launcher.threads=1"]
    there = command(folder, "-m", *launcher, f"{KEY}={values}", *train, store="ray", threads=1)
    print(f"{jobs} trainings: {here:.0f} s in this process, {there:.0f} s on 2 workers: {here / there:.2f}x (>= 1.6x)")


def main(arguments: Sequence[str] = ()) -> None:
    args = parse(arguments)
    folder = (Path("outputs") / "bench_sweep" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}").absolute()
    epochs = [f"technique.distill.trainer.max_epochs={args.epochs}"]
    for part in args.part or ("share", "start", "ray"):
        shared = [*([] if part == "start" else epochs), *args.overrides]
        place = folder / part
        {"share": share, "start": start}[part](place, shared) if part != "ray" else ray(place, shared, args.jobs)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.sweep", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", nargs="?", choices=["share", "start", "ray"], default=None)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("overrides", nargs="*", help="more overrides, as for run.py")
    args = parser.parse_args(list(arguments))
    args.part = [args.part] if args.part else None
    return args


if __name__ == "__main__":
    main(sys.argv[1:])

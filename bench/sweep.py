"""What a sweep saves, how fast its jobs start, and what Ray's workers gain.

    make bench PART=sweep                            # all three, on reviews with TinyBERT; hours on two cores
    python -m bench.sweep share --epochs 1           # 8 temperatures in one sweep against 8 fresh runs
    python -m bench.sweep start                      # from a job's start to its first training step
    python -m bench.sweep ray --jobs 4               # two workers against this process, one thread per job

Every part works in a folder of its own under outputs/bench_sweep, with stores of its own, so nothing is found by luck.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATHS = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
TEMPERATURES = (1, 2, 3, 4, 5, 6, 7, 8)
KEY = "technique.distill.objective.temperature"
ONE_STEP = ("+technique.distill.trainer.max_steps=1", "+technique.distill.trainer.limit_val_batches=1")


def command(
    folder: Path, *arguments: str, store: str = "store", threads: int | None = None, clock: Path | None = None
) -> float:
    """Run run.py in ``folder`` and return its seconds; stops with its output if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    fixed = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    environment = {**os.environ, **fixed, "MODELPRESS_STORE": str(folder / store), "PYTHONPATH": PATHS}
    program = [str(ROOT / "run.py")] if clock is None else ["-m", "bench.first_step", str(clock)]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *program, *arguments], cwd=folder, env=environment)
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}"
    return time.perf_counter() - started


def share(folder: Path, shared: Sequence[str], alone: int) -> None:
    """One sweep of 8 temperatures against runs that share nothing, ``alone`` of which are made."""
    values = ",".join(map(str, TEMPERATURES))
    together = command(folder / "together", "-m", f"{KEY}={values}", *shared)
    chosen = TEMPERATURES[:: len(TEMPERATURES) // alone][:alone]
    spent = [command(folder / f"alone{value}", f"{KEY}={value}", *shared) for value in chosen]
    whole = statistics.mean(spent) * len(TEMPERATURES)
    print(f"8 temperatures: {together:.0f} s in one sweep, {whole:.0f} s alone: {together / whole:.0%} (limit 60 %)")
    print(f"alone: {', '.join(f'{seconds:.0f}' for seconds in spent)} s, {alone} of 8 were made")


def start(folder: Path, shared: Sequence[str]) -> None:
    """From the start of a process, and of each further job in it, to the first training step; the rest is cached."""
    once = ["callbacks=none", "control=false", *ONE_STEP, *shared]
    command(folder, f"{KEY}=1", *once)
    clock = folder / "moments.json"
    command(folder, "-m", f"{KEY}=2,3,4,5", *once, clock=clock)
    moments = json.loads(clock.read_text())
    spent = [later - earlier for (_, earlier), (_, later) in itertools.pairwise(moments)][::2]
    print(f"process start to first training step: {moments[1][1]:.1f} s cold (limit 15 s)")
    print(
        f"start of a job in a process that has imported: {statistics.median(spent[1:]):.1f} s (limit 3 s): {spent[1:]}"
    )


def ray(folder: Path, shared: Sequence[str], jobs: int) -> None:
    """Training-bound jobs, one thread each: two Ray workers against this process."""
    train = ["callbacks=none", "control=false", *shared]
    values = ",".join(map(str, TEMPERATURES[:jobs]))
    command(folder, f"{KEY}=99", *ONE_STEP, *train)  # teacher and tokens
    alone = folder / "store"
    for name in ("here", "ray"):
        subprocess.run(["cp", "-r", str(alone), str(folder / name)], check=True)
    here = command(folder, "-m", f"{KEY}={values}", *train, "hydra.sweep.dir=multirun/here", store="here", threads=1)
    launcher = ["hydra/launcher=ray", "hydra.launcher.n_jobs=2", "hydra.launcher.threads=1"]
    launcher.append("hydra.sweep.dir=multirun/ray")
    there = command(folder, "-m", *launcher, f"{KEY}={values}", *train, store="ray", threads=1)
    print(f"{jobs} trainings: {here:.0f} s in this process, {there:.0f} s on 2 workers: {here / there:.2f}x (>= 1.6x)")


def main(arguments: Sequence[str] = ()) -> None:
    args = parse(arguments)
    folder = (Path("outputs") / "bench_sweep" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}").absolute()
    epochs = [f"technique.distill.trainer.max_epochs={args.epochs}"]
    shared = [*epochs, *args.overrides]
    parts = {
        "share": lambda: share(folder / "share", shared, args.alone),
        "start": lambda: start(folder / "start", args.overrides),
        "ray": lambda: ray(folder / "ray", shared, args.jobs),
    }
    for part in args.part or parts:
        parts[part]()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.sweep", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", nargs="?", choices=["share", "start", "ray"], default=None)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=4, help="of the comparison with Ray")
    parser.add_argument("--alone", type=int, choices=[1, 2, 4, 8], default=8, help="how many separate runs are made")
    parser.add_argument("overrides", nargs="*", help="more overrides, as for run.py")
    args = parser.parse_intermixed_args(list(arguments))  # overrides may stand after options
    args.part = [args.part] if args.part else None
    return args


if __name__ == "__main__":
    main(sys.argv[1:])
